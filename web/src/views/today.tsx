/** Today, top to bottom by what costs money first. */

import { useEffect, useMemo, useState } from "preact/hooks";
import type { GroupName, Row } from "../contract";
import { money, plural, signed, toneOf } from "../format";
import { Fact } from "../parts/small";
import { VirtualList } from "../parts/virtual";
import { current, usePick } from "../store";
import { Broker, Guards } from "./assurance";
import { Needs } from "./needs";
import { RowHead, RowView } from "./row";
import { useSteadyOrder } from "./steady";

const VIRTUAL_FROM = 60;
const FIND_FROM = 12;
const HEADINGS: Record<GroupName, string> = {
  moving: "Moving now",
  holding: "Holding, nearest to its stop-loss first",
  waiting: "Waiting, by BUY time",
  done: "Done",
  not_started: "Not started",
};

export function Today() {
  const known = usePick((s) => s.today !== null);
  const total = usePick((s) => (s.today === null ? 0 : Object.keys(s.today.rows).length));
  const [find, setFind] = useState("");
  if (!known) {
    return (
      <>
        <h1 class="sr">Today</h1>
        <p class="dim pad" role="status">
          Waiting for the first picture of your strategies…
        </p>
      </>
    );
  }
  return (
    <>
      <h1 class="sr">Today</h1>
      <Needs />
      <section class="summary" aria-label="The day">
        <DayFigures />
        <Guards />
        <Broker />
      </section>
      {total === 0 && (
        <section class="panel empty">
          <p>No strategy yet. A strategy is one sentence: buy 50 NSE:INFY at 09:20, sell at 15:15, out at the stop-loss.</p>
          <a class="button primary" href="#/new">
            Write the first one
          </a>
        </section>
      )}
      {total > FIND_FROM && (
        <div class="find">
          <label for="find" class="sr">
            Find a strategy by name or symbol
          </label>
          <input id="find" type="search" placeholder="Find by name or symbol" value={find} onInput={(e) => setFind(e.currentTarget.value)} />
          <span class="dim">{plural(total, "strategy", "strategies")}</span>
        </div>
      )}
      <Group name="moving" find={find} />
      <Group name="holding" find={find} />
      <Group name="waiting" find={find} />
      <Group name="not_started" find={find} />
      <Group name="done" find={find} />
    </>
  );
}

function DayFigures() {
  const day = usePick((s) => s.today?.day ?? null);
  if (day === null) return null;
  return (
    <div class="facts day" data-testid="day">
      <Fact label="P&L today, gross" tone={toneOf(day.pnl)}>
        <span class="main-figure">{signed(day.pnl)}</span>
        <span class="parts dim">
          closed {signed(day.pnl_closed)}, open {signed(day.pnl_open)}
        </span>
      </Fact>
      <Fact label="If every stop-loss is hit now" tone={toneOf(day.loss_if_stopped)}>
        {signed(day.loss_if_stopped)}
      </Fact>
      <Fact label="Left of the day's limit">
        {day.limit === null ? <span class="dim">no limit set</span> : money(day.left_of_limit)}
        {day.limit !== null && <span class="parts dim">of {money(day.limit)}</span>}
      </Fact>
    </div>
  );
}

const matches = (row: Row | undefined, find: string): boolean =>
  row !== undefined && (row.name.toLowerCase().includes(find) || row.symbol.toLowerCase().includes(find));

function Group({ name, find }: { name: GroupName; find: string }) {
  const wantedIds = usePick((s) => s.today?.groups[name]) ?? NONE;
  const { ids, hold } = useSteadyOrder(wantedIds);
  const height = useRowHeight();
  const wanted = find.trim().toLowerCase();
  const shown = useMemo(
    () => (wanted === "" ? ids : ids.filter((id) => matches(current().today?.rows[id], wanted))),
    [ids, wanted],
  );
  if (shown.length === 0) return null;
  const body =
    shown.length > VIRTUAL_FROM ? (
      <VirtualList
        items={shown}
        height={height}
        keyOf={(id) => id}
        render={(id) => <RowView id={id} group={name} />}
        label={HEADINGS[name]}
      />
    ) : (
      <ul class="rows" aria-label={HEADINGS[name]}>
        {shown.map((id) => (
          <li key={id}>
            <RowView id={id} group={name} />
          </li>
        ))}
      </ul>
    );
  const heading = (
    <>
      {HEADINGS[name]} <span class="count num">{shown.length}</span>
    </>
  );
  if (name === "done") {
    return (
      <details class="group" data-testid="group-done" {...hold}>
        <summary>
          <h2>{heading}</h2>
          <DoneSum ids={ids} />
        </summary>
        <RowHead group={name} />
        {body}
      </details>
    );
  }
  return (
    <section class={`group group-${name}`} data-testid={`group-${name}`} aria-label={HEADINGS[name]} {...hold}>
      <h2>{heading}</h2>
      <RowHead group={name} />
      {body}
    </section>
  );
}

const NONE: readonly number[] = [];

/** What the folded rows hide: how many were skipped, and what the day's closed runs made. */
function DoneSum({ ids }: { ids: readonly number[] }) {
  const skipped = usePick((s) => ids.filter((id) => s.today?.rows[id]?.skipped).length);
  const closed = usePick((s) => s.today?.day.pnl_closed ?? null);
  return (
    <span class="dim">
      closed P&L gross <span class={`num ${toneOf(closed)}`}>{signed(closed)}</span>
      {skipped > 0 && `, ${skipped} skipped`}
    </span>
  );
}

const PHONE = window.matchMedia("(max-width: 899px)");
const NARROW = window.matchMedia("(max-width: 1279px)");
const rowHeight = (): number => (PHONE.matches ? 96 : NARROW.matches ? 66 : 48);

/** Of a row in a long list: the narrower the screen, the more lines it has. */
function useRowHeight(): number {
  const [height, setHeight] = useState(rowHeight);
  useEffect(() => {
    const look = () => setHeight(rowHeight());
    for (const media of [PHONE, NARROW]) media.addEventListener("change", look);
    return () => {
      for (const media of [PHONE, NARROW]) media.removeEventListener("change", look);
    };
  }, []);
  return height;
}
