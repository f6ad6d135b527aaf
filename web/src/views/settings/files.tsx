import { useState } from "preact/hooks";
import { act } from "../../api";
import type { Strategy } from "../../contract";
import { plural } from "../../format";
import { Problem } from "../../parts/small";
import { useSaving } from "./saving";

/** All strategies as one TOML file, out and in. */
export function FilesPanel() {
  const [toml, setToml] = useState("");
  const [warnings, setWarnings] = useState<string[]>([]);
  const form = useSaving();
  const take = async (event: Event) => {
    event.preventDefault();
    setWarnings([]);
    const done = await form.save(async () => {
      const made = await act<{ strategies: Strategy[]; warnings: string[] }>("/strategies/import", { toml });
      setWarnings(made.warnings);
      return `${plural(made.strategies.length, "strategy", "strategies")} saved, none started.`;
    });
    if (done) setToml("");
  };
  return (
    <section class="panel" aria-labelledby="files-heading">
      <h2 id="files-heading">Strategies as a file</h2>
      <p>
        <a href="/api/v1/strategies.toml" download="strategies.toml">
          Download all as TOML
        </a>
      </p>
      <form class="form" onSubmit={(event) => void take(event)}>
        <div class="field">
          <label for="f-import">Add those of a TOML file</label>
          <textarea id="f-import" rows={4} spellcheck={false} value={toml} onInput={(event) => setToml(event.currentTarget.value)} />
        </div>
        <Problem text={[form.problem, form.elsewhere([])].join(" ").trim()} />
        {form.good !== "" && <p class="good">{form.good}</p>}
        {warnings.map((one) => (
          <p key={one} class="caution">
            {one}
          </p>
        ))}
        <div class="buttons">
          <button disabled={form.busy || toml.trim() === ""}>Add them</button>
        </div>
      </form>
    </section>
  );
}
