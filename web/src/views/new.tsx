/** A new strategy: checked as it is typed with the server's own rules, with the money at risk and the day drawn. */

import { useEffect, useRef, useState } from "preact/hooks";
import { act, asApiError, newKey, query } from "../api";
import type { CheckAnswer, FieldError, Strategy, Template } from "../contract";
import { money } from "../format";
import { DayLine } from "../parts/dayline";
import { Checks, Fact, Problem, useGet } from "../parts/small";
import { go } from "../router";
import { useLost, usePick } from "../store";
import { EMPTY, filledIn, StrategyFieldset, type Draft, type FieldName } from "./strategyfields";
import { notLive } from "./trust";

const CHECK_AFTER_MS = 200;

export function NewView(_: { rest: string }) {
  const [draft, setDraft] = useState<Draft>(EMPTY);
  const [touched, setTouched] = useState<ReadonlySet<string>>(new Set());
  const [answer, setAnswer] = useState<CheckAnswer | null>(null);
  const [refused, setRefused] = useState<FieldError[]>([]);
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const [warned, setWarned] = useState<{ id: number; warnings: string[] } | null>(null);
  const key = useRef<string | null>(null);
  const lost = useLost();
  const why = usePick(notLive);
  const accounts = usePick((s) => s.today?.accounts) ?? [];
  const fields = filledIn(draft);
  const text = JSON.stringify(fields);

  useEffect(() => {
    if (text === JSON.stringify(filledIn(EMPTY))) return setAnswer(null);
    let mine = true;
    const timer = window.setTimeout(() => {
      query<CheckAnswer>("/strategies/check", JSON.parse(text)).then(
        (checked) => {
          if (!mine) return;
          setAnswer(checked);
          setProblem("");
        },
        (thrown) => {
          if (!mine) return;
          const error = asApiError(thrown);
          setRefused(error.fields);
          if (error.fields.length === 0) setProblem(error.sentence);
        },
      );
    }, CHECK_AFTER_MS);
    return () => {
      mine = false;
      window.clearTimeout(timer);
    };
  }, [text]);

  const change = (name: FieldName, value: string) => {
    key.current = null; // another strategy than the one that was sent
    setRefused((old) => old.filter((one) => one.field !== name));
    setDraft((old) => ({ ...old, [name]: value }));
    if (value !== "") setTouched((old) => new Set(old).add(name));
  };
  const take = (template: Template) => {
    key.current = null;
    setRefused([]);
    const filled = Object.fromEntries(Object.entries(template.fields).map(([name, value]) => [name, value ?? ""]));
    setDraft((old) => ({ ...old, ...filled }));
  };

  const save = async (event: Event) => {
    event.preventDefault();
    setTouched(new Set(Object.keys(EMPTY)));
    setBusy(true);
    setProblem("");
    key.current ??= newKey(); // the same one if no answer came, so that it is saved once at most
    try {
      const made = await act<Strategy & { warnings: string[] }>("/strategies", fields, key.current);
      key.current = null;
      if (made.warnings.length === 0) go(`#/strategy/${made.id}`);
      else setWarned({ id: made.id, warnings: made.warnings });
    } catch (thrown) {
      const error = asApiError(thrown);
      if (error.status !== 0) key.current = null;
      setRefused(error.fields);
      if (error.fields.length === 0) setProblem(`Nothing is saved: ${error.sentence}`);
      // Once it is drawn, to the first wrong field from the top.
      window.setTimeout(() => document.querySelector<HTMLElement>("form [aria-invalid=true]")?.focus());
    }
    setBusy(false);
  };

  // A field nobody has been at yet is not shouted at.
  const errorOf = (name: FieldName) =>
    refused.find((one) => one.field === name) ??
    (touched.has(name) ? answer?.fields.find((one) => one.field === name) : undefined);
  const elsewhere = [...refused, ...(answer?.fields ?? [])].filter((one) => !(one.field in EMPTY));

  if (warned !== null) return <Warned id={warned.id} warnings={warned.warnings} />;
  return (
    <>
      <div class="head">
        <h1>New strategy</h1>
        <Templates onTake={take} />
      </div>
      <div class="columns">
        <section class="panel" aria-label="The strategy">
          <form class="form" onSubmit={(event) => void save(event)} noValidate>
            <StrategyFieldset
              draft={draft}
              onChange={change}
              onLeave={(name) => setTouched((old) => new Set(old).add(name))}
              errorOf={errorOf}
              accounts={accounts.map((one) => one.id)}
              tick={answer?.tick ?? null}
              lot={answer?.lot ?? null}
            />
            <Problem text={[problem, ...elsewhere.map((one) => `${one.field}: ${one.wrong}; ${one.right}`)].filter(Boolean).join(" ")} />
            <div class="buttons">
              <button class="primary" data-testid="save" disabled={lost || busy} title={why}>
                {lost ? "Save · not live" : busy ? "Saving…" : "Save"}
              </button>
              <span class="dim">Saving trades nothing yet: START does.</span>
            </div>
          </form>
        </section>
        <Meaning answer={answer} />
      </div>
    </>
  );
}

function Templates({ onTake }: { onTake: (template: Template) => void }) {
  const templates = useGet<{ templates: Template[] }>("/templates");
  const some = templates.value?.templates ?? [];
  if (some.length === 0) return null;
  return (
    <div class="templates" role="group" aria-label="Templates">
      <span class="dim">Begin with</span>
      {some.map((one) => (
        <button key={one.name} type="button" class="quiet" title={one.about} data-testid={`template-${one.name}`} onClick={() => onTake(one)}>
          {one.title}
        </button>
      ))}
    </div>
  );
}

/** What the typed strategy means: as a sentence, in money, on the day, and what is still wrong. */
function Meaning({ answer }: { answer: CheckAnswer | null }) {
  return (
    <section class="panel" aria-labelledby="meaning-heading" aria-live="polite" data-testid="meaning">
      <h2 id="meaning-heading">What it will do</h2>
      {answer?.sentence ? (
        <p class="sentence">{answer.sentence}</p>
      ) : (
        <p class="dim">Fill in the fields: the rule is shown here as one sentence, with what it may cost.</p>
      )}
      {answer?.risk && (
        <div class="facts" data-testid="risk">
          <Fact label="Money in it, quantity × price">{money(answer.risk.value)}</Fact>
          <Fact label="Loss at the stop-loss, gross" tone={answer.risk.loss_at_stop === null ? "" : "loss"}>
            {money(answer.risk.loss_at_stop)}
          </Fact>
          <Fact label="Last price">
            {money(answer.risk.price)}
            <span class="parts dim">{answer.risk.text}</span>
          </Fact>
        </div>
      )}
      {answer?.when && (
        <div>
          <p>
            <b>Next: {answer.when.text}</b>
          </p>
          <DayLine when={answer.when} />
        </div>
      )}
      {answer?.warnings.map((one) => (
        <p key={one} class="caution">
          {one}
        </p>
      ))}
      {answer !== null && <Checks checks={answer.checks} />}
    </section>
  );
}

function Warned({ id, warnings }: { id: number; warnings: string[] }) {
  return (
    <section class="panel">
      <h1>Saved</h1>
      {warnings.map((one) => (
        <p key={one} class="caution">
          {one}
        </p>
      ))}
      <div class="buttons">
        <a class="button primary" href={`#/strategy/${id}`}>
          Look at it
        </a>
        <a class="button" href="#/">
          Today
        </a>
      </div>
    </section>
  );
}
