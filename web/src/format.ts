/** Amounts, quantities and times as a trader reads them. Text in, text out: no number is rounded through a float. */

const MINUS = "−";

function grouped(digits: string): string {
  return digits.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

function split(text: string): { negative: boolean; whole: string; part: string } {
  const negative = text.startsWith("-");
  const [whole = "0", part = ""] = text.replace(/^[-+]/, "").split(".");
  return { negative, whole, part };
}

/** `1,540.05`: at least two decimals. */
export function money(text: string | null | undefined): string {
  if (text === null || text === undefined || text === "") return "not known";
  const { negative, whole, part } = split(text);
  return `${negative ? MINUS : ""}${grouped(whole)}.${part.padEnd(2, "0")}`;
}

/** With its sign: what was made or lost. */
export function signed(text: string | null | undefined): string {
  if (text === null || text === undefined || text === "") return "not known";
  return signOf(text) > 0 ? `+${money(text)}` : money(text);
}

export function quantity(text: string | null | undefined): string {
  if (text === null || text === undefined || text === "") return "not known";
  const { negative, whole, part } = split(text);
  const kept = part.replace(/0+$/, "");
  return `${negative ? MINUS : ""}${grouped(whole)}${kept === "" ? "" : `.${kept}`}`;
}

export function signOf(text: string | null | undefined): -1 | 0 | 1 {
  if (!text) return 0;
  const value = Number(text);
  return value > 0 ? 1 : value < 0 ? -1 : 0;
}

export const toneOf = (text: string | null | undefined): string => ["loss", "", "gain"][signOf(text) + 1] ?? "";

/** The exchange's wall clock stands in the text itself: the API writes instants with the exchange's offset. */
export const wall = (iso: string): string => iso.slice(11, 19);
export const wallShort = (iso: string): string => (iso.slice(17, 19) === "00" ? iso.slice(11, 16) : iso.slice(11, 19));
export const dayOf = (iso: string): string => iso.slice(0, 10);

const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** `Mon 30 Nov 2026` */
export function dayWords(date: string): string {
  const [y = 0, m = 1, d = 1] = date.slice(0, 10).split("-").map(Number);
  const weekday = DAYS[new Date(Date.UTC(y, m - 1, d)).getUTCDay()];
  return `${weekday} ${d} ${MONTHS[m - 1]} ${y}`;
}

const ownZone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const ownClock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** The user's own time of an instant, for the title of what is shown in exchange time. */
export function ownTime(iso: string): string {
  const at = new Date(iso);
  return Number.isNaN(at.getTime()) ? "" : `your time: ${ownClock.format(at)} (${ownZone})`;
}

/** How long: `0.2 s`, `12 s`, `3 min 05 s`, `2 h 05 min`. */
export function span(seconds: number): string {
  const s = Math.max(0, seconds);
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  const two = (n: number) => String(Math.floor(n)).padStart(2, "0");
  if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
  return `${Math.floor(s / 3600)} h ${two((s % 3600) / 60)} min`;
}

export const plural = (n: number, one: string, many = `${one}s`): string => `${n} ${n === 1 ? one : many}`;
