/** One strategy: where it is, how it came there and why, its price, its orders, and how to change it. */

import { useState } from "preact/hooks";
import { act, asApiError, newKey, remove } from "../api";
import type { Check, Machine, Order, PathStep, Run, Strategy, WhyLine } from "../contract";
import { dayWords, money, quantity, signed, toneOf } from "../format";
import { Checks, Dialog, Fact, Instant, Problem, useGet } from "../parts/small";
import { Field } from "../parts/field";
import { StopBar } from "../parts/stopbar";
import { go } from "../router";
import { useLost, useRow } from "../store";
import { RowActions } from "./actions";
import { EditPanel } from "./edit";
import { StateMachine } from "./machine";
import { PressWord } from "./pressword";
import { PricePanel } from "./pricepanel";

type WithRuns = Strategy & { runs: Run[] };

export function StrategyView({ rest }: { rest: string }) {
  const [idText = "", runText] = rest.split("/run/");
  const id = Number(idText);
  const row = useRow(id);
  const version = `${row?.revision}|${row?.run_id}|${row?.state}|${row?.filled}|${row?.held}`;
  const strategy = useGet<WithRuns>(`/strategies/${id}`, version);
  if (strategy.value === null) {
    return strategy.problem === "" ? (
      <p class="dim pad" role="status">
        Loading…
      </p>
    ) : (
      <Problem text={strategy.problem} />
    );
  }
  const { runs } = strategy.value;
  const run = runText === undefined ? (runs[0] ?? null) : (runs.find((one) => one.run_id === Number(runText)) ?? null);
  return (
    <>
      <Head strategy={strategy.value} run={run} again={strategy.again} />
      <div class="columns">
        <div class="stack">
          <Machinery run={run} state={run?.state ?? strategy.value.state} version={version} />
          {run !== null && <Why runId={run.run_id} version={version} />}
          <Ready id={id} version={`${version}|${row?.armed}|${row?.red?.text}`} />
          <Runs runs={runs} shown={run?.run_id ?? null} strategyId={id} />
        </div>
        <div class="stack">
          {run !== null && (
            <PricePanel
              key={run.run_id}
              runId={run.run_id}
              closed={run.closed}
              stop={run.stop_price}
              now={row?.run_id === run.run_id ? row.price : null}
            />
          )}
          {run !== null && <Orders orders={run.orders} />}
          <EditPanel key={strategy.value.id} strategy={strategy.value} onSaved={strategy.again} />
        </div>
      </div>
    </>
  );
}

function Head({ strategy, run, again }: { strategy: WithRuns; run: Run | null; again: () => void }) {
  const row = useRow(strategy.id);
  return (
    <section class="panel" aria-label={strategy.name}>
      <div class="head">
        <h1>{strategy.name}</h1>
        <span class="symbol">
          {strategy.symbol} · {strategy.product} · account {strategy.account}
        </span>
        <span class={`state-now state-${row?.exposure ?? "flat"}`}>
          {row?.label ?? strategy.label}
          {row !== undefined && `; ${row.exposure_label}`}
        </span>
        <span class="buttons">
          {row !== undefined && <RowActions row={row} />}
          <More strategy={strategy} again={again} />
        </span>
      </div>
      <PressWord name={`row:${strategy.id}`} />
      <p class="num">
        Buy {quantity(strategy.quantity)} {strategy.symbol} at {strategy.buy_time}, sell at {strategy.sell_time}, out at once at the stop-loss of{" "}
        {strategy.stop_loss}; {strategy.repeat === "daily" ? "every trading day" : "once"}
        {strategy.until ? ` until ${dayWords(strategy.until)}` : ""}.
      </p>
      {row !== undefined && row.group === "holding" && (
        <div class="facts">
          <Fact label="Held">{quantity(row.held)}</Fact>
          <Fact label="Bought at">{money(row.entry_price)}</Fact>
          <Fact label="Price now">{money(row.price)}</Fact>
          <Fact label="Open P&L, gross" tone={toneOf(row.gain)}>
            {signed(row.gain)}
          </Fact>
          <Fact label="To the stop-loss">
            <StopBar price={row.price} stop={row.stop_price} entry={row.entry_price} distance={row.stop_distance} />
          </Fact>
        </div>
      )}
      {run !== null && run.closed && (
        <p class="num">
          <b>{run.label}</b>
          {run.cause_label ? `: ${run.cause_label}` : ""}
          {run.pnl !== null && (
            <>
              , P&L gross <b class={toneOf(run.pnl)}>{signed(run.pnl)}</b>
            </>
          )}
        </p>
      )}
    </section>
  );
}

function More({ strategy, again }: { strategy: WithRuns; again: () => void }) {
  const lost = useLost();
  const [open, setOpen] = useState<"" | "duplicate" | "archive">("");
  const [name, setName] = useState(`${strategy.name}-2`);
  const [problem, setProblem] = useState("");
  const [key] = useState(newKey);
  const tryIt = async (work: () => Promise<void>) => {
    setProblem("");
    try {
      await work();
    } catch (thrown) {
      setProblem(asApiError(thrown).sentence);
      again();
    }
  };
  const duplicate = (event: Event) => {
    event.preventDefault();
    void tryIt(async () => {
      const made = await act<Strategy>(`/strategies/${strategy.id}/duplicate`, { name }, key);
      go(`#/strategy/${made.id}`);
    });
  };
  const archive = () =>
    void tryIt(async () => {
      await remove(`/strategies/${strategy.id}`);
      go("#/");
    });
  return (
    <>
      <button class="quiet" disabled={lost} onClick={() => setOpen("duplicate")}>
        Duplicate
      </button>
      <button class="quiet" disabled={lost} onClick={() => setOpen("archive")}>
        Archive
      </button>
      {open === "duplicate" && (
        <Dialog title={`Duplicate ${strategy.name}`} onClose={() => setOpen("")}>
          <form class="form" onSubmit={duplicate}>
            <Field name="copy-name" label="Name of the copy" value={name} onInput={setName} />
            <Problem text={problem} />
            <div class="buttons">
              <button class="primary">Duplicate</button>
              <button type="button" onClick={() => setOpen("")}>
                Cancel
              </button>
            </div>
          </form>
        </Dialog>
      )}
      {open === "archive" && (
        <Dialog title={`Archive ${strategy.name}?`} onClose={() => setOpen("")}>
          <p>It leaves Today and never trades again. Its runs, orders and journal stay.</p>
          <Problem text={problem} />
          <div class="buttons">
            <button class="danger" onClick={archive}>
              Archive it
            </button>
            <button onClick={() => setOpen("")}>Cancel</button>
          </div>
        </Dialog>
      )}
    </>
  );
}

function Machinery({ run, state, version }: { run: Run | null; state: string; version: string }) {
  const machine = useGet<Machine>("/machine");
  const path = useGet<{ path: PathStep[] }>(run === null ? null : `/runs/${run.run_id}/states`, version);
  return (
    <section class="panel" aria-labelledby="machine-heading">
      <h2 id="machine-heading">State machine, the way taken lit</h2>
      <Problem text={machine.problem || path.problem} />
      {machine.value !== null && <StateMachine machine={machine.value} path={path.value?.path ?? []} now={state} />}
    </section>
  );
}

const SECTIONS = [
  ["story", "What happened"],
  ["orders", "Orders"],
  ["result", "Result"],
] as const;

function Why({ runId, version }: { runId: number; version: string }) {
  const why = useGet<{ lines: WhyLine[] }>(`/runs/${runId}/why`, version);
  const lines = why.value?.lines ?? [];
  return (
    <section class="panel" aria-labelledby="why-heading" data-testid="why">
      <h2 id="why-heading">Why</h2>
      <Problem text={why.problem} />
      {SECTIONS.map(([section, heading]) => {
        const some = lines.filter((line) => line.section === section);
        if (some.length === 0) return null;
        return (
          <div key={section} class="why">
            <h3>{heading}</h3>
            <ol>
              {some.map((line, n) => (
                <li key={n} class={line.tone === "" ? "" : `tone-${line.tone.replace(" ", "-")}`}>
                  <span>{line.at !== null && <Instant at={line.at} />}</span>
                  <b>{line.what}</b>
                  <span>{line.why}</span>
                </li>
              ))}
            </ol>
          </div>
        );
      })}
    </section>
  );
}

function Orders({ orders }: { orders: Order[] }) {
  return (
    <section class="panel" aria-labelledby="orders-heading" data-testid="orders">
      <h2 id="orders-heading">Orders</h2>
      {orders.length === 0 ? (
        <p class="dim">No order was sent in this run.</p>
      ) : (
        <div class="scroll-x" tabIndex={0} role="region" aria-label="Orders table">
          <table>
            <thead>
              <tr>
                <th>Side, attempt</th>
                <th>State</th>
                <th class="right">Filled of wanted</th>
                <th class="right">Price</th>
                <th>Ids: ours, broker's</th>
                <th>Fills</th>
              </tr>
            </thead>
            <tbody>
              {orders.map((order) => (
                <tr key={order.client_order_id}>
                  <td>
                    <b class={order.slot === "entry" ? "buy" : "sell"}>{order.slot === "entry" ? "BUY" : "SELL"}</b> {order.attempt}
                  </td>
                  <td>
                    {order.phase}
                    {order.reason ? `: ${order.reason}` : ""}
                  </td>
                  <td class="right">
                    {quantity(order.filled_quantity)} of {quantity(order.quantity)}
                  </td>
                  <td class="right">{order.limit_price === null ? "market" : money(order.limit_price)}</td>
                  <td>
                    <span class="id">{order.client_order_id}</span>
                    <br />
                    <span class="id dim">{order.broker_order_id ?? "not known"}</span>
                  </td>
                  <td>
                    {order.fills.map((fill) => (
                      <div key={fill.trade_id}>
                        {quantity(fill.quantity)} at {money(fill.price)} <Instant at={fill.at} />
                      </div>
                    ))}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function Ready({ id, version }: { id: number; version: string }) {
  const answer = useGet<{ checks: Check[] }>(`/strategies/${id}/preflight`, version);
  return (
    <section class="panel" aria-labelledby="ready-heading" data-testid="preflight">
      <h2 id="ready-heading">Ready to trade?</h2>
      <Problem text={answer.problem} />
      <Checks checks={answer.value?.checks ?? []} />
    </section>
  );
}

function Runs({ runs, shown, strategyId }: { runs: Run[]; shown: number | null; strategyId: number }) {
  if (runs.length === 0) return null;
  return (
    <section class="panel" aria-labelledby="runs-heading">
      <h2 id="runs-heading">Runs</h2>
      <table>
        <thead>
          <tr>
            <th>Day</th>
            <th>State</th>
            <th class="right">P&L, gross</th>
          </tr>
        </thead>
        <tbody>
          {runs.map((run) => (
            <tr key={run.run_id}>
              <td>
                {run.run_id === shown ? (
                  <b>{dayWords(run.date)}</b>
                ) : (
                  <a href={`#/strategy/${strategyId}/run/${run.run_id}`}>{dayWords(run.date)}</a>
                )}
              </td>
              <td>{run.label}</td>
              <td class={`right ${toneOf(run.pnl)}`}>{run.pnl === null ? <span class="dim">none</span> : signed(run.pnl)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
