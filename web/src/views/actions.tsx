/** START and STOP of one strategy: never a button that lies. */

import { useState } from "preact/hooks";
import type { Row } from "../contract";
import { quantity } from "../format";
import { Dialog } from "../parts/small";
import { isOpen, pressStart, pressStop, usePress } from "../presses";
import { useLost, usePick } from "../store";
import { notLive } from "./trust";

const PENDING_WORDS = {
  START: "START asked",
  STOP: "STOP asked",
  KILL: "KILL asked",
  HAND_OVER: "hand over asked",
} as const;

/** Whether there is something to stop: also where automation gave up while something is, or may be, held. */
const isUnderWay = ({ group, exposure }: Row): boolean =>
  group === "moving" || group === "holding" || group === "waiting" || exposure === "long" || exposure === "unknown";

export function RowActions({ row }: { row: Row }) {
  const why = usePick(notLive);
  const lost = useLost();
  const press = usePress(`row:${row.id}`);
  const [asking, setAsking] = useState(false);
  const open = isOpen(press);
  const waits = row.pending === null ? "" : PENDING_WORDS[row.pending];
  // A wish is saved even while no worker runs; the button says that it is only saved.
  const later = !lost && why !== "";

  if (!isUnderWay(row)) {
    const word = lost ? "START · not live" : waits !== "" ? waits : open ? "asked…" : later ? "START later" : "START";
    return (
      <button
        class="start"
        data-testid={`start-${row.name}`}
        aria-label={`${word}: ${row.name}`}
        disabled={lost || open || waits !== ""}
        title={why === "" ? `start ${row.name}` : later ? `${why}. It is saved and acts when squareoff runs again` : why}
        onClick={() => void pressStart(row)}
      >
        {word}
      </button>
    );
  }
  const holds = row.group !== "waiting";
  const blocked = lost || open || (waits !== "" && row.pending !== "START");
  const word = lost ? "STOP · not live" : blocked ? (waits === "" ? "asked…" : waits) : later ? "STOP later" : "STOP";
  return (
    <>
      <button
        class="stop-button"
        data-testid={`stop-${row.name}`}
        aria-label={`${word}: ${row.name}`}
        disabled={blocked}
        title={why === "" ? (holds ? "asks before it sells" : "buys nothing then") : why}
        onClick={() => (holds ? setAsking(true) : void pressStop(row, "square_off"))}
      >
        {word}
      </button>
      {asking && <StopDialog row={row} onClose={() => setAsking(false)} />}
    </>
  );
}

function StopDialog({ row, onClose }: { row: Row; onClose: () => void }) {
  const lost = useLost();
  const send = (how: "square_off" | "hand_over") => {
    void pressStop(row, how);
    onClose();
  };
  const held = Number(row.held) > 0;
  const amount = held ? `${quantity(row.held)} ${row.symbol}` : `what was bought of ${row.symbol}`;
  return (
    <Dialog title={`Stop ${row.name}`} onClose={onClose} testid="stop-dialog">
      <p class="big">
        {row.words}
        {row.words.endsWith(".") ? "" : "."}
      </p>
      <div class="choices">
        <button class="danger" disabled={lost} data-testid="stop-square-off" onClick={() => send("square_off")}>
          {lost ? "Not live" : `Square off: sell ${amount} now`}
        </button>
        {row.state === "bought" && (
          <button disabled={lost} data-testid="stop-hand-over" onClick={() => send("hand_over")}>
            {lost ? "Not live" : `Hand over: ${amount} becomes yours, squareoff no longer guards it`}
          </button>
        )}
        <button onClick={onClose} data-testid="stop-cancel">
          Do nothing
        </button>
      </div>
    </Dialog>
  );
}
