/** The server's stream into the store: many words a frame become one change, and silence becomes NOT LIVE. */

import type { Beat, JournalEntry, Patch, Today } from "./contract";
import { get, ApiError } from "./api";
import { change, current, heard, patched, silentS, type Live } from "./store";

const SILENT_S = 3;
const GIVE_UP_S = 6;
const AGAIN_MS = 1000;

let source: EventSource | null = null;
let openedAt = 0;
let watch: number | undefined;
let look = () => undefined as void;
/** Heard and not shown yet. `at`: when the last of it came, since a page in the background may show it much later. */
let waiting: { today: Today | null; word: Partial<Beat>; at: NonNullable<Live["heardAt"]> } | null = null;

const journalReaders = new Set<(entries: JournalEntry[]) => void>();

export function onJournal(reader: (entries: JournalEntry[]) => void): () => void {
  journalReaders.add(reader);
  return () => journalReaders.delete(reader);
}

export function openStream(onEnd: () => void): void {
  closeStream();
  connect(onEnd);
  look = () => lookAfter(onEnd);
  watch = window.setInterval(look, 200);
  document.addEventListener("visibilitychange", look); // timers of a hidden page are slow
}

export function closeStream(): void {
  source?.close();
  source = null;
  window.clearInterval(watch);
  document.removeEventListener("visibilitychange", look);
  waiting = null;
}

function connect(onEnd: () => void): void {
  source?.close();
  openedAt = performance.now();
  const stream = new EventSource("/api/v1/events");
  source = stream;
  const on = <T>(event: string, take: (data: T) => void) =>
    stream.addEventListener(event, (message) => take(JSON.parse((message as MessageEvent<string>).data) as T));
  on<Today>("today", (today) => later(today, { now: today.now, feed_age_s: today.trust.feed_age_s }));
  on<Patch>("patch", (part) => {
    const before = waiting?.today ?? current().today;
    if (before === null) return;
    const today = patched(before, part);
    const word: Partial<Beat> = part.now === undefined ? {} : { now: part.now };
    if (part.trust) word.feed_age_s = part.trust.feed_age_s;
    later(today, word);
  });
  on<Beat>("beat", (beat) => later(waiting?.today ?? null, beat));
  on<{ entries: JournalEntry[] }>("journal", ({ entries }) => {
    for (const reader of journalReaders) reader(entries);
  });
  stream.addEventListener("bye", () => {
    closeStream();
    onEnd();
  });
}

/** Keep it until the next frame; a hidden page has no frames, so there a timer does. */
function later(today: Today | null, word: Partial<Beat>): void {
  const first = waiting === null;
  waiting = {
    today: today ?? waiting?.today ?? null,
    word: { ...waiting?.word, ...word },
    at: { perf: performance.now(), wall: Date.now() },
  };
  if (!first) return;
  if (document.hidden) window.setTimeout(apply, 100);
  else requestAnimationFrame(apply);
}

function apply(): void {
  if (waiting === null) return;
  const { today, word, at } = waiting;
  waiting = null;
  const live = heard(word, at);
  change(today === null ? { live } : { today, live });
}

function lookAfter(onEnd: () => void): void {
  apply(); // a page hidden between asking for a frame and getting it would keep the words back
  const { live } = current();
  const silent = silentS(live);
  if (silent > SILENT_S && !live.lost) change({ live: { ...live, lost: true } });
  const openFor = (performance.now() - openedAt) / 1000;
  const dead = source?.readyState === EventSource.CLOSED && openFor * 1000 > AGAIN_MS;
  if (dead || (silent > GIVE_UP_S && openFor > GIVE_UP_S)) {
    connect(onEnd);
    void stillSignedIn(onEnd);
  }
}

/** A refused stream looks like a lost one; only /session tells them apart. */
async function stillSignedIn(onEnd: () => void): Promise<void> {
  try {
    await get("/session");
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) {
      closeStream();
      onEnd();
    }
  }
}
