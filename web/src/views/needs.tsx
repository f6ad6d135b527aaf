import { useEffect, useState } from "preact/hooks";
import { exchangeNow, useTick } from "../clock";
import type { Need } from "../contract";
import { ownTime, span, wall } from "../format";
import { isOpen, pressAcknowledge, usePress } from "../presses";
import { useLost, usePick } from "../store";
import { PressWord } from "./pressword";
import { notLive } from "./trust";

const RANK = { alarm: 0, warning: 1 } as const;

/** What needs a person: what may cost money first, as the server orders it within its severity. */
export function Needs() {
  const needs = usePick((s) => s.today?.needs) ?? [];
  const sorted = [...needs].sort((a, b) => RANK[a.severity] - RANK[b.severity]);
  const keys = sorted.map((need) => need.key).join(" ");
  const [said, setSaid] = useState("");
  useEffect(() => {
    setSaid(sorted.length === 0 ? "" : `Needs you: ${sorted.map((need) => need.text).join(" ")}`);
    document.title = sorted.length === 0 ? "squareoff" : `(${sorted.length}) NEEDS YOU · squareoff`;
    return () => {
      document.title = "squareoff";
    };
  }, [keys]);
  return (
    <section class={`needs ${sorted.length === 0 ? "needs-none" : ""}`} aria-labelledby="needs-heading" data-testid="needs">
      <h2 id="needs-heading">
        {sorted.length === 0 ? "Nothing needs you" : "Needs you"}
        {sorted.length > 0 && <span class="count num">{sorted.length}</span>}
      </h2>
      <span class="sr" aria-live="assertive">
        {said}
      </span>
      {sorted.map((need) => (
        <NeedView key={need.key} need={need} />
      ))}
    </section>
  );
}

function NeedView({ need }: { need: Need }) {
  const lost = useLost();
  const why = usePick(notLive);
  const press = usePress(`need:${need.key}`);
  const { strategy_id: strategy } = need;
  return (
    <article class={`need need-${need.severity}`} data-testid={`need-${need.key}`}>
      <div class="need-words">
        <p class="need-text">
          <span class="need-mark" aria-hidden="true">
            {need.severity === "alarm" ? "▲" : "△"}
          </span>
          <span class="sr">{need.severity === "alarm" ? "Alarm: " : "Warning: "}</span>
          {strategy === null ? need.text : <a href={`#/strategy/${strategy}`}>{need.text}</a>} {need.since !== null && <Since at={need.since} />}
        </p>
        <p class="need-more">
          {need.doing !== "" && (
            <span>
              <b>We:</b> {need.doing}{" "}
            </span>
          )}
          {need.todo !== "" && (
            <span>
              <b>You:</b> {need.todo}
            </span>
          )}
        </p>
        <PressWord name={`need:${need.key}`} />
      </div>
      <div class="need-do">
        {strategy !== null && (
          <a class="button need-look" href={`#/strategy/${strategy}`} aria-label={`Look: ${need.text}`}>
            Look
          </a>
        )}
        {need.can_acknowledge && strategy !== null && (
          <button
            disabled={lost || isOpen(press)}
            title={lost ? why : "I have seen it: it stays here and rings no more unless something new happens"}
            onClick={() => void pressAcknowledge(need.key, strategy)}
          >
            {lost ? "Seen · not live" : isOpen(press) ? "asked…" : "Seen"}
          </button>
        )}
      </div>
    </article>
  );
}

function Since({ at }: { at: string }) {
  useTick(1000);
  const now = exchangeNow();
  return (
    <time class="since num" dateTime={at} title={ownTime(at)}>
      since {wall(at)}
      {now !== null && ` (${span((now - Date.parse(at)) / 1000).replace(/\.\d/, "")})`}
    </time>
  );
}

