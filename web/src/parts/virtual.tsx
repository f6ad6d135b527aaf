/** A long list in the page's own scroll: only the rows near the screen exist. All rows are of one height. */

import type { ComponentChildren } from "preact";
import { useLayoutEffect, useReducer, useRef } from "preact/hooks";

interface Props<T> {
  items: readonly T[];
  height: number;
  keyOf: (item: T) => string | number;
  render: (item: T) => ComponentChildren;
  label?: string;
}

const MARGIN_ROWS = 12;

export function VirtualList<T>({ items, height, keyOf, render, label }: Props<T>) {
  const box = useRef<HTMLUListElement>(null);
  const [, again] = useReducer((n: number) => n + 1, 0);
  const shown = useRef({ from: 0, to: 0 });

  const range = () => {
    const top = box.current?.getBoundingClientRect().top ?? 0;
    // In steps of the margin, so that a scroll of a few pixels renders nothing.
    const step = (rows: number) => Math.floor(rows / MARGIN_ROWS) * MARGIN_ROWS;
    const from = Math.max(0, step(-top / height) - MARGIN_ROWS);
    const to = Math.min(items.length, step((window.innerHeight - top) / height) + 2 * MARGIN_ROWS);
    return { from, to: Math.max(from, to) };
  };

  const look = () => {
    const next = range();
    if (next.from !== shown.current.from || next.to !== shown.current.to) {
      shown.current = next;
      again(undefined as never);
    }
  };

  useLayoutEffect(() => {
    look();
    const moved = new ResizeObserver(look); // what stands above the list may grow
    moved.observe(document.body);
    window.addEventListener("scroll", look, { passive: true });
    window.addEventListener("resize", look);
    return () => {
      moved.disconnect();
      window.removeEventListener("scroll", look);
      window.removeEventListener("resize", look);
    };
  }, [items.length, height]);

  const { from, to } = shown.current;
  return (
    <ul ref={box} class="virtual" style={{ height: `${items.length * height}px` }} aria-label={label}>
      {items.slice(from, to).map((item, n) => (
        <li
          key={keyOf(item)}
          class="virtual-item"
          style={{ top: `${(from + n) * height}px`, height: `${height}px` }}
          aria-setsize={items.length}
          aria-posinset={from + n + 1}
        >
          {render(item)}
        </li>
      ))}
    </ul>
  );
}
