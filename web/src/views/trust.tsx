import { useEffect, useState } from "preact/hooks";
import { exchangeIso, useTick } from "../clock";
import { ownTime, span, wall } from "../format";
import { current, usePick, type State } from "../store";

/** Why nothing here is live, as one sentence; empty: it is. */
export function notLive({ live, today }: State): string {
  if (live.lost && live.now === null) return "NOT LIVE: no word from squareoff yet";
  if (live.lost) return `NOT LIVE since ${lastHeard(live.now)}: no word from squareoff`;
  if (today?.trust.up === false) return `NOT LIVE: ${today.trust.text}`;
  return "";
}

function lastHeard(now: string | null): string {
  if (now === null) return "the start";
  return wall(exchangeIso(Date.parse(now)));
}

export function TrustLine() {
  const why = usePick(notLive);
  const lastWord = usePick((s) => s.live.now);
  const feedOk = usePick((s) => s.today?.trust.feed_ok ?? null);
  const text = usePick((s) => s.today?.trust.text ?? "");
  const bad = why !== "" || feedOk === false;
  return (
    <div class={`trust ${why !== "" ? "trust-lost" : feedOk === false ? "trust-warn" : ""}`} data-testid="trust">
      <span class="dot trust-dot" aria-hidden="true" />
      {why !== "" ? (
        <strong title={lastWord === null ? "" : ownTime(lastWord)}>
          {why}. Nothing below is live.
        </strong>
      ) : (
        <>
          <LiveAge />
          {bad ? <strong>{text}</strong> : <span class="dim trust-text">{text}</span>}
        </>
      )}
      <Spoken text={why !== "" ? why : feedOk === false ? text : "live"} />
    </div>
  );
}

/** How old what is shown is: the silence of the stream, or of the prices where that is more. */
function LiveAge() {
  useTick(200);
  const { live } = current();
  const silent = live.heardAt === null ? 0 : (performance.now() - live.heardAt.perf) / 1000;
  return <span class="num">live, {span(silent)} ago</span>;
}

/** For screen readers: only a change is told, not every tenth of a second. */
function Spoken({ text }: { text: string }) {
  const [said, setSaid] = useState("");
  useEffect(() => setSaid(text), [text]);
  return (
    <span class="sr" role="status" aria-live="assertive">
      {said}
    </span>
  );
}
