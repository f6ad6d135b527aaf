/** Who guards each position, and whether the broker says the same. */

import { useRef } from "preact/hooks";
import { useTick } from "../clock";
import type { Today } from "../contract";
import { ownTime, span } from "../format";
import { usePick } from "../store";

export function Guards() {
  const guards = usePick((s) => s.today?.guards) ?? [];
  if (guards.length === 0) return null;
  return (
    <div class="assure" data-testid="guards">
      <span class="fact-label">Who guards each position</span>
      {guards.map((one) => (
        <span key={one.account} class={`assure-line ${one.who === "nobody" ? "loss" : ""}`}>
          <Mark good={one.who !== "nobody"} />
          {guards.length > 1 && <b>{one.account}: </b>}
          {one.text}
        </span>
      ))}
    </div>
  );
}

export function Broker() {
  const broker = usePick((s) => s.today?.broker) ?? [];
  if (broker.length === 0) return null;
  return (
    <div class="assure" data-testid="broker">
      <span class="fact-label">What the broker says</span>
      {broker.map((one) => (
        <BrokerLine key={one.account} one={one} named={broker.length > 1} />
      ))}
    </div>
  );
}

function BrokerLine({ one, named }: { one: Today["broker"][number]; named: boolean }) {
  useTick(1000);
  // In real seconds, however fast trading time runs: its age as it was told, and the time since.
  const told = useRef({ at: one.at, perf: performance.now() });
  if (told.current.at !== one.at) told.current = { at: one.at, perf: performance.now() };
  const ageS = one.age_s === null ? null : one.age_s + (performance.now() - told.current.perf) / 1000;
  const tone = one.state === "differs" ? "loss" : one.state === "unknown" ? "warn" : "";
  return (
    <span class={`assure-line ${tone}`} title={one.at === null ? "" : ownTime(one.at)}>
      <Mark good={one.state === "same"} />
      {named && <b>{one.account}: </b>}
      {one.text}
      {ageS !== null && <span class="num">, {span(Math.floor(ageS)).replace(".0", "")} ago</span>}
    </span>
  );
}

function Mark({ good }: { good: boolean }) {
  return (
    <span class={good ? "mark-good" : "mark-bad"} aria-hidden="true">
      {good ? "✓ " : "! "}
    </span>
  );
}
