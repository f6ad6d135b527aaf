/** What happened: the journal with search, the alerts, and who did what. */

import { useEffect, useRef, useState } from "preact/hooks";
import { asApiError, get } from "../api";
import type { JournalEntry } from "../contract";
import { Dialog, Instant, Problem, useGet } from "../parts/small";
import { VirtualList } from "../parts/virtual";
import { onJournal } from "../stream";
import { usePick } from "../store";

const TABS = [
  ["", "Journal"],
  ["alerts", "Alerts"],
  ["audit", "Who did what"],
] as const;
const KINDS = [
  "wish", "timer", "tick", "nothing", "claim", "licence", "request", "answer", "fill", "look_up", "transition", "saved",
  "release", "retry", "alert", "redis", "recovery", "note",
] as const;
const PAGE = 200;
const KEPT = 5000;
const SEARCH_AFTER_MS = 250;

export function ActivityView({ rest }: { rest: string }) {
  return (
    <>
      <div class="head">
        <h1>Activity</h1>
        <div class="tabs" role="navigation" aria-label="Activity">
          {TABS.map(([tab, label]) => (
            <a key={tab} href={`#/activity${tab === "" ? "" : `/${tab}`}`} aria-current={rest === tab ? "page" : undefined}>
              {label}
            </a>
          ))}
        </div>
      </div>
      {rest === "alerts" ? <Alerts /> : rest === "audit" ? <Audit /> : <Journal />}
    </>
  );
}

interface Page {
  entries: JournalEntry[];
  next: number | null;
}

function Journal() {
  const [q, setQ] = useState("");
  const [kind, setKind] = useState("");
  const [page, setPage] = useState<Page | null>(null);
  const [problem, setProblem] = useState("");
  const [chosen, setChosen] = useState<JournalEntry | null>(null);
  const asked = useRef(0);
  const phone = window.matchMedia("(max-width: 899px)").matches;

  const load = async (before: number | null, old: JournalEntry[]) => {
    const mine = ++asked.current;
    const search = new URLSearchParams({ limit: String(PAGE) });
    if (q.trim() !== "") search.set("q", q.trim());
    if (kind !== "") search.set("kind", kind);
    if (before !== null) search.set("before", String(before));
    try {
      const some = await get<Page>(`/journal?${search}`);
      if (mine !== asked.current) return; // another search was begun meanwhile
      setPage({ entries: [...old, ...some.entries], next: some.next });
      setProblem("");
    } catch (thrown) {
      if (mine === asked.current) setProblem(asApiError(thrown).sentence);
    }
  };

  useEffect(() => {
    const timer = window.setTimeout(() => void load(null, []), q === "" ? 0 : SEARCH_AFTER_MS);
    return () => window.clearTimeout(timer);
  }, [q, kind]);

  useEffect(
    () =>
      onJournal((entries) => {
        const wanted = q.trim().toLowerCase();
        const fits = entries.filter(
          (one) => (kind === "" || one.kind === kind) && (wanted === "" || one.text.toLowerCase().includes(wanted)),
        );
        if (fits.length === 0) return;
        setPage((old) => {
          if (old === null) return old;
          const newest = old.entries[0]?.seq ?? 0;
          const fresh = fits.filter((one) => one.seq > newest).sort((a, b) => b.seq - a.seq);
          return { ...old, entries: [...fresh, ...old.entries].slice(0, Math.max(KEPT, old.entries.length)) };
        });
      }),
    [q, kind],
  );

  const entries = page?.entries ?? [];
  return (
    <section class="panel" aria-label="Journal" data-testid="journal">
      <div class="filters">
        <div class="field">
          <label for="journal-q">Search the text</label>
          <input id="journal-q" type="search" data-testid="journal-search" value={q} onInput={(e) => setQ(e.currentTarget.value)} />
        </div>
        <div class="field">
          <label for="journal-kind">Kind</label>
          <select id="journal-kind" data-testid="journal-kind" value={kind} onChange={(e) => setKind(e.currentTarget.value)}>
            <option value="">every kind</option>
            {KINDS.map((one) => (
              <option key={one} value={one}>
                {one.replace("_", " ")}
              </option>
            ))}
          </select>
        </div>
        <span class="dim">newest first; new lines come in by themselves</span>
      </div>
      <Problem text={problem} />
      {page !== null && entries.length === 0 && <p class="dim">No line fits.</p>}
      <VirtualList
        items={entries}
        height={phone ? 46 : 32}
        keyOf={(entry) => entry.seq}
        render={(entry) => <Line entry={entry} onOpen={() => setChosen(entry)} />}
        label="Journal"
      />
      {page?.next != null && (
        <button class="new-lines" data-testid="journal-older" onClick={() => void load(page.next, entries)}>
          Older lines
        </button>
      )}
      {chosen !== null && <EntryDialog entry={chosen} onClose={() => setChosen(null)} />}
    </section>
  );
}

function Line({ entry, onOpen }: { entry: JournalEntry; onOpen: () => void }) {
  const name = usePick((s) => (entry.strategy_id === null ? "" : (s.today?.rows[entry.strategy_id]?.name ?? `strategy ${entry.strategy_id}`)));
  return (
    <div class="entry">
      <Instant at={entry.at} />
      <span class="kind">{entry.kind.replace("_", " ")}</span>
      <span class="entry-text" title={entry.text}>
        {name !== "" && <b>{name}: </b>}
        {entry.text}
      </span>
      <button class="icon" aria-label={`More of line ${entry.seq}`} onClick={onOpen}>
        <span aria-hidden="true">⋯</span>
      </button>
    </div>
  );
}

function EntryDialog({ entry, onClose }: { entry: JournalEntry; onClose: () => void }) {
  return (
    <Dialog title={`Journal line ${entry.seq}`} onClose={onClose}>
      <p>{entry.text}</p>
      <dl class="about">
        <dt>At</dt>
        <dd>
          <Instant at={entry.at} day />
        </dd>
        <dt>Kind</dt>
        <dd>{entry.kind}</dd>
        {entry.engine !== null && (
          <>
            <dt>Engine</dt>
            <dd>{entry.engine}</dd>
          </>
        )}
        {entry.account !== null && (
          <>
            <dt>Account</dt>
            <dd>{entry.account}</dd>
          </>
        )}
        {entry.strategy_id !== null && (
          <>
            <dt>Strategy</dt>
            <dd>
              <a href={`#/strategy/${entry.strategy_id}`} onClick={onClose}>
                {entry.strategy_id}, run {entry.run_id ?? "none"}
              </a>
            </dd>
          </>
        )}
      </dl>
      <pre class="scroll-x" tabIndex={0}>
        {JSON.stringify(entry.data, null, 1)}
      </pre>
      <div class="buttons">
        <button onClick={onClose}>Close</button>
      </div>
    </Dialog>
  );
}

interface Alert {
  at: string;
  severity: string;
  headline: string;
  text: string;
  run_id: number | null;
}

function Alerts() {
  const needs = usePick((s) => s.today?.needs); // a new need is often a new alert
  const answer = useGet<{ alerts: Alert[] }>("/alerts?limit=200", needs);
  const alerts = answer.value?.alerts ?? [];
  return (
    <section class="panel" aria-label="Alerts">
      <Problem text={answer.problem} />
      {answer.value !== null && alerts.length === 0 && <p class="dim">No alert yet.</p>}
      <ul>
        {alerts.map((one, n) => (
          <li key={n} class={`need need-${one.severity === "alarm" || one.severity === "critical" ? "alarm" : "warning"}`}>
            <div>
              <p class="need-text">
                {one.headline} <span class="since">{one.severity}</span>
              </p>
              <p>{one.text}</p>
            </div>
            <Instant at={one.at} day />
          </li>
        ))}
      </ul>
    </section>
  );
}

interface AuditEntry {
  id: number;
  at: string;
  user: string | null;
  via: string;
  action: string;
  target: string;
  detail: unknown;
  address: string | null;
}

function Audit() {
  const [before, setBefore] = useState<number | null>(null);
  const answer = useGet<{ entries: AuditEntry[]; next: number | null }>(`/audit?limit=100${before === null ? "" : `&before=${before}`}`);
  const page = answer.value;
  return (
    <section class="panel" aria-label="Who did what">
      <Problem text={answer.problem} />
      {page !== null && page.entries.length === 0 && <p class="dim">Nothing yet.</p>}
      <div class="scroll-x" tabIndex={0} role="region" aria-label="Who did what, table">
        <table>
          <thead>
            <tr>
              <th>At</th>
              <th>Who</th>
              <th>By</th>
              <th>What</th>
              <th>To</th>
              <th>Detail</th>
              <th>From</th>
            </tr>
          </thead>
          <tbody>
            {page?.entries.map((one) => (
              <tr key={one.id}>
                <td>
                  <Instant at={one.at} day />
                </td>
                <td>{one.user ?? "nobody"}</td>
                <td>{one.via}</td>
                <td>{one.action}</td>
                <td>{one.target}</td>
                <td>{typeof one.detail === "string" ? one.detail : JSON.stringify(one.detail)}</td>
                <td>{one.address ?? ""}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <div class="buttons">
        {before !== null && <button onClick={() => setBefore(null)}>Newest</button>}
        {page?.next != null && <button onClick={() => setBefore(page.next)}>Older</button>}
      </div>
    </section>
  );
}
