/** Editing: the consequences are shown first, and only what was shown can be saved. */

import { useEffect, useState } from "preact/hooks";
import { asApiError, put, query } from "../api";
import type { Change, FieldError, Strategy, StrategyFields } from "../contract";
import { Problem } from "../parts/small";
import { useLost, usePick } from "../store";
import { EMPTY, StrategyFieldset, type Draft, type FieldName } from "./strategyfields";
import { notLive } from "./trust";

const LOOK_AFTER_MS = 250;
const EDITABLE: readonly FieldName[] = ["name", "quantity", "buy_time", "sell_time", "stop_loss", "repeat", "until", "product"];
const WORDS: Record<string, string> = {
  name: "name",
  quantity: "quantity",
  buy_time: "BUY at",
  sell_time: "SELL at",
  stop_loss: "stop-loss",
  repeat: "repeat",
  until: "until",
  product: "product",
};

function draftOf(strategy: Strategy): Draft {
  const draft = { ...EMPTY };
  for (const name of EDITABLE) draft[name] = strategy[name] ?? "";
  return draft;
}

/** Only the fields that are not as they are saved. */
function changesOf(draft: Draft, saved: Strategy): StrategyFields {
  const changes: Record<string, string | null> = {};
  for (const name of EDITABLE) {
    const value = draft[name].trim();
    if (value !== (saved[name] ?? "")) changes[name] = value === "" && name === "until" ? null : value;
  }
  return changes;
}

const CHANGED_ELSEWHERE =
  "It was changed elsewhere meanwhile, so nothing of yours is saved yet. What you typed is still here; look at what it changes now and save again.";

interface Preview {
  /** Of which fields: a preview of something else proves nothing. */
  of: string;
  changes: Change[];
}

export function EditPanel({ strategy, onSaved }: { strategy: Strategy; onSaved: () => void }) {
  const [base, setBase] = useState(strategy);
  const [draft, setDraft] = useState(() => draftOf(strategy));
  const [preview, setPreview] = useState<Preview | null>(null);
  const [wrong, setWrong] = useState<FieldError[]>([]);
  const [problem, setProblem] = useState("");
  const [said, setSaid] = useState("");
  const [elsewhere, setElsewhere] = useState(false);
  const [busy, setBusy] = useState(false);
  const lost = useLost();
  const why = usePick(notLive);
  const changes = changesOf(draft, base);
  const text = JSON.stringify(changes);
  const isChanged = text !== "{}";

  useEffect(() => {
    // Nothing typed here: what another tab saved is simply shown.
    if (!isChanged && strategy.revision !== base.revision) {
      setBase(strategy);
      setDraft(draftOf(strategy));
    }
  }, [strategy.revision]);

  useEffect(() => {
    setPreview(null);
    setWrong([]);
    setProblem("");
    if (!isChanged) return;
    setSaid("");
    let mine = true;
    const timer = window.setTimeout(() => {
      query<{ changes: Change[] }>(`/strategies/${base.id}/edit-preview`, JSON.parse(text)).then(
        (answer) => mine && setPreview({ of: text, changes: answer.changes }),
        (thrown) => {
          if (!mine) return;
          const error = asApiError(thrown);
          setWrong(error.fields);
          if (error.fields.length === 0) setProblem(error.sentence);
        },
      );
    }, LOOK_AFTER_MS);
    return () => {
      mine = false;
      window.clearTimeout(timer);
    };
  }, [text, base.revision]);

  const save = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const saved = await put<Strategy>(`/strategies/${base.id}`, { ...changes, revision: base.revision });
      setBase(saved);
      setDraft(draftOf(saved));
      setSaid("Saved.");
      setElsewhere(false);
      onSaved();
    } catch (thrown) {
      const error = asApiError(thrown);
      setWrong(error.fields);
      if (error.code === "conflict" && error.current !== null) {
        // What was typed here stays, the rest is as it is now: an untouched field must not undo the other tab.
        const typed = Object.entries(changes).map(([name, value]) => [name, value ?? ""]);
        setDraft({ ...draftOf(error.current), ...(Object.fromEntries(typed) as Partial<Draft>) });
        setBase(error.current);
        setElsewhere(true);
      } else if (error.fields.length === 0) setProblem(error.sentence);
    }
    setBusy(false);
  };

  const shown = preview?.of === text ? preview.changes : null;
  const word = lost ? "Not live" : busy ? "Saving…" : "Save these changes";
  return (
    <section class="panel" aria-labelledby="edit-heading" data-testid="edit">
      <h2 id="edit-heading">Edit</h2>
      <form class="form" onSubmit={(event) => void save(event)}>
        <StrategyFieldset
          draft={draft}
          fixed
          accounts={[]}
          onChange={(name, value) => setDraft((old) => ({ ...old, [name]: value }))}
          errorOf={(name) => wrong.find((one) => one.field === name)}
        />
        <div aria-live="polite" data-testid="edit-preview">
          {shown?.map((change) => (
            <p class="change num" key={change.field}>
              <b>{WORDS[change.field] ?? change.field}</b>
              <span>
                <del>{change.old || "nothing"}</del> → <ins>{change.new || "nothing"}</ins>
              </span>
              <span class="when">{change.when}</span>
            </p>
          ))}
          {isChanged && shown === null && wrong.length === 0 && problem === "" && <p class="dim">Looking at what this changes…</p>}
          {!isChanged && said === "" && <p class="dim">Change a field to see what it does before it is saved.</p>}
          {!isChanged && said !== "" && <p class="good">{said}</p>}
        </div>
        <Problem text={[elsewhere && isChanged ? CHANGED_ELSEWHERE : "", problem].filter(Boolean).join(" ")} />
        <div class="buttons">
          <button class="primary" data-testid="save" disabled={lost || busy || !isChanged || shown === null} title={why}>
            {word}
          </button>
          {isChanged && (
            <button type="button" onClick={() => setDraft(draftOf(base))}>
              Undo
            </button>
          )}
        </div>
      </form>
    </section>
  );
}
