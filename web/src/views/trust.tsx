import { useEffect, useState } from "preact/hooks";
import { exchangeIso, useTick } from "../clock";
import { dayWords, ownTime, span, wall } from "../format";
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

const FIRST_WORD_WITHIN_MS = 3000;

export function TrustLine() {
  const heard = usePick((s) => s.live.heardAt !== null);
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = window.setTimeout(() => setLate(true), FIRST_WORD_WITHIN_MS);
    return () => window.clearTimeout(timer);
  }, []);
  if (heard || late) return <Trust />;
  return (
    <div class="trust" data-testid="trust">
      <span class="dot" aria-hidden="true" />
      <span class="dim">asking squareoff…</span>
    </div>
  );
}

function Trust() {
  const why = usePick(notLive);
  const lastWord = usePick((s) => s.live.now);
  const feedOk = usePick((s) => s.today?.trust.feed_ok ?? null);
  const text = usePick((s) => s.today?.trust.text ?? "");
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
          {feedOk === false ? <strong>{text}</strong> : <PriceAge text={text} />}
          <NextSpecial />
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

/** The age of the prices goes on between two words; what else the server has to say of them stands as it is. */
function PriceAge({ text }: { text: string }) {
  useTick(200);
  const { live } = current();
  const isAge = live.feedAgeS !== null && /\d/.test(text) && live.nowPerf > 0;
  if (!isAge) return <span class="dim trust-text">{text}</span>;
  const age = (live.feedAgeS ?? 0) + (performance.now() - live.nowPerf) / 1000;
  return <span class="dim num trust-text">prices {span(age)} old</span>;
}

/** Where the mode bar has no room for it. */
function NextSpecial() {
  const zone = usePick((s) => s.today?.zone ?? "");
  const special = usePick((s) => s.today?.market.next_special ?? null);
  return (
    <span class="dim narrow-only" title={zone}>
      {special === null ? zone : `${dayWords(special.date).slice(4, -5)}: ${special.text}`}
    </span>
  );
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
