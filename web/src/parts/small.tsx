/** Small pieces every view uses. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { asApiError, get } from "../api";
import type { Check } from "../contract";
import { dayOf, dayWords, ownTime, wall } from "../format";

/** Exchange time; the user's own on hover. */
export function Instant({ at, day = false }: { at: string | null; day?: boolean }) {
  if (at === null || at === "") return <span class="dim">not known</span>;
  return (
    <time dateTime={at} title={ownTime(at)} class="num">
      {day ? `${dayWords(dayOf(at))} ` : ""}
      {wall(at)}
    </time>
  );
}

export function Fact({ label, children, tone = "" }: { label: string; children: ComponentChildren; tone?: string }) {
  return (
    <div class="fact">
      <span class="fact-label">{label}</span>
      <span class={`fact-value num ${tone}`}>{children}</span>
    </div>
  );
}

export function Problem({ text, testid }: { text: string; testid?: string }) {
  if (text === "") return null;
  return (
    <p class="problem" role="alert" data-testid={testid}>
      {text}
    </p>
  );
}

const CHECK_MARK = { true: "✓", false: "✕", null: "?" } as const;

export function Checks({ checks }: { checks: Check[] }) {
  return (
    <ul class="checks">
      {checks.map((check) => (
        <li key={check.name} class={`check check-${String(check.ok)}`}>
          <span aria-hidden="true" class="check-mark">
            {CHECK_MARK[`${check.ok}`]}
          </span>
          <span>
            <span class="check-name">{check.name.replaceAll("_", " ")}</span>
            <span class="sr"> {check.ok === true ? "is right" : check.ok === false ? "is wrong" : "is not known"}</span>{" "}
            {check.text}
            {check.mend !== "" && <span class="mend"> To mend it: {check.mend}</span>}
          </span>
        </li>
      ))}
    </ul>
  );
}

export interface Loaded<T> {
  value: T | null;
  problem: string;
  again: () => void;
}

/** GET `path` now and whenever it or `version` changes; the last value stays while the next one is on its way. */
export function useGet<T>(path: string | null, version: unknown = null): Loaded<T> {
  const [answer, setAnswer] = useState<{ path: string | null; value: T | null; problem: string }>({
    path,
    value: null,
    problem: "",
  });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    if (path === null) return;
    let mine = true;
    get<T>(path).then(
      (value) => mine && setAnswer({ path, value, problem: "" }),
      (thrown) => mine && setAnswer((old) => ({ ...old, path, problem: asApiError(thrown).sentence })),
    );
    return () => {
      mine = false;
    };
  }, [path, version, turn]);
  return {
    value: answer.path === path ? answer.value : null,
    problem: answer.problem,
    again: () => setTurn((n) => n + 1),
  };
}

/** A native dialog: it keeps the focus, Escape closes it, and the page behind it is inert. */
export function Dialog(props: { title: string; onClose: () => void; children: ComponentChildren; testid?: string }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    dialog.current?.showModal();
    return () => {
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    <dialog ref={dialog} onClose={props.onClose} aria-labelledby="dialog-title" data-testid={props.testid}>
      <h2 id="dialog-title">{props.title}</h2>
      {props.children}
    </dialog>
  );
}
