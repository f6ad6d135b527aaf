/** The order of a group's rows, kept still: a row must not move away from under a finger that is about to press STOP. */

import { useEffect, useRef, useState } from "preact/hooks";

const REORDER_EVERY_MS = 1000;
/** A pointer that rests longer than this presses nothing: the order must be true again. */
const HOLD_MS = 5000;

/** `ids` as they are wanted, but in the order `before` had; who is new stands where it is wanted, at the end. */
function inOrderOf(before: readonly number[], ids: readonly number[]): readonly number[] {
  const [there, known] = [new Set(ids), new Set(before)];
  const kept = before.filter((id) => there.has(id));
  const fresh = ids.filter((id) => !known.has(id));
  return fresh.length === 0 && kept.length === before.length ? before : [...kept, ...fresh];
}

/** The order follows once a second, and not while somebody is about to press something in the group (`hold`). */
export function useSteadyOrder(ids: readonly number[]) {
  const [, again] = useState(0);
  const shown = useRef({ ids, at: performance.now() });
  const heldUntil = useRef(0);
  const isDue = performance.now() - shown.current.at >= REORDER_EVERY_MS;
  if (isDue && performance.now() >= heldUntil.current) {
    if (shown.current.ids !== ids) shown.current = { ids, at: performance.now() };
  } else {
    shown.current.ids = inOrderOf(shown.current.ids, ids);
  }
  const isBehind = shown.current.ids !== ids;
  useEffect(() => {
    // The last change of a burst would otherwise wait for the next one.
    if (!isBehind) return;
    const timer = window.setTimeout(() => again((n) => n + 1), REORDER_EVERY_MS);
    return () => window.clearTimeout(timer);
  }, [isBehind, ids]);
  const keep = () => {
    heldUntil.current = performance.now() + HOLD_MS;
  };
  const release = () => {
    heldUntil.current = 0;
  };
  return {
    ids: shown.current.ids,
    hold: { onPointerMove: keep, onPointerDown: keep, onPointerLeave: release, onFocusIn: keep, onKeyDown: keep },
  };
}
