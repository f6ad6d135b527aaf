// A made-up squareoff for working on the console: the contract's answers over a small day that moves. No dependency.
//   node dev/fake.mjs            http://127.0.0.1:8791/
//   FAKE_PORT=8791  FAKE_ROWS=1000 (that many strategies, changing 5 times a second)  FAKE_LOGIN=password (demo / demo)
//   FAKE_CALM=1 (nothing needs anybody)  FAKE_MUTE=1 (the stream falls silent after 10 s)
import { randomUUID } from "node:crypto";
import { createReadStream, existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const STATIC = join(here, "../../src/squareoff/apps/console/static");
const PORT = Number(process.env.FAKE_PORT ?? 8791);
const MANY = Number(process.env.FAKE_ROWS ?? 0);
const LOGIN = process.env.FAKE_LOGIN ?? "none";
const MACHINE = JSON.parse(readFileSync(join(here, "machine.json"), "utf8"));
const ZONE = "Asia/Kolkata";
const OFFSET_MS = 5.5 * 3600_000;
const LABEL = Object.fromEntries(MACHINE.states.map((s) => [s.state, s.label]));

const iso = (ms) => new Date(ms + OFFSET_MS).toISOString().slice(0, 23) + "+05:30";
// The made-up day begins at 11:04:12 exchange time of today, whatever the real time is.
const dayStart = Math.floor((Date.now() + OFFSET_MS) / 86400_000) * 86400_000 - OFFSET_MS;
const shift = dayStart + (11 * 3600 + 4 * 60 + 12) * 1000 - Date.now();
const now = () => Date.now() + shift;
const at = (h, m, s = 0) => iso(dayStart + ((h * 60 + m) * 60 + s) * 1000);
const fixed = (n, d = 2) => n.toFixed(d);

// ------------------------------------------------------------------ strategies

let nextId = 1;
let nextRun = 41;
const rows = new Map();
const strategies = new Map();
const paths = new Map();

function add(name, symbol, quantity, buy, sell, stop, group, state, more = {}) {
  const id = nextId++;
  const runId = group === "not_started" ? null : nextRun++;
  strategies.set(id, {
    id, name, symbol, quantity, buy_time: buy, sell_time: sell, stop_loss: stop, repeat: "daily", until: null,
    product: "MIS", account: "paper", revision: 1, archived: false,
  });
  const [bh, bm] = buy.split(":").map(Number);
  const [sh, sm] = sell.split(":").map(Number);
  rows.set(id, {
    id, name, symbol, account: "paper", group, state, label: LABEL[state], exposure: "flat", exposure_label: "you hold nothing",
    words: "", next: "", run_id: runId, quantity, filled: "0", held: "0", price: null, entry_price: null, stop_price: null,
    stop_distance: null, gain: null, pnl: null, buy_at: at(bh, bm), sell_at: at(sh, sm), guard: "", armed: null, red: null,
    skipped: false, moving: null, pending: null, revision: 1, stop_loss: stop, quantity_wanted: quantity, ...more,
  });
  if (runId !== null) paths.set(runId, pathTo(state, bh, bm));
  return id;
}

function pathTo(state, h, m) {
  const steps = [{ state: "created", at: at(8, 40), event: "" }, { state: "ready", at: at(9, 0, 3), event: "START" }];
  const then = (s, event, sec) => steps.push({ state: s, at: at(h, m, sec), event });
  if (["ready", "created"].includes(state)) return steps;
  if (state === "failed") return then("failed", "SKIP", 5), steps;
  then("running", "BUY", 0);
  if (state === "running") return steps;
  then("bought", "FILLED", 1);
  if (state === "sold") return then("sell_pending", "SELL", 20), then("sold", "FILLED", 22), steps;
  if (state === "exited_by_sl") return then("sl_pending", "STOPLOSS", 31), then("exited_by_sl", "FILLED", 32), steps;
  if (state.endsWith("_pending")) then(state, { sl_pending: "STOPLOSS", sell_pending: "SELL", stop_pending: "STOP" }[state], 30);
  return steps;
}

function holding(name, symbol, qty, entry, stop, price) {
  const id = add(name, symbol, String(qty), "09:20:00", "15:15:00", "1.5%", "holding", "bought", {
    exposure: "long", exposure_label: "you hold shares", filled: String(qty), held: String(qty), entry_price: fixed(entry),
    stop_price: fixed(stop), guard: "squareoff", next: "SELL at 15:15, or at once at the stop-loss",
    words: `holds ${qty} ${symbol}, bought at ${fixed(entry)}`,
  });
  priced(rows.get(id), price);
  return id;
}

function priced(row, price) {
  const [p, s, e, q] = [price, Number(row.stop_price), Number(row.entry_price), Number(row.held)];
  row.price = fixed(p);
  row.stop_distance = fixed(((p - s) / p) * 100, 4);
  row.gain = fixed((p - e) * q);
}

const waiting = (name, symbol, qty, buy, more = {}) =>
  add(name, symbol, String(qty), buy, "15:10:00", "1%", "waiting", "ready", {
    armed: true, price: "412.30", words: `waits to buy ${qty} ${symbol}`, next: `BUY ${qty} ${symbol} at ${buy.slice(0, 5)}`, ...more,
  });

if (MANY > 0) {
  for (let n = 0; n < MANY; n++) holding(`rule-${String(n).padStart(4, "0")}`, `NSE:SYM${n % 97}`, 10 + n, 1000 + n, 985 + n, 990 + n + (n % 30));
} else {
  holding("infy-morning", "NSE:INFY", 50, 1562.4, 1540.05, 1548.2);
  holding("itc-swing", "NSE:ITC", 200, 431.1, 424.65, 436.8);
  holding("tcs-open", "NSE:TCS", 12, 3890, 3831.65, 3921.5);
  add("sbin-dip", "NSE:SBIN", "120", "11:04:00", "15:10:00", "6pts", "moving", "running", {
    exposure: "unknown", exposure_label: "you may hold shares", filled: "70", held: "70", price: "812.40", words: "buying 120 NSE:SBIN, 70 filled so far",
    moving: { side: "BUY", since: iso(now() - 4000), filled: "70", wanted: "120", attempt: 1, client_order_id: "SQ00044E1", broker_order_id: "251128000412" },
  });
  waiting("hdfc-noon", "NSE:HDFCBANK", 40, "12:00:00");
  waiting("reliance-late", "NSE:RELIANCE", 15, "13:30:00", {
    armed: false, red: { name: "feed", text: "no price of NSE:RELIANCE for 48 s", mend: "look at the feed's log; squareoff reconnects by itself every 5 s" },
  });
  waiting("wipro-close", "NSE:WIPRO", 300, "14:45:00");
  add("lt-gap", "NSE:LT", "8", "09:20:00", "10:30:00", "2%", "done", "sold", { pnl: "412.80", words: "sold 8 at 3,612.10, bought at 3,560.50", entry_price: "3560.50", held: "0", filled: "8" });
  add("axis-fade", "NSE:AXISBANK", "60", "09:45:00", "15:00:00", "1%", "done", "exited_by_sl", { pnl: "-702.00", words: "out at the stop-loss: sold 60 at 1,158.30", filled: "60" });
  add("ongc-open", "NSE:ONGC", "400", "09:15:00", "15:00:00", "1%", "done", "failed", { skipped: true, words: "skipped, you hold nothing: no fresh price at BUY time" });
  add("maruti-plan", "NSE:MARUTI", "3", "09:20:00", "15:15:00", "1.5%", "not_started", "created", { words: "saved, not started", next: "START it to buy on the next trading day" });
}

const accounts = [{ id: "paper", broker: "paper", level: "normal", level_reason: "", level_by: "", level_at: null, worker: true }];
let limits = { max_order_qty: "1000", max_order_value: "500000", max_open_positions: 10, max_orders_per_day: 200, max_loss_per_day: "5000", square_off_at_loss: false };
let needs = MANY > 0 || process.env.FAKE_CALM ? [] : [
  { key: "run:44", severity: "alarm", text: "sbin-dip: the BUY is not confirmed; you may hold 120 NSE:SBIN.", since: iso(now() - 4000),
    doing: "looking the order up every 5 s; nothing is sent until we know.", todo: "If this is still here at 11:10, look in the broker's order book for SQ00044E1.", strategy_id: 4, run_id: 44, can_acknowledge: true },
  { key: "check:6", severity: "warning", text: "reliance-late will not buy at 13:30: no price of NSE:RELIANCE for 48 s.", since: iso(now() - 48_000),
    doing: "reconnecting the feed every 5 s.", todo: "Nothing yet; look at the feed's log if it stays.", strategy_id: 6, run_id: null, can_acknowledge: false },
];

const sum = (list, f) => list.reduce((total, one) => total + Number(f(one) ?? 0), 0);

function today() {
  const all = [...rows.values()];
  const inGroup = (name) => all.filter((row) => row.group === name);
  const held = all.filter((row) => Number(row.held) > 0);
  const open = sum(held, (r) => r.gain);
  const closed = sum(all, (r) => r.pnl);
  const pressed = accounts[0].level !== "normal";
  const list = held.slice(0, 4).map((r) => `${r.held} ${r.symbol}`).join(", ");
  return {
    now: iso(now()), zone: ZONE, mode: "PAPER",
    market: { exchange: "NSE", open: true, text: "open until 15:30", next_special: { date: "2026-12-25", text: "Christmas: closed" }, practice: "practice", speed: 1 },
    trust: { up: true, feed_age_s: 0.2, feed_ok: true, text: "prices 0.2 s old" },
    kill: { pressed, text: held.length === 0 ? "would sell nothing: nothing is held" : `would sell ${held.length} positions: ${list}`, accounts: ["paper"], holds: held.length },
    needs,
    day: { pnl: fixed(open + closed), pnl_closed: fixed(closed), pnl_open: fixed(open),
      loss_if_stopped: fixed(closed + sum(held.filter((r) => r.stop_price !== null), (r) => (Number(r.stop_price) - Number(r.entry_price ?? r.price)) * Number(r.held))), left_of_limit: fixed(5000 + Math.min(0, open + closed)), limit: limits.max_loss_per_day },
    guards: [{ account: "paper", who: "squareoff", text: `squareoff guards ${held.length} positions (process 4711)` }],
    broker: [{ account: "paper", state: "same", at: iso(now() - (Date.now() % 5000)), age_s: 3, text: "broker says the same" }],
    accounts,
    groups: {
      moving: inGroup("moving").map((r) => r.id),
      holding: inGroup("holding").sort((a, b) => Number(a.stop_distance) - Number(b.stop_distance)).map((r) => r.id),
      waiting: inGroup("waiting").sort((a, b) => (a.buy_at < b.buy_at ? -1 : 1)).map((r) => r.id),
      done: inGroup("done").map((r) => r.id), not_started: inGroup("not_started").map((r) => r.id),
    },
    rows: Object.fromEntries(all.map((r) => [r.id, r])),
  };
}

// ------------------------------------------------------------------ the stream

const streams = new Set();
let eventId = 0;
let sent = new Map();
let sentParts = {};
const bootedAt = Date.now();
const isMute = () => Boolean(process.env.FAKE_MUTE) && Date.now() - bootedAt > 10_000;

function emit(event, data) {
  if (isMute()) return;
  const text = `id: ${++eventId}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
  for (const stream of streams) stream.write(text);
}

function emitChanges() {
  const whole = today();
  const patch = {};
  const changed = {};
  for (const [id, row] of Object.entries(whole.rows)) {
    const text = JSON.stringify(row);
    if (sent.get(id) !== text) changed[id] = row;
    sent.set(id, text);
  }
  for (const id of sent.keys()) if (!(id in whole.rows)) (changed[id] = null), sent.delete(id);
  for (const [key, value] of Object.entries(whole)) {
    if (key === "rows" || key === "now") continue;
    const text = JSON.stringify(value);
    if (sentParts[key] !== text) patch[key] = value;
    sentParts[key] = text;
  }
  if (Object.keys(changed).length > 0) patch.rows = changed;
  if (Object.keys(patch).length > 0) emit("patch", patch);
}

const journal = [];
function note(kind, text, row = null) {
  const entry = { seq: journal.length + 1, at: iso(now()), account: "paper", kind, engine: "updating", run_id: row?.run_id ?? null, strategy_id: row?.id ?? null, text, data: { price: row?.price ?? null } };
  journal.push(entry);
  emit("journal", { entries: [entry] });
}
const KINDS = ["wish", "timer", "tick", "nothing", "licence", "request", "answer", "fill", "transition", "note"];
for (let n = 0; n < 2500; n++) {
  const row = [...rows.values()][n % rows.size];
  journal.push({ seq: n + 1, at: iso(now() - (2500 - n) * 3000), account: "paper", kind: KINDS[n % KINDS.length], engine: "idle", run_id: row.run_id, strategy_id: row.id, text: `${row.name}: ${["tick at 1,548.20, above the stop-loss", "FILLED 20 of 50 at 1562.40", "ready -> running: buying, not proven yet", "licence granted, fence 7"][n % 4]}`, data: { n } });
}

setInterval(() => {
  for (const row of rows.values()) {
    if (Number(row.held) > 0 && row.stop_price !== null) {
      const price = Number(row.price) * (1 + (Math.random() - 0.5) * 0.0006);
      priced(row, Math.max(price, Number(row.stop_price) * 1.0006));
    }
  }
  emitChanges();
}, MANY > 0 ? 200 : 700);
setInterval(() => emit("beat", { now: iso(now()), feed_age_s: 0.1 + Math.random() * 0.3 }), 1000);
setInterval(() => MANY === 0 && note("tick", "infy-morning: price 1,548.20 is above the stop-loss 1,540.05", rows.get(1)), 4000);

// ------------------------------------------------------------------ what presses do

function finish(row, state, pnl) {
  Object.assign(row, { group: "done", state, label: LABEL[state], exposure: "flat", exposure_label: "you hold nothing", held: "0", gain: null, moving: null, pending: null, guard: "", pnl, words: pnl === null ? "stopped, nothing was bought" : `squared off, P&L gross ${pnl}`, next: "" });
  paths.get(row.run_id)?.push({ state, at: iso(now()), event: pnl === null ? "STOP" : "FILLED" });
  note("transition", `${row.name} -> ${state}: ${LABEL[state]}`, row);
}

function squareOff(row) {
  if (row.group === "waiting") return setTimeout(() => finish(row, "stopped", null), 500);
  row.pending = "STOP";
  setTimeout(() => {
    Object.assign(row, { pending: null, group: "moving", state: "stop_pending", label: LABEL.stop_pending, moving: { side: "SELL", since: iso(now()), filled: "0", wanted: row.held, attempt: 1, client_order_id: `SQ000${row.run_id}X1`, broker_order_id: null } });
    paths.get(row.run_id)?.push({ state: "stop_pending", at: iso(now()), event: "STOP" });
    setTimeout(() => finish(row, "stopped", row.gain ?? "0.00"), 1500);
  }, 600);
}

function start(row) {
  row.pending = "START";
  setTimeout(() => {
    Object.assign(row, { pending: null, group: "waiting", state: "ready", label: LABEL.ready, run_id: nextRun++, armed: true, pnl: null, skipped: false, words: `waits to buy ${row.quantity}`, next: `BUY on the next trading day` });
    paths.set(row.run_id, pathTo("ready", 9, 20));
  }, 800);
}

// ------------------------------------------------------------------ answers

const strategy = (id) => {
  const row = rows.get(id);
  return { ...strategies.get(id), state: row.state, label: row.label, open_run_id: row.group === "done" ? null : row.run_id };
};

function run(id) {
  const row = [...rows.values()].find((one) => one.run_id === id);
  if (!row) return null;
  const q = row.quantity;
  const bought = Number(row.filled) > 0;
  return {
    run_id: id, date: iso(now()).slice(0, 10), strategy_id: row.id, strategy: row.name, symbol: row.symbol, account: "paper", state: row.state, label: row.label,
    outcome: row.group === "done" ? row.state : null, cause: null, cause_label: null, detail: "", exposure: row.exposure, exposure_label: row.exposure_label,
    closed: row.group === "done", quantity: q, held: row.held, stop_price: row.stop_price, entry_price: row.entry_price, exit_price: null, pnl: row.pnl,
    buy_at: row.buy_at, sell_at: row.sell_at, stop_loss: row.stop_loss, zone: ZONE,
    orders: bought ? [{ slot: "entry", attempt: 1, client_order_id: `SQ000${id}E1`, broker_order_id: "251128000318", quantity: q, filled_quantity: row.filled, limit_price: null, phase: "filled", reason: "",
      fills: [{ trade_id: "T1", quantity: row.filled, price: row.entry_price ?? "812.40", at: at(9, 20, 1) }] }] : [],
  };
}

function prices(id) {
  const row = [...rows.values()].find((one) => one.run_id === id);
  if (!row || row.price === null) return { interval_s: 60, bars: [], marks: [], stop_price: null, note: "no price was recorded for this run" };
  const end = Number(row.price);
  const begin = Number(row.entry_price ?? end);
  const t0 = Math.floor((dayStart + 9.25 * 3600_000) / 1000);
  const count = 108;
  let last = begin * 0.998;
  let seed = id * 7919;
  const dice = () => ((seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648);
  const bars = [];
  for (let n = 0; n < count; n++) {
    const aim = begin + ((end - begin) * n) / count;
    const o = last;
    const c = o + (aim - o) * 0.2 + (dice() - 0.5) * begin * 0.0012;
    bars.push({ t: t0 + n * 60, o: fixed(o), h: fixed(Math.max(o, c) + dice() * begin * 0.0005), l: fixed(Math.min(o, c) - dice() * begin * 0.0005), c: fixed(c) });
    last = c;
  }
  const marks = row.entry_price ? [{ t: t0 + 5 * 60, side: "BUY", price: row.entry_price, qty: row.filled }] : [];
  if (row.pnl !== null) marks.push({ t: t0 + 80 * 60, side: "SELL", price: fixed(last), qty: row.filled });
  return { interval_s: 60, bars, marks, stop_price: row.stop_price, note: "" };
}

function wrongFields(f, whole) {
  const wrong = [];
  const say = (field, what, right) => wrong.push({ field, wrong: what, right });
  const missing = (field, right) => (f[field] ?? "") === "" && whole && say(field, "is missing", right);
  missing("symbol", 'exchange and symbol, like "NSE:INFY"');
  missing("quantity", "how many shares, like 50");
  missing("buy_time", 'a time of the day, like "09:20"');
  missing("sell_time", 'a time of the day, like "15:15"');
  missing("stop_loss", 'a price like "1540", a percentage like "1.5%" or points like "4pts"');
  if (f.symbol && !/^[A-Z]+:[A-Z0-9&-]+$/.test(f.symbol)) say("symbol", `${f.symbol} has no exchange`, 'write it with its exchange, like "NSE:INFY"');
  if (f.quantity && !(Number(f.quantity) > 0)) say("quantity", `${f.quantity} is not positive`, "how many shares, like 50");
  if (f.stop_loss && !(parseFloat(f.stop_loss) > 0)) say("stop_loss", `${f.stop_loss} is not positive`, 'a price like "1540", a percentage like "1.5%" or points like "4pts"');
  if (f.buy_time && f.sell_time && f.buy_time >= f.sell_time) say("sell_time", `${f.sell_time} is not after the BUY at ${f.buy_time}`, "a later time, 15:25 at the latest");
  return wrong;
}

function checkAnswer(f) {
  const fields = wrongFields(f, true);
  const good = fields.length === 0;
  const price = 1562.4;
  const q = Number(f.quantity) || 0;
  const share = /%$/.test(f.stop_loss ?? "") ? parseFloat(f.stop_loss) / 100 : 0.015;
  const t = (text) => { const [h, m, s = 0] = text.split(":").map(Number); return at(h, m, s); };
  return {
    fields, warnings: good && q > 500 ? [`${q} is more than any order of yours so far`] : [],
    sentence: good ? `Buy ${q} ${f.symbol} at ${f.buy_time}, sell at ${f.sell_time}, out at once if it falls by ${f.stop_loss}.` : null,
    risk: { value: q > 0 ? fixed(q * price) : null, loss_at_stop: good ? fixed(q * price * share) : null, price: fixed(price), text: "at the last price, 0.2 s old" },
    when: good ? { day: iso(now()).slice(0, 10), opens_at: at(9, 15), buy_at: t(f.buy_time), sell_at: t(f.sell_time), closes_at: at(15, 30), text: "today" } : null,
    lot: "1", tick: "0.05",
    checks: good ? [{ name: "calendar", ok: true, text: "NSE trades next today", mend: "" }, { name: "instrument", ok: true, text: `${f.symbol} is known, tick 0.05`, mend: "" }, { name: "funds", ok: true, text: "1,000,000 free", mend: "" }, { name: "alert_channel", ok: null, text: "no channel is set up", mend: "squareoff alerts add" }] : [],
  };
}

const why = (id) => ({
  run: run(id),
  lines: [
    { section: "story", at: at(9, 0, 3), what: "START", why: "you asked: demo, in the console", tone: "" },
    { section: "story", at: at(9, 20, 0), what: "BUY", why: "BUY time came; last price 1,562.35, 0.1 s old", tone: "" },
    { section: "story", at: at(9, 20, 1), what: "bought", why: "50 at 1,562.40; the stop-loss is 1.5% below: 1,540.05", tone: "green" },
    { section: "story", at: at(10, 12, 44), what: "nothing", why: "1,541.10 is above the stop-loss 1,540.05", tone: "dim" },
    { section: "story", at: at(10, 40, 2), what: "price doubted", why: "1,200.00 is 23 % below the one before: held back until the next one", tone: "yellow" },
    { section: "orders", at: at(9, 20, 0), what: `SQ000${id}E1`, why: "BUY 50 MARKET, acknowledged as 251128000318 after 41 ms", tone: "" },
    { section: "result", at: null, what: "now", why: "holding 50, stop-loss 1,540.05 watched by squareoff", tone: "" },
  ],
});

const sampleResults = [
  { date: "2026-11-20", strategy: "alpha", symbol: "SIM:ALPHA", state: "sold", quantity: "100", entry_time: "2026-11-20T09:20:00+05:30", entry_price: "99.95", exit_time: "2026-11-20T15:15:00+05:30", exit_price: "101.40", stop_price: "98.45", pnl: "145.00", note: "", run_id: 1 },
  { date: "2026-11-20", strategy: "beta", symbol: "SIM:BETA", state: "exited_by_sl", quantity: "40", entry_time: "2026-11-20T09:45:00+05:30", entry_price: "250.10", exit_time: "2026-11-20T11:02:15+05:30", exit_price: "246.05", stop_price: "246.10", pnl: "-162.00", note: "", run_id: 2 },
];
const total = (list) => ({ runs: list.length, states: list.reduce((a, r) => ({ ...a, [r.state]: (a[r.state] ?? 0) + 1 }), {}), open: 0, won: list.filter((r) => Number(r.pnl) > 0).length, lost: list.filter((r) => Number(r.pnl) < 0).length, pnl: fixed(sum(list, (r) => r.pnl)) });
const replays = new Map();
const sessions = [{ id: 1, created_at: at(8, 30), last_seen_at: at(11, 4), about: "Firefox on Linux", current: true }, { id: 2, created_at: at(7, 10), last_seen_at: at(9, 1), about: "Safari on iPhone", current: false }];
const tokens = [{ id: 1, name: "grafana", scope: "read", created_at: at(7, 0), last_used_at: at(11, 3), expires_at: null }];
const users = [{ id: 1, name: "demo", role: "admin", disabled: false }];
const alerts = [{ at: at(9, 45, 32), severity: "warning", headline: "axis-fade: sold 60 NSE:AXISBANK at 1,158.30", text: "the stop-loss was hit; P&L -702.00, gross, before charges", run_id: 49 }];

let signedIn = LOGIN === "none";
const sessionBody = { user: { id: 1, name: "demo", role: "admin" }, csrf: "fake-csrf", login: LOGIN === "password" ? "password" : "link", version: "1.0.0-fake" };
const remembered = new Map();
const fail = (status, code, message, more = {}) => ({ status, body: { error: { code, message, fields: [], request_id: randomUUID().slice(0, 8), ...more } } });
const ok = (body, status = 200) => ({ status, body });
const bad = (fields) => fail(422, "bad_input", `${fields[0].field}: ${fields[0].wrong}; ${fields[0].right}`, { fields });
const page = (list, url, id = "seq") => {
  const before = Number(url.searchParams.get("before") ?? Infinity);
  const limit = Number(url.searchParams.get("limit") ?? 100);
  const some = list.filter((one) => one[id] < before).reverse();
  return { some: some.slice(0, limit), next: some.length > limit ? some[limit - 1][id] : null };
};

const ROUTES = [
  ["GET", /^\/session$/, () => ok(sessionBody)],
  ["DELETE", /^\/sessions?$/, () => ((signedIn = false), ok(null, 204))],
  ["GET", /^\/sessions$/, () => ok({ sessions })],
  ["GET", /^\/tokens$/, () => ok({ tokens })],
  ["POST", /^\/tokens$/, ({ body }) => { if (!body.name) return bad([{ field: "name", wrong: "is missing", right: "a name you will know it by" }]); const t = { id: tokens.length + 1, created_at: iso(now()), last_used_at: null, expires_at: null, name: body.name, scope: body.scope }; tokens.push(t); return ok({ ...t, token: `sqt_${randomUUID()}` }, 201); }],
  ["DELETE", /^\/tokens\/(\d+)$/, ({ id }) => (tokens.splice(tokens.findIndex((t) => t.id === id), 1), ok(null, 204))],
  ["GET", /^\/users$/, () => ok({ users })],
  ["POST", /^\/users$/, ({ body }) => (users.push({ id: users.length + 1, name: body.name, role: body.role, disabled: false }), ok(users.at(-1), 201))],
  ["PATCH", /^\/users\/(\d+)$/, ({ id, body }) => ok(Object.assign(users.find((u) => u.id === id), body))],
  ["PUT", /^\/password$/, ({ body }) => (body.old === "demo" ? ok(null, 204) : bad([{ field: "old", wrong: "is not your password", right: "the one you signed in with" }]))],
  ["GET", /^\/audit$/, () => ok({ entries: [{ id: 1, at: at(9, 0, 3), user: "demo", via: "console", action: "start", target: "strategy 1", detail: "", address: "127.0.0.1" }], next: null })],
  ["GET", /^\/today$/, () => ok(today())],
  ["GET", /^\/strategies$/, () => ok({ strategies: [...strategies.keys()].map(strategy) })],
  ["GET", /^\/strategies\.toml$/, () => ({ status: 200, text: [...strategies.values()].map((s) => `[[strategy]]\nname = "${s.name}"\nsymbol = "${s.symbol}"\n`).join("\n") })],
  ["POST", /^\/strategies$/, ({ body }) => { const wrong = wrongFields(body, true); if (wrong.length > 0) return bad(wrong); const long = (t) => (t.length === 5 ? `${t}:00` : t); const id = add(body.name || body.symbol.split(":")[1].toLowerCase(), body.symbol, body.quantity, long(body.buy_time), long(body.sell_time), body.stop_loss, "not_started", "created", { words: "saved, not started" }); return ok({ ...strategy(id), warnings: [] }, 201); }],
  ["POST", /^\/strategies\/import$/, () => ok({ strategies: [], warnings: ["the fake imports nothing"] }, 201)],
  ["POST", /^\/strategies\/check$/, ({ body }) => ok(checkAnswer(body))],
  ["GET", /^\/strategies\/(\d+)$/, ({ id }) => (rows.has(id) ? ok({ ...strategy(id), runs: rows.get(id).run_id === null ? [] : [run(rows.get(id).run_id)] }) : fail(404, "not_found", `there is no strategy ${id}`))],
  ["PUT", /^\/strategies\/(\d+)$/, ({ id, body }) => { const s = strategies.get(id); if (body.revision !== s.revision) return fail(409, "conflict", "it was changed in another tab meanwhile", { current: strategy(id) }); const wrong = wrongFields(body, false); if (wrong.length > 0) return bad(wrong); const { revision, ...changes } = body; Object.assign(s, changes, { revision: revision + 1 }); Object.assign(rows.get(id), { revision: revision + 1, stop_loss: s.stop_loss, quantity: s.quantity }); return ok(strategy(id)); }],
  ["POST", /^\/strategies\/(\d+)\/edit-preview$/, ({ id, body }) => { const wrong = wrongFields(body, false); if (wrong.length > 0) return bad(wrong); return ok({ changes: Object.entries(body).filter(([k, v]) => k !== "revision" && String(strategies.get(id)[k]) !== String(v)).map(([field, v]) => ({ field, old: strategies.get(id)[field], new: v, when: ["stop_loss", "sell_time"].includes(field) ? "at once, for what is held too" : "from the next run on" })) }); }],
  ["POST", /^\/strategies\/(\d+)\/start$/, ({ id }) => (accounts[0].level !== "normal" ? ok({ result: "refused", text: "the kill switch is pressed: release it in Settings first", run_id: null }) : (start(rows.get(id)), ok({ result: "saved", text: "the worker takes it up", run_id: null })))],
  ["POST", /^\/strategies\/(\d+)\/stop$/, ({ id }) => (squareOff(rows.get(id)), ok({ result: "saved", text: "selling at once" }))],
  ["POST", /^\/strategies\/(\d+)\/duplicate$/, ({ id, body }) => { const s = strategies.get(id); const copy = add(body.name, s.symbol, s.quantity, s.buy_time, s.sell_time, s.stop_loss, "not_started", "created", { words: "saved, not started" }); return ok(strategy(copy), 201); }],
  ["DELETE", /^\/strategies\/(\d+)$/, ({ id }) => (["done", "not_started"].includes(rows.get(id).group) ? (rows.delete(id), ok(null, 204)) : fail(422, "bad_input", "its run is not closed: stop it first"))],
  ["POST", /^\/strategies\/(\d+)\/acknowledge$/, ({ id }) => ((needs = needs.map((n) => (n.strategy_id === id ? { ...n, can_acknowledge: false } : n))), ok({ text: "seen" }))],
  ["GET", /^\/strategies\/(\d+)\/preflight$/, ({ id }) => ok({ checks: checkAnswer(strategies.get(id)).checks })],
  ["GET", /^\/templates$/, () => ok({ templates: [
    { name: "intraday", title: "Morning to close", about: "buy after the open, sell before the close", fields: { quantity: "10", buy_time: "09:20", sell_time: "15:15", stop_loss: "1.5%", repeat: "daily", product: "MIS" } },
    { name: "afternoon", title: "Afternoon only", about: "the last two hours", fields: { quantity: "10", buy_time: "13:30", sell_time: "15:20", stop_loss: "1%", repeat: "once", product: "MIS" } }] })],
  ["GET", /^\/runs\/(\d+)$/, ({ id }) => (run(id) ? ok(run(id)) : fail(404, "not_found", `there is no run ${id}`))],
  ["GET", /^\/runs$/, () => ok({ runs: [], next: null })],
  ["GET", /^\/runs\/(\d+)\/why$/, ({ id }) => ok(why(id))],
  ["GET", /^\/runs\/(\d+)\/states$/, ({ id }) => ok({ path: paths.get(id) ?? [] })],
  ["GET", /^\/runs\/(\d+)\/prices$/, ({ id }) => ok(prices(id))],
  ["GET", /^\/journal$/, ({ url }) => { const q = (url.searchParams.get("q") ?? "").toLowerCase(); const kind = url.searchParams.get("kind"); const list = journal.filter((e) => e.text.toLowerCase().includes(q) && (!kind || e.kind === kind)); const { some, next } = page(list, url); return ok({ entries: some, next }); }],
  ["GET", /^\/instruments$/, ({ url }) => ok({ instruments: ["NSE:INFY", "NSE:ITC", "NSE:TCS", "NSE:SBIN", "NSE:HDFCBANK"].filter((s) => s.includes((url.searchParams.get("q") ?? "").toUpperCase())).map((symbol) => ({ symbol, kind: "equity", lot: "1", tick_size: "0.05" })) })],
  ["GET", /^\/machine$/, () => ok(MACHINE)],
  ["GET", /^\/accounts$/, () => ok({ accounts: accounts.map((a) => ({ ...a, limits, funds: "1000000.00" })) })],
  ["POST", /^\/accounts$/, ({ body }) => (accounts.push({ ...accounts[0], id: body.name, level: "normal" }), ok(accounts.at(-1), 201))],
  ["PUT", /^\/accounts\/(\w+)\/limits$/, ({ body }) => (body.max_loss_per_day !== null && !(Number(body.max_loss_per_day) > 0) ? bad([{ field: "max_loss_per_day", wrong: `${body.max_loss_per_day} is not positive`, right: "an amount like 5000, or nothing for no limit" }]) : ((limits = body), ok(limits)))],
  ["POST", /^\/kill$/, ({ body }) => { setTimeout(() => { Object.assign(accounts[0], { level: body.level, level_reason: body.reason, level_by: "demo", level_at: iso(now()) }); if (body.level === "square_off") for (const row of rows.values()) if (["holding", "waiting"].includes(row.group)) squareOff(row); }, 400); return ok({ accounts: [{ account: "paper", file: true, database: true }], would_sell: [] }); }],
  ["POST", /^\/accounts\/(\w+)\/release$/, ({ body }) => (body.reason ? (Object.assign(accounts[0], { level: "normal", level_reason: body.reason }), ok(accounts[0])) : bad([{ field: "reason", wrong: "is missing", right: "why it may trade again" }]))],
  ["GET", /^\/alerts$/, () => ok({ alerts, channels: [{ channel: "tgram", minimum: "warning" }] })],
  ["POST", /^\/alerts\/test$/, () => ok({ sent: [{ channel: "tgram", delivered: true, reason: "" }] })],
  ["POST", /^\/replays$/, () => { const id = replays.size + 1; replays.set(id, Date.now()); return ok({ id, state: "running" }, 202); }],
  ["GET", /^\/replays\/(\d+)$/, ({ id }) => ok(Date.now() - replays.get(id) < 1500 ? { id, state: "running", error: "", results: [], totals: {}, oddities: [], ticks: 0 } : { id, state: "done", error: "", results: sampleResults, totals: { ...total(sampleResults), strategies: { alpha: total(sampleResults.slice(0, 1)), beta: total(sampleResults.slice(1)) } }, oddities: ["SIM:BETA: 1 minute is missing"], ticks: 3000 })],
  ["GET", /^\/settings$/, () => ok({ data_folder: "/data/.local/share/squareoff", database: "sqlite", redis: "embedded, valkey 9.1", version: "1.0.0-fake", channels: ["tgram"], users: 1, zone: ZONE })],
  ["GET", /^\/readiness$/, () => ok({ ready: true, checks: [{ name: "sql", ok: true, text: "answers in 0.4 ms" }] })],
  ["GET", /^\/calendar$/, () => ok({ exchange: "NSE", zone: ZONE, days: [], problem: "" })],
];

function api(request, url, body) {
  const path = url.pathname.slice("/api/v1".length);
  if (path === "/session" && request.method === "POST") {
    if (body.key === "good" || (body.name === "demo" && body.password === "demo")) return (signedIn = true), ok(sessionBody, 201);
    return fail(401, "unauthenticated", body.key ? "this link was used or is too old" : "name or password is wrong", { login: sessionBody.login });
  }
  if (!signedIn) return fail(401, "unauthenticated", "you are not signed in", { login: sessionBody.login });
  if (request.method !== "GET" && request.headers["x-csrf-token"] !== "fake-csrf") return fail(403, "forbidden", "the CSRF token is wrong");
  const key = request.headers["idempotency-key"];
  if (key && remembered.has(key)) return remembered.get(key);
  for (const [method, pattern, answer] of ROUTES) {
    const found = method === request.method ? pattern.exec(path) : null;
    if (found === null) continue;
    const result = answer({ url, body, id: Number(found[1]) });
    if (key) remembered.set(key, result);
    setImmediate(emitChanges);
    return result;
  }
  return fail(404, "not_found", `the fake has no ${request.method} ${path}`);
}

const TYPES = { ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8", ".html": "text/html; charset=utf-8" };
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

function serveFile(response, path) {
  const file = join(STATIC, normalize(path).replace(/^(\.\.[/\\])+/, ""));
  if (!file.startsWith(STATIC) || !existsSync(file)) return response.writeHead(404).end();
  response.writeHead(200, { "Content-Type": TYPES[extname(file)] ?? "application/octet-stream", "Content-Security-Policy": CSP, "X-Content-Type-Options": "nosniff" });
  createReadStream(file).pipe(response);
}

createServer((request, response) => {
  const url = new URL(request.url, "http://fake");
  if (url.pathname === "/api/v1/events") {
    if (!signedIn) return response.writeHead(401).end();
    response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
    response.write(`id: ${++eventId}\nevent: today\ndata: ${JSON.stringify(today())}\n\n`);
    streams.add(response);
    return request.on("close", () => streams.delete(response));
  }
  if (!url.pathname.startsWith("/api/")) return serveFile(response, url.pathname.startsWith("/static/") ? url.pathname.slice(7) : "/index.html");
  let text = "";
  request.on("data", (part) => (text += part));
  request.on("end", () => {
    const { status, body, text: plain } = api(request, url, text === "" ? {} : JSON.parse(text));
    response.writeHead(status, { "Content-Type": plain === undefined ? "application/json" : "text/plain", "Cache-Control": "no-store" });
    response.end(plain ?? (status === 204 ? "" : JSON.stringify(body)));
  });
}).listen(PORT, "127.0.0.1", () => console.log(`http://127.0.0.1:${PORT}/`));
