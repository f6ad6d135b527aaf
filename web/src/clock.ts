/** Exchange time between two words of the server, and a tick that re-renders only what shows it. */

import { useEffect, useState } from "preact/hooks";
import { current } from "./store";

/** A component that shows time renders again every `ms` while the page is seen. */
export function useTick(ms: number): void {
  const [, again] = useState(0);
  useEffect(() => {
    const timer = window.setInterval(() => {
      if (!document.hidden) again((n) => n + 1);
    }, ms);
    return () => window.clearInterval(timer);
  }, [ms]);
}

/** Now at the exchange, epoch milliseconds; null: never heard. It stands still when the server is lost. */
export function exchangeNow(): number | null {
  const { live, today } = current();
  if (live.now === null) return null;
  const said = Date.parse(live.now);
  if (live.lost) return said;
  const speed = today?.market.speed ?? 1;
  return said + (performance.now() - live.nowPerf) * speed;
}

/** An instant as ISO text with the exchange's offset, taken from the last word of the server. */
export function exchangeIso(epochMs: number): string {
  const offset = /([+-]\d\d):?(\d\d)$/.exec(current().live.now ?? "");
  const minutes = offset ? Number(`${offset[1]![0]}1`) * (Math.abs(Number(offset[1])) * 60 + Number(offset[2])) : 0;
  const text = new Date(epochMs + minutes * 60_000).toISOString().slice(0, 23);
  return `${text}${offset ? offset[0] : "Z"}`;
}
