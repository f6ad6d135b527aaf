/** One strategy as one line of Today. */

import { exchangeNow, useTick } from "../clock";
import type { GroupName, Row } from "../contract";
import { money, ownTime, quantity, signed, span, toneOf, wall, wallShort } from "../format";
import { memo } from "../parts/memo";
import { StopBar } from "../parts/stopbar";
import { useRow } from "../store";
import { RowActions } from "./actions";
import { PressWord } from "./pressword";

const COLUMNS: Record<GroupName, readonly [words: string, bar: string, gain: string, next: string]> = {
  moving: ["Order, shares", "Filled", "Elapsed", "Attempt, our id / the broker's"],
  holding: ["Shares, bought at, price now", "Price above the stop-loss", "Open P&L, gross", "Next, guard"],
  waiting: ["Rule, shares", "Armed, or what is wrong and how to mend it", "", "Next"],
  done: ["Result", "Next", "P&L, gross", ""],
  not_started: ["State", "Next", "P&L, gross", ""],
};

/** What the columns are, on a wide screen. Screen readers hear it with each number instead. */
export function RowHead({ group }: { group: GroupName }) {
  const [words, bar, gain, next] = COLUMNS[group];
  return (
    <div class="row row-head" aria-hidden="true">
      <span class="c-name">Strategy</span>
      <span class="c-words">{words}</span>
      <span class="c-bar">{bar}</span>
      <span class="c-gain">{gain}</span>
      <span class="c-next">{next}</span>
      <span class="c-act" />
    </div>
  );
}

export const RowView = memo(function RowView({ id, group }: { id: number; group: GroupName }) {
  const row = useRow(id);
  if (row === undefined) return null;
  return (
    <div class={`row row-${group} ${row.skipped ? "row-skipped" : ""}`} data-testid={`row-${row.name}`}>
      <span class="c-name">
        <a class="row-name" href={`#/strategy/${row.id}`}>
          {row.name}
        </a>
        <span class="symbol" title={`account ${row.account}`}>
          {row.symbol}
        </span>
      </span>
      <Middle row={row} group={group} />
      <span class="c-act">
        <RowActions row={row} />
      </span>
      <PressWord name={`row:${row.id}`} />
    </div>
  );
});

function Middle({ row, group }: { row: Row; group: GroupName }) {
  switch (group) {
    case "moving":
      return <MovingCells row={row} />;
    case "holding":
      return <HoldingCells row={row} />;
    case "waiting":
      return <WaitingCells row={row} />;
    default:
      return <RestCells row={row} />;
  }
}

function MovingCells({ row }: { row: Row }) {
  const { moving } = row;
  if (moving === null) {
    return (
      <>
        <span class="c-words">{row.words}</span>
        <span class="c-bar dim">{row.next}</span>
      </>
    );
  }
  const share = Number(moving.wanted) > 0 ? (Number(moving.filled) / Number(moving.wanted)) * 100 : 0;
  const ids = `ours ${moving.client_order_id}, broker's ${moving.broker_order_id ?? "not known yet"}`;
  return (
    <>
      <span class="c-words">
        <b class={moving.side === "BUY" ? "buy" : "sell"}>{moving.side}</b>{" "}
        <span class="num">
          {quantity(moving.filled)} of {quantity(moving.wanted)}
        </span>{" "}
        filled <span class="dim">· {row.label}</span>
      </span>
      <span class="c-bar">
        <span class="progress" aria-hidden="true">
          <span style={{ width: `${Math.min(100, share)}%` }} />
        </span>
      </span>
      <span class="c-gain">
        <Elapsed since={moving.since} />
      </span>
      <span class="c-next dim" title={ids}>
        attempt {moving.attempt} · <span class="id">{moving.client_order_id}</span>
        {moving.broker_order_id !== null && <span class="id"> / {moving.broker_order_id}</span>}
      </span>
    </>
  );
}

function Elapsed({ since }: { since: string }) {
  useTick(200);
  const now = exchangeNow();
  return (
    <time class="num" dateTime={since} title={`since ${wall(since)}; ${ownTime(since)}`}>
      {now === null ? wall(since) : span((now - Date.parse(since)) / 1000)}
    </time>
  );
}

function HoldingCells({ row }: { row: Row }) {
  const doubt = row.exposure === "long" ? "" : row.exposure_label;
  return (
    <>
      <span class="c-words num">
        {quantity(row.held)} <span class="dim">at</span> {money(row.entry_price)} <span class="dim">now</span>{" "}
        <b>{money(row.price)}</b>
        {doubt !== "" && <b class="loss"> {doubt}</b>}
      </span>
      <span class="c-bar">
        <StopBar price={row.price} stop={row.stop_price} entry={row.entry_price} distance={row.stop_distance} />
      </span>
      <span class={`c-gain num ${toneOf(row.gain)}`} title="open P&L, gross">
        <span class="sr">open P&L gross </span>
        {signed(row.gain)}
      </span>
      <span class="c-next">
        {row.sell_at === null ? (
          row.next
        ) : (
          <>
            SELL <WallTime at={row.sell_at} />
          </>
        )}{" "}
        <GuardWord guard={row.guard} />
      </span>
    </>
  );
}

function GuardWord({ guard }: { guard: string }) {
  if (guard === "") return null;
  return guard === "nobody" ? <b class="loss">guarded by nobody</b> : <span class="dim guard-good">guarded by {guard}</span>;
}

function WaitingCells({ row }: { row: Row }) {
  const { red } = row;
  return (
    <>
      <span class="c-words num">
        <b class="buy">BUY</b> {quantity(row.quantity)} <span class="dim">at</span>{" "}
        {row.buy_at === null ? "not known" : <WallTime at={row.buy_at} />}
        <span class="dim"> stop-loss </span>
        {row.stop_loss}
      </span>
      {red === null ? (
        <span class="c-bar">
          {row.armed === true ? (
            <span class="armed">
              <span aria-hidden="true">● </span>armed
            </span>
          ) : (
            <span class="dim">{row.armed === false ? "not armed" : "not known whether it is armed"}</span>
          )}
        </span>
      ) : (
        <span class="c-bar c-red" title={`${red.text}. ${red.mend}`}>
          <b class="loss">
            <span aria-hidden="true">✕ </span>
            {red.name.replaceAll("_", " ")}: {red.text}
          </b>
          {red.mend !== "" && <span class="mend"> {red.mend}</span>}
        </span>
      )}
      <span class="c-next dim">{row.next.replace(/^BUY .* on /, "on ")}</span>
    </>
  );
}

function RestCells({ row }: { row: Row }) {
  return (
    <>
      <span class="c-words">
        {row.words === "" ? row.label : row.words}
        {(row.exposure === "long" || row.exposure === "unknown") && <b class="loss"> {row.exposure_label}</b>}
      </span>
      <span class="c-bar dim">{row.next}</span>
      {row.pnl !== null && (
        <span class={`c-gain num ${toneOf(row.pnl)}`} title="closed P&L, gross">
          <span class="sr">closed P&L gross </span>
          {signed(row.pnl)}
        </span>
      )}
    </>
  );
}

function WallTime({ at }: { at: string }) {
  return (
    <time class="num" dateTime={at} title={ownTime(at)}>
      {wallShort(at)}
    </time>
  );
}
