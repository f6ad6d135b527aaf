import { useState } from "preact/hooks";
import { Dialog } from "../parts/small";
import { isOpen, pressKill, usePress } from "../presses";
import { useLost, usePick } from "../store";
import { PressWord } from "./pressword";
import { notLive } from "./trust";

/** Always on the screen: what the kill switch would sell, and the switch. */
export function KillBar() {
  const kill = usePick((s) => s.today?.kill ?? null);
  const why = usePick(notLive);
  const lost = useLost();
  const press = usePress("kill");
  const [asking, setAsking] = useState(false);
  const pressed = kill?.pressed === true;
  return (
    <section class={`kill ${pressed ? "kill-pressed" : ""}`} aria-label="Kill switch" data-testid="kill-bar">
      <span class="kill-text">
        {pressed && <strong>KILL SWITCH IS PRESSED. </strong>}
        {kill === null ? "what it would sell is not known yet" : lost ? "NOT LIVE: what it would sell is not known now" : kill.text}
        <PressWord name="kill" />
      </span>
      {pressed && (
        <a href="#/settings" class="button">
          Release…
        </a>
      )}
      <button
        class="danger"
        data-testid="kill-button"
        disabled={lost || kill === null || isOpen(press)}
        title={lost ? `${why}. On the command line: squareoff kill` : "key: Shift + K"}
        onClick={() => setAsking(true)}
      >
        {lost ? "KILL · not live" : isOpen(press) ? "asked…" : "KILL"}
      </button>
      {asking && <KillDialog onClose={() => setAsking(false)} />}
    </section>
  );
}

function KillDialog({ onClose }: { onClose: () => void }) {
  const kill = usePick((s) => s.today?.kill);
  const lost = useLost();
  const all = kill?.accounts ?? [];
  const [without, setWithout] = useState<readonly string[]>([]);
  const [reason, setReason] = useState("");
  const accounts = all.filter((one) => !without.includes(one));
  const send = (level: "no_entries" | "square_off") => {
    void pressKill(level, accounts, reason.trim() === "" ? "pressed in the console" : reason.trim());
    onClose();
  };
  const blocked = lost || accounts.length === 0;
  return (
    <Dialog title="Kill switch" onClose={onClose} testid="kill-dialog">
      <p class="big">{lost ? "NOT LIVE: what it would sell is not known now." : `It ${kill?.text ?? ""}.`}</p>
      <p>Either way no new position is bought in these accounts until you release the switch with a reason.</p>
      <fieldset>
        <legend>Accounts</legend>
        {all.map((one) => (
          <label class="tick" key={one}>
            <input
              type="checkbox"
              checked={!without.includes(one)}
              onChange={() => setWithout((old) => (old.includes(one) ? old.filter((o) => o !== one) : [...old, one]))}
            />
            {one}
          </label>
        ))}
      </fieldset>
      <div class="field">
        <label for="kill-reason">Reason (for the journal; may stay empty)</label>
        <input
          id="kill-reason"
          data-testid="kill-reason"
          value={reason}
          maxLength={200}
          autocomplete="off"
          onInput={(e) => setReason(e.currentTarget.value)}
        />
      </div>
      <div class="choices">
        <button class="danger" disabled={blocked} data-testid="kill-square-off" onClick={() => send("square_off")}>
          {lost ? "Not live" : "Sell everything now"}
        </button>
        <button disabled={blocked} data-testid="kill-no-entries" onClick={() => send("no_entries")}>
          {lost ? "Not live" : "Only stop buying; positions run on to their exit"}
        </button>
        <button onClick={onClose} data-testid="kill-cancel">
          Do nothing
        </button>
      </div>
    </Dialog>
  );
}
