/** The state machine as the product's own table has it, with the way this run took lit. */

import type { Machine, PathStep } from "../contract";
import { wall } from "../format";

/** Where a state stands: column and row. A state this page does not know goes below the others. */
const PLACE: Record<string, readonly [column: number, row: number]> = {
  created: [0, 1],
  ready: [1, 1],
  running: [2, 1],
  bought: [3, 1],
  sell_pending: [4, 0],
  sl_pending: [4, 1],
  stop_pending: [4, 2],
  sold: [5, 0],
  exited_by_sl: [5, 1],
  stopped: [5, 2],
  failed: [3, 3],
};
const [WIDE, HIGH, STEP_X, STEP_Y, LEFT, TOP] = [114, 44, 133, 84, 6, 34] as const;

interface Point {
  x: number;
  y: number;
}

function centre([column, row]: readonly [number, number]): Point {
  return { x: LEFT + WIDE / 2 + column * STEP_X, y: TOP + HIGH / 2 + row * STEP_Y };
}

/** Where the line from the middle of a box towards `to` leaves the box. */
function border(from: Point, to: Point): Point {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const scale = Math.min(WIDE / 2 / Math.max(1, Math.abs(dx)), HIGH / 2 / Math.max(1, Math.abs(dy)));
  return { x: from.x + dx * scale, y: from.y + dy * scale };
}

/** A bend keeps a line that skips a column from running through the box between. */
function bend(from: Point, to: Point): number {
  const columns = Math.round(Math.abs(to.x - from.x) / STEP_X);
  if (to.x < from.x) return -(90 + columns * 12);
  if (columns <= 1) return from.x === to.x && Math.abs(to.y - from.y) > STEP_Y * 1.5 ? 90 : 0;
  return to.y > from.y ? 40 + columns * 22 : -(40 + columns * 14);
}

function curve(from: Point, to: Point): string {
  const lift = bend(from, to);
  const mid = { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 };
  const control = from.x === to.x ? { x: mid.x + lift, y: mid.y } : { x: mid.x, y: mid.y + lift };
  const [a, b] = [border(from, control), border(to, control)];
  return `M${a.x} ${a.y}Q${control.x} ${control.y} ${b.x} ${b.y}`;
}

interface Edge {
  from: string;
  to: string;
  events: string[];
}

function edges(machine: Machine): Edge[] {
  const found = new Map<string, Edge>();
  for (const { from, to, event } of machine.transitions) {
    if (from === to) continue;
    const edge = found.get(`${from} ${to}`) ?? { from, to, events: [] };
    edge.events.push(event);
    found.set(`${from} ${to}`, edge);
  }
  return [...found.values()];
}

export function StateMachine({ machine, path, now }: { machine: Machine; path: PathStep[]; now: string }) {
  const strangers = machine.states.filter((one) => !(one.state in PLACE)).map((one) => one.state);
  const placeOf = (state: string) => centre(PLACE[state] ?? [strangers.indexOf(state), 4]);
  const finals = new Set(machine.states.filter((one) => one.final).map((one) => one.state));
  const taken = new Map<string, PathStep>();
  path.forEach((step, n) => {
    const before = path[n - 1];
    if (before !== undefined && before.state !== step.state) taken.set(`${before.state} ${step.state}`, step);
  });
  const reached = new Map(path.map((step) => [step.state, step]));
  const height = TOP + HIGH + (strangers.length > 0 ? 4 : 3) * STEP_Y + 16;
  const width = LEFT * 2 + WIDE + 5 * STEP_X;
  const words = path.map((step) => `${step.state} at ${wall(step.at)}`).join(", then ");
  const drawn = edges(machine).map((edge) => ({ ...edge, step: taken.get(`${edge.from} ${edge.to}`) }));
  drawn.sort((a, b) => Number(a.step !== undefined) - Number(b.step !== undefined)); // the lit ones on top
  return (
    <div data-testid="state-machine">
      <div class="scroll-x" tabIndex={0} role="region" aria-label="State machine">
        <svg class="machine" viewBox={`0 0 ${width} ${height}`} role="img" aria-label={`State machine. The way taken: ${words || "none yet"}. Now: ${now}.`}>
          <defs>
            {["m-arrow", "m-arrow-lit"].map((name) => (
              <marker key={name} id={name} viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto" markerUnits="userSpaceOnUse">
                <path class={name} d="M0 0L8 4L0 8z" />
              </marker>
            ))}
          </defs>
          {drawn.map(({ from, to, events, step }) => {
            const again = finals.has(from) ? "m-again" : "";
            return (
              <path
                key={`${from} ${to}`}
                class={`m-edge ${again} ${step ? "m-lit" : ""}`}
                d={curve(placeOf(from), placeOf(to))}
                marker-end={`url(#${step ? "m-arrow-lit" : "m-arrow"})`}
              >
                <title>
                  {from} → {to}: {events.join(", ")}
                </title>
              </path>
            );
          })}
          {machine.states.map(({ state, label, final }) => {
            const { x, y } = placeOf(state);
            const step = reached.get(state);
            return (
              <g
                key={state}
                class={`${final ? "m-final" : ""} ${step ? "m-been" : ""} ${state === now ? "m-now" : ""}`}
                data-state={state}
                data-lit={step !== undefined}
              >
                <rect class="m-box" x={x - WIDE / 2} y={y - HIGH / 2} width={WIDE} height={HIGH} rx="7" />
                <text class="m-name" x={x} y={y - 3}>
                  {state}
                </text>
                <text class="m-label" x={x} y={y + 12}>
                  {step ? `${step.event} ${wall(step.at)}` : label.length > 22 ? `${label.slice(0, 21)}…` : label}
                </text>
                <title>{label}</title>
              </g>
            );
          })}
        </svg>
      </div>
      <ol class="path num" aria-label="The way taken">
        {path.map((step, n) => (
          <li key={n}>
            {step.state} <span class="dim">{wall(step.at)}</span>
          </li>
        ))}
      </ol>
    </div>
  );
}
