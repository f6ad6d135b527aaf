/** What was pressed and not proven yet. The HTTP answer says "asked"; only the stream says "done". */

import { useEffect, useState } from "preact/hooks";
import { act, asApiError, newKey } from "./api";
import type { Row, Today } from "./contract";
import { current, subscribe } from "./store";

export interface Press {
  what: string;
  /** sending: no answer yet. asked: saved, not proven. done: the stream shows it. refused: it was not done. */
  status: "sending" | "asked" | "done" | "refused" | "unknown";
  text: string;
  /** Asked some seconds ago and still not proven: whoever wants to may press again. */
  again: boolean;
  proven: (today: Today) => boolean;
}

const SHOWN_DONE_MS = 6000;
/** A button that waits for a proof that never comes must not stay blocked: it may be the kill switch. */
const AGAIN_AFTER_MS = 5000;
const presses = new Map<string, Press>();
const listeners = new Set<() => void>();

function put(name: string, press: Press | null): void {
  if (press === null) presses.delete(name);
  else presses.set(name, press);
  for (const listener of [...listeners]) listener();
}

export const forget = (name: string): void => put(name, null);

export function usePress(name: string): Press | undefined {
  const [press, setPress] = useState(() => presses.get(name));
  useEffect(() => {
    const look = () => setPress(presses.get(name));
    look();
    listeners.add(look);
    return () => {
      listeners.delete(look);
    };
  }, [name]);
  return press;
}

const isWaiting = (press: Press | undefined): press is Press => press?.status === "sending" || press?.status === "asked";

/** Pressed just now, so that its button waits. */
export const isOpen = (press: Press | undefined): boolean => isWaiting(press) && !press.again;

interface Answer {
  result?: string;
  text?: string;
}

/** Send one press. `name` says what is pressed, such as `stop:3`: a second press of it waits for the first. */
export async function press(
  name: string,
  what: string,
  path: string,
  body: unknown,
  proven: (today: Today) => boolean,
): Promise<void> {
  if (isOpen(presses.get(name))) return;
  const mine: Press = { what, status: "sending", text: "asked", again: false, proven };
  put(name, mine);
  const isMine = () => presses.get(name)?.proven === proven;
  const settle = (status: Press["status"], text: string) => {
    const now = presses.get(name);
    // A later press took its place, or the stream was faster than the answer.
    if (now !== undefined && isMine() && now.status !== "done") put(name, { ...now, status, text });
  };
  window.setTimeout(() => {
    const now = presses.get(name);
    if (isMine() && isWaiting(now)) put(name, { ...now, again: true });
  }, AGAIN_AFTER_MS);
  try {
    const answer = await act<Answer | undefined>(path, body, newKey());
    const isRefused = answer?.result === "refused" || answer?.result === "not_started";
    settle(isRefused ? "refused" : "asked", answer?.text ?? (isRefused ? "refused" : "asked"));
    prove();
  } catch (thrown) {
    const error = asApiError(thrown);
    settle(error.status === 0 ? "unknown" : "refused", error.sentence);
  }
}

function prove(): void {
  const { today, live } = current();
  if (today === null || live.lost) return; // an old picture proves nothing
  for (const [name, one] of [...presses]) {
    if (one.status === "done" || one.status === "refused" || !one.proven(today)) continue;
    put(name, { ...one, status: "done", text: "done" });
    window.setTimeout(() => {
      if (presses.get(name)?.status === "done") forget(name);
    }, SHOWN_DONE_MS);
  }
}

subscribe(prove);

// ------------------------------------------------------------------ what proves a press

const UNDER_WAY = new Set(["moving", "holding", "waiting"]);
const isOut = (row: Row | undefined): boolean =>
  row === undefined ||
  (!UNDER_WAY.has(row.group) && row.pending === null && (row.exposure === "flat" || row.exposure === "handed_over"));

export function pressStart(row: Row): Promise<void> {
  const before = { run: row.run_id, idle: !UNDER_WAY.has(row.group) };
  return press(`row:${row.id}`, "START", `/strategies/${row.id}/start`, {}, (today) => {
    const now = today.rows[row.id];
    if (now === undefined || now.state === "created") return false;
    return now.run_id !== before.run || (before.idle && UNDER_WAY.has(now.group));
  });
}

export function pressStop(row: Row, how: "square_off" | "hand_over"): Promise<void> {
  const what = how === "square_off" ? "STOP" : "HAND OVER";
  return press(`row:${row.id}`, what, `/strategies/${row.id}/stop`, { how }, (today) => isOut(today.rows[row.id]));
}

export function pressKill(level: "no_entries" | "square_off", accounts: string[], reason: string): Promise<void> {
  return press("kill", "KILL", "/kill", { level, accounts, reason }, (today) => {
    const all = today.accounts.filter((a) => accounts.includes(a.id));
    const latched = all.every((a) => a.level === "square_off" || (level === "no_entries" && a.level === "no_entries"));
    return latched && (level === "no_entries" || today.kill.holds === 0);
  });
}

export function pressRelease(account: string, reason: string): Promise<void> {
  forget("kill"); // what it asked for is taken back, so nothing will prove it
  return press(`release:${account}`, "RELEASE", `/accounts/${encodeURIComponent(account)}/release`, { reason }, (today) =>
    today.accounts.some((a) => a.id === account && a.level === "normal"),
  );
}

export function pressAcknowledge(key: string, strategyId: number): Promise<void> {
  return press(`need:${key}`, "SEEN", `/strategies/${strategyId}/acknowledge`, {}, (today) => {
    const need = today.needs.find((n) => n.key === key);
    return need === undefined || !need.can_acknowledge;
  });
}
