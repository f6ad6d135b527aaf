/** The API's answers (v1), as its contract writes them. Money and quantities are text, so that they stay exact. */

export type Iso = string;

export interface FieldError {
  field: string;
  wrong: string;
  right: string;
}

export interface Session {
  user: { id: number; name: string; role: "admin" | "trader" };
  csrf: string;
  login: "link" | "password";
  version: string;
}

export interface Need {
  key: string;
  severity: "alarm" | "warning";
  text: string;
  since: Iso | null;
  doing: string;
  todo: string;
  strategy_id: number | null;
  run_id: number | null;
  can_acknowledge: boolean;
}

export interface Moving {
  side: "BUY" | "SELL";
  since: Iso;
  filled: string;
  wanted: string;
  attempt: number;
  client_order_id: string;
  broker_order_id: string | null;
}

export interface Row {
  id: number;
  name: string;
  symbol: string;
  account: string;
  group: GroupName;
  state: string;
  label: string;
  exposure: string;
  exposure_label: string;
  words: string;
  next: string;
  run_id: number | null;
  quantity: string;
  filled: string;
  held: string;
  price: string | null;
  entry_price: string | null;
  stop_price: string | null;
  stop_distance: string | null;
  gain: string | null;
  pnl: string | null;
  buy_at: Iso | null;
  sell_at: Iso | null;
  guard: string;
  armed: boolean | null;
  red: { name: string; text: string; mend: string } | null;
  skipped: boolean;
  moving: Moving | null;
  pending: "START" | "STOP" | "KILL" | "HAND_OVER" | null;
  revision: number;
  stop_loss: string;
  quantity_wanted: string;
}

export type GroupName = "moving" | "holding" | "waiting" | "done" | "not_started";

export interface Account {
  id: string;
  broker: string;
  level: "normal" | "no_entries" | "square_off";
  level_reason: string | null;
  level_by: string | null;
  level_at: Iso | null;
  worker: boolean;
}

export interface Day {
  pnl: string | null;
  pnl_closed: string | null;
  pnl_open: string | null;
  loss_if_stopped: string | null;
  left_of_limit: string | null;
  limit: string | null;
}

export interface Today {
  now: Iso;
  zone: string;
  mode: string;
  market: {
    exchange: string;
    open: boolean;
    text: string;
    next_special: { date: string; text: string } | null;
    practice: string;
    speed: number;
  };
  trust: { up: boolean; feed_age_s: number | null; feed_ok: boolean | null; text: string };
  kill: { pressed: boolean; text: string; accounts: string[]; holds: number };
  needs: Need[];
  day: Day;
  guards: { account: string; who: "squareoff" | "nobody"; text: string }[];
  broker: { account: string; state: "same" | "differs" | "unknown"; at: Iso | null; age_s: number | null; text: string }[];
  accounts: Account[];
  groups: Record<GroupName, number[]>;
  rows: Record<string, Row>;
}

/**
 * Top-level keys that changed, whole; `rows` holds only the rows that changed, null = gone, and of each only the fields
 * that changed: all of them for a new one.
 */
export type Patch = Partial<Omit<Today, "rows">> & { rows?: Record<string, Partial<Row> | null> };

export interface Beat {
  now: Iso;
  feed_age_s?: number | null;
}

export interface JournalEntry {
  seq: number;
  at: Iso;
  account: string | null;
  kind: string;
  engine: string | null;
  run_id: number | null;
  strategy_id: number | null;
  text: string;
  data: unknown;
}

export interface StrategyFields {
  name?: string;
  symbol?: string;
  quantity?: string;
  buy_time?: string;
  sell_time?: string;
  stop_loss?: string;
  repeat?: string;
  until?: string | null;
  product?: string;
  account?: string;
}

export interface Strategy extends Required<StrategyFields> {
  id: number;
  revision: number;
  state: string;
  label: string;
  open_run_id: number | null;
}

export interface Check {
  name: string;
  ok: boolean | null;
  text: string;
  mend: string;
}

export interface CheckAnswer {
  fields: FieldError[];
  warnings: string[];
  sentence: string | null;
  risk: { value: string | null; loss_at_stop: string | null; price: string | null; text: string } | null;
  when: {
    day: string;
    opens_at: Iso;
    buy_at: Iso;
    sell_at: Iso;
    closes_at: Iso;
    text: string;
  } | null;
  lot: string | null;
  tick: string | null;
  checks: Check[];
}

export interface Change {
  field: string;
  old: string | null;
  new: string | null;
  when: string;
}

export interface Fill {
  trade_id: string;
  quantity: string;
  price: string;
  at: Iso;
}

export interface Order {
  slot: "entry" | "exit";
  attempt: number;
  client_order_id: string;
  broker_order_id: string | null;
  quantity: string;
  filled_quantity: string;
  limit_price: string | null;
  phase: string;
  reason: string | null;
  fills: Fill[];
}

export interface Run {
  run_id: number;
  date: string;
  strategy_id: number;
  strategy: string;
  symbol: string;
  account: string;
  state: string;
  label: string;
  outcome: string | null;
  cause: string | null;
  cause_label: string | null;
  detail: string;
  exposure: string;
  exposure_label: string;
  closed: boolean;
  quantity: string;
  held: string;
  stop_price: string | null;
  entry_price: string | null;
  exit_price: string | null;
  pnl: string | null;
  buy_at: Iso;
  sell_at: Iso;
  stop_loss: string;
  zone: string;
  orders: Order[];
}

export interface WhyLine {
  section: "story" | "orders" | "result";
  at: Iso | null;
  what: string;
  why: string;
  tone: "" | "dim" | "green" | "yellow" | "bold red";
}

export interface PathStep {
  state: string;
  at: Iso;
  event: string;
}

export interface Prices {
  interval_s: number;
  bars: { t: number; o: string | number; h: string | number; l: string | number; c: string | number }[];
  marks: { t: number; side: "BUY" | "SELL" | "STOP-LOSS"; price: string; qty: string }[];
  stop_price: string | null;
  note: string;
}

export interface Machine {
  states: { state: string; label: string; final: boolean }[];
  transitions: { from: string; event: string; to: string; label: string }[];
  exposures: Record<string, string>;
  causes: Record<string, string>;
}

export interface Template {
  name: string;
  title: string;
  about: string;
  fields: StrategyFields;
}

export interface Limits {
  max_order_qty: string | null;
  max_order_value: string | null;
  max_open_positions: number | null;
  max_orders_per_day: number | null;
  max_loss_per_day: string | null;
  square_off_at_loss: boolean;
}

export interface AccountDetail extends Account {
  limits: Limits;
  funds: string | null;
}

export interface ReplayRow {
  date: string;
  strategy: string;
  symbol: string;
  state: string;
  quantity: string;
  entry_time: Iso | null;
  entry_price: string | null;
  exit_time: Iso | null;
  exit_price: string | null;
  stop_price: string | null;
  pnl: string | null;
  note: string;
}

export interface ReplayTotal {
  runs: number;
  states: Record<string, number>;
  open: number;
  won: number;
  lost: number;
  pnl: string;
}

export interface Replay {
  id: number | string;
  state: "running" | "done" | "failed";
  error?: string | null;
  results?: ReplayRow[];
  totals?: ReplayTotal & { strategies?: Record<string, ReplayTotal> };
  oddities?: string[];
  ticks?: number;
}
