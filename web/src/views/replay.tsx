/** A recorded day through the same engine: the sample that ships with squareoff, or one's own files. */

import { useEffect, useState } from "preact/hooks";
import { act, asApiError, get } from "../api";
import type { FieldError, Replay, ReplayRow, ReplayTotal } from "../contract";
import { dayWords, money, quantity, signed, toneOf } from "../format";
import { Instant, Problem } from "../parts/small";

const ASK_EVERY_MS = 500;

export function ReplayView(_: { rest: string }) {
  const [own, setOwn] = useState(false);
  const [csv, setCsv] = useState<File | null>(null);
  const [toml, setToml] = useState("");
  const [labelled, setLabelled] = useState<"start" | "end">("start");
  const [wrong, setWrong] = useState<FieldError[]>([]);
  const [problem, setProblem] = useState("");
  const [replay, setReplay] = useState<Replay | null>(null);
  const running = replay?.state === "running";

  useEffect(() => {
    if (replay?.state !== "running") return;
    const timer = window.setTimeout(() => {
      get<Replay>(`/replays/${replay.id}`).then(setReplay, (thrown) => {
        setProblem(asApiError(thrown).sentence);
        setReplay(null);
      });
    }, ASK_EVERY_MS);
    return () => window.clearTimeout(timer);
  }, [replay]);

  const play = async (event: Event) => {
    event.preventDefault();
    setProblem("");
    setWrong([]);
    try {
      const body: Record<string, string> = {};
      if (toml.trim() !== "") body["toml"] = toml;
      if (own) {
        if (csv === null) return setWrong([{ field: "csv", wrong: "is missing", right: "choose a CSV file of prices" }]);
        Object.assign(body, { csv: await csv.text(), csv_name: csv.name, bars_labelled: labelled });
      }
      setReplay(await act<Replay>("/replays", body));
    } catch (thrown) {
      const error = asApiError(thrown);
      setWrong(error.fields);
      if (error.fields.length === 0) setProblem(error.sentence);
    }
  };
  const at = (field: string) => wrong.find((one) => one.field === field);

  return (
    <>
      <div class="head">
        <h1>Replay</h1>
        <span class="dim">recorded prices through the same engine; nothing is traded</span>
      </div>
      <form class="panel" onSubmit={(event) => void play(event)} aria-label="What to replay">
        <fieldset>
          <legend>Prices</legend>
          <label class="tick">
            <input type="radio" name="prices" checked={!own} onChange={() => setOwn(false)} />
            the sample day that ships with squareoff (prices are generated)
          </label>
          <label class="tick">
            <input type="radio" name="prices" checked={own} onChange={() => setOwn(true)} />
            my own CSV: minute bars, quotes, or the plain format of docs/replay.md
          </label>
        </fieldset>
        {own && (
          <div class="form-2">
            <div class={`field ${at("csv") ? "field-wrong" : ""}`}>
              <label for="f-csv">CSV file</label>
              <input
                id="f-csv"
                type="file"
                accept=".csv,text/csv"
                data-testid="field-csv"
                aria-describedby="f-csv-error"
                onChange={(event) => setCsv(event.currentTarget.files?.[0] ?? null)}
              />
              <FieldProblem error={at("csv")} id="f-csv-error" />
            </div>
            <div class="field">
              <label for="f-bars_labelled">A bar's time is</label>
              <select
                id="f-bars_labelled"
                data-testid="field-bars_labelled"
                value={labelled}
                onChange={(event) => setLabelled(event.currentTarget.value === "end" ? "end" : "start")}
              >
                <option value="start">the start of its minute</option>
                <option value="end">the end of its minute</option>
              </select>
            </div>
          </div>
        )}
        <div class={`field ${at("toml") ? "field-wrong" : ""}`}>
          <label for="f-toml">Strategies, TOML{own ? "" : " (empty: those of the sample)"}</label>
          <textarea
            id="f-toml"
            rows={own ? 9 : 4}
            spellcheck={false}
            data-testid="field-toml"
            aria-describedby="f-toml-error"
            placeholder={'[[strategy]]\nname = "alpha"\nsymbol = "SIM:ALPHA"\nquantity = 100\nbuy_time = "09:20"'}
            value={toml}
            onInput={(event) => setToml(event.currentTarget.value)}
          />
          <FieldProblem error={at("toml")} id="f-toml-error" />
        </div>
        <Problem text={[problem, ...wrong.filter((w) => w.field !== "csv" && w.field !== "toml").map((w) => `${w.field}: ${w.wrong}; ${w.right}`)].filter(Boolean).join(" ")} />
        <div class="buttons">
          <button class="primary" disabled={running} data-testid="replay-run">
            {running ? "Playing…" : "Play it"}
          </button>
          <span role="status">{running ? "playing the day" : replay?.state === "done" ? "done" : ""}</span>
        </div>
      </form>
      {replay?.state === "failed" && <Problem text={`The replay broke off: ${replay.error ?? "no reason was told"}`} />}
      {replay?.state === "done" && <Results replay={replay} />}
    </>
  );
}

function FieldProblem({ error, id }: { error: FieldError | undefined; id: string }) {
  return (
    <p class="field-error" id={id} data-testid={id.replace("f-", "error-").replace(/-error$/, "")}>
      {error && `${error.wrong}; ${error.right}`}
    </p>
  );
}

function Results({ replay }: { replay: Replay }) {
  const rows = replay.results ?? [];
  return (
    <>
      {replay.totals && <Totals totals={replay.totals} />}
      <section class="panel" aria-labelledby="results-heading" data-testid="replay-results">
        <h2 id="results-heading">Results, gross, before charges</h2>
        <div class="scroll-x" tabIndex={0} role="region" aria-label="Results table">
          <table>
            <thead>
              <tr>
                <th>Day</th>
                <th>Strategy</th>
                <th>Symbol</th>
                <th>State</th>
                <th class="right">Quantity</th>
                <th class="right">Bought</th>
                <th class="right">Sold</th>
                <th class="right">Stop-loss</th>
                <th class="right">P&L</th>
              </tr>
            </thead>
            <tbody>
              {rows.map((row, n) => (
                <Result key={n} row={row} />
              ))}
            </tbody>
          </table>
        </div>
        {replay.ticks !== undefined && <p class="dim num">{quantity(String(replay.ticks))} ticks were played.</p>}
        {replay.oddities?.map((one) => (
          <p key={one} class="caution">
            {one}
          </p>
        ))}
      </section>
    </>
  );
}

function Result({ row }: { row: ReplayRow }) {
  return (
    <tr>
      <td>{dayWords(row.date)}</td>
      <td>{row.strategy}</td>
      <td>{row.symbol}</td>
      <td>
        {row.state}
        {row.note !== "" && <div class="dim">{row.note}</div>}
      </td>
      <td class="right">{quantity(row.quantity)}</td>
      <td class="right">{row.entry_time === null ? "" : <><Instant at={row.entry_time} /> {money(row.entry_price)}</>}</td>
      <td class="right">{row.exit_time === null ? "" : <><Instant at={row.exit_time} /> {money(row.exit_price)}</>}</td>
      <td class="right">{row.stop_price === null ? "" : money(row.stop_price)}</td>
      <td class={`right ${toneOf(row.pnl)}`}>{row.pnl === null ? "" : signed(row.pnl)}</td>
    </tr>
  );
}

function Totals({ totals }: { totals: NonNullable<Replay["totals"]> }) {
  const named = Object.entries(totals.strategies ?? {});
  const lines: [string, ReplayTotal][] = named.length === 1 ? named : [...named, ["all", totals]];
  return (
    <section class="panel" aria-labelledby="totals-heading" data-testid="replay-totals">
      <h2 id="totals-heading">Totals</h2>
      <div class="scroll-x" tabIndex={0} role="region" aria-label="Totals table">
        <table>
          <thead>
            <tr>
              <th>Strategy</th>
              {["Runs", "Sold on time", "By stop-loss", "Skipped or failed", "Still open", "Won", "Lost", "P&L, gross"].map((one) => (
                <th key={one} class="right">
                  {one}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {lines.map(([name, one]) => (
              <tr key={name}>
                <td>{name === "all" ? <b>all</b> : name}</td>
                <td class="right">{one.runs}</td>
                <td class="right">{one.states["sold"] ?? 0}</td>
                <td class="right">{one.states["exited_by_sl"] ?? 0}</td>
                <td class="right">{one.states["failed"] ?? 0}</td>
                <td class="right">{one.open}</td>
                <td class="right">{one.won}</td>
                <td class="right">{one.lost}</td>
                <td class={`right ${toneOf(one.pnl)}`}>{signed(one.pnl)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
