/** What the page knows, in one place; components re-render only when the piece they picked is another one. */

import { useLayoutEffect, useReducer, useRef } from "preact/hooks";
import type { Beat, Patch, Row, Session, Today } from "./contract";

export interface Live {
  /** When the last word of the server came, by this machine's two clocks; null: none came yet. */
  heardAt: { perf: number; wall: number } | null;
  /** No word for 3 s, or none yet. */
  lost: boolean;
  /** The last time of the exchange we were told, and when that was (performance.now). */
  now: string | null;
  nowPerf: number;
  /** How old the prices were at that time, seconds; null: not known. */
  feedAgeS: number | null;
}

export interface State {
  session: Session | null;
  /** What sign-in asks for; null: not known to be needed. */
  login: "link" | "password" | null;
  /** Why the one-time link did not work; empty: none was tried. */
  linkProblem: string;
  /** Why there is no page yet, when squareoff could not be asked. */
  unreachable: boolean;
  today: Today | null;
  live: Live;
}

let state: State = {
  session: null,
  login: null,
  linkProblem: "",
  unreachable: false,
  today: null,
  live: { heardAt: null, lost: true, now: null, nowPerf: 0, feedAgeS: null },
};

const listeners = new Set<() => void>();

export const current = (): State => state;

export function change(part: Partial<State>): void {
  state = { ...state, ...part };
  for (const listener of [...listeners]) listener();
}

export function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** A piece of the state. `pick` must return the same object while nothing of it changed. */
export function usePick<T>(pick: (state: State) => T): T {
  const [, again] = useReducer((n: number) => n + 1, 0);
  const picked = pick(state);
  const last = useRef({ pick, picked });
  last.current = { pick, picked };
  useLayoutEffect(() => {
    const look = () => {
      if (!Object.is(last.current.pick(state), last.current.picked)) again(undefined as never);
    };
    look();
    return subscribe(look);
  }, []);
  return picked;
}

export const useRow = (id: number): Row | undefined => usePick((s) => s.today?.rows[id]);
export const useLost = (): boolean => usePick((s) => s.live.lost);

/** `patch` laid over `today`. Rows and parts that did not change stay the same objects. */
export function patched(today: Today, patch: Patch): Today {
  const { rows: news, ...parts } = patch;
  if (news === undefined) return { ...today, ...parts };
  const rows = { ...today.rows };
  for (const [id, row] of Object.entries(news)) {
    if (row === null) delete rows[id];
    else rows[id] = { ...rows[id], ...row } as Row;
  }
  return { ...today, ...parts, rows };
}

/** The liveness after a word of the server; not every word tells the time or the age of the prices. */
export function heard(word: Partial<Beat>, at: NonNullable<Live["heardAt"]>): Live {
  return {
    heardAt: at,
    lost: false,
    now: word.now ?? state.live.now,
    nowPerf: word.now === undefined ? state.live.nowPerf : at.perf,
    feedAgeS: word.feed_age_s === undefined ? state.live.feedAgeS : word.feed_age_s,
  };
}

/** Seconds since the last word. Both clocks count: one of them stands still while a laptop sleeps. */
export function silentS(live: Live): number {
  if (live.heardAt === null) return Infinity;
  return Math.max(performance.now() - live.heardAt.perf, Date.now() - live.heardAt.wall) / 1000;
}
