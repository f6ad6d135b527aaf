import type { ComponentChildren } from "preact";
import { exchangeIso, exchangeNow, useTick } from "../clock";
import { dayWords, ownTime, wall } from "../format";
import { usePick } from "../store";
import { toggleTheme, useTheme } from "../theme";

export function ModeBar({ children, onHelp }: { children: ComponentChildren; onHelp: () => void }) {
  const mode = usePick((s) => s.today?.mode ?? "");
  const theme = useTheme();
  const other = theme === "dark" ? "light" : "dark";
  return (
    <div class="mode-bar" data-testid="mode-bar">
      <a href="#/" class="brand" aria-label="squareoff: Today">
        <svg viewBox="0 0 32 32" width="20" height="20" aria-hidden="true">
          <path class="brand-price" d="M4 20h8v-9h8V6h8" />
          <path class="brand-stop" d="M4 27h24" />
        </svg>
        <span>squareoff</span>
      </a>
      {mode !== "" && <span class={`mode mode-${mode.toLowerCase()}`}>{mode}</span>}
      <Clock />
      <Market />
      {children}
      <span class="mode-tools">
        <button
          class="icon"
          onClick={toggleTheme}
          data-testid="theme-toggle"
          aria-label={`Show it ${other}`}
          title={`Show it ${other} (key d)`}
        >
          <span aria-hidden="true">{theme === "dark" ? "☀" : "☾"}</span>
        </button>
        <button class="icon help" onClick={onHelp} aria-label="Keyboard shortcuts" title="Keyboard shortcuts (key ?)">
          <span aria-hidden="true">?</span>
        </button>
      </span>
    </div>
  );
}

function Clock() {
  useTick(250);
  const zone = usePick((s) => s.today?.zone ?? "");
  const now = exchangeNow();
  if (now === null) return null;
  const iso = exchangeIso(now);
  return (
    <time class="clock num" dateTime={iso} title={`${dayWords(iso)}, ${zone}; ${ownTime(iso)}`}>
      {wall(iso)} <span class="zone">{zone}</span>
    </time>
  );
}

function Market() {
  const market = usePick((s) => s.today?.market ?? null);
  if (market === null) return null;
  const special = market.next_special;
  return (
    <span class="market">
      <span class={`dot ${market.open ? "dot-on" : ""}`} aria-hidden="true" />
      <span>
        <span class="market-name">{market.exchange} </span>
        {market.text}
      </span>
      {market.practice !== "" && (
        <span class="tag">
          {market.practice}
          {market.speed === 1 ? "" : ` ×${market.speed}`}
        </span>
      )}
      {special && (
        <span class="special dim" title={`next special day: ${dayWords(special.date)}, ${special.text}`}>
          next special day {dayWords(special.date)}: {special.text}
        </span>
      )}
    </span>
  );
}
