import { useState } from "preact/hooks";
import { act } from "../../api";
import { Checks, Problem, useGet } from "../../parts/small";
import type { Check } from "../../contract";
import { useSaving } from "./saving";

interface Sent {
  channel: string;
  delivered: boolean;
  reason: string;
}

export function AlertsPanel() {
  const answer = useGet<{ channels: { channel: string; minimum: string }[] }>("/alerts?limit=1");
  const [sent, setSent] = useState<Sent[] | null>(null);
  const form = useSaving();
  const channels = answer.value?.channels ?? [];
  const test = () =>
    void form.save(async () => {
      setSent((await act<{ sent: Sent[] }>("/alerts/test", {})).sent);
      return "";
    });
  return (
    <section class="panel" aria-labelledby="alerts-heading" data-testid="alert-channels">
      <h2 id="alerts-heading">Alert channels</h2>
      <Problem text={answer.problem || form.problem} />
      {answer.value !== null && channels.length === 0 && (
        <p class="caution">None: an alarm reaches you only on this page. docs/alerts.md says how to add one.</p>
      )}
      <ul>
        {channels.map((one) => (
          <li key={one.channel}>
            <b>{one.channel}</b> <span class="dim">from {one.minimum} on</span>
          </li>
        ))}
      </ul>
      <div class="buttons">
        <button disabled={form.busy || channels.length === 0} onClick={test} data-testid="alerts-test">
          {form.busy ? "Sending…" : "Send a test message"}
        </button>
      </div>
      <div role="status">
        {sent?.map((one) => (
          <p key={one.channel} class={one.delivered ? "gain" : "loss"}>
            {one.channel}: {one.delivered ? "delivered" : `not delivered: ${one.reason}`}
          </p>
        ))}
      </div>
    </section>
  );
}

interface SettingsAnswer {
  data_folder: string;
  database: string;
  redis: string;
  version: string;
  zone: string;
}

export function AboutPanel() {
  const settings = useGet<SettingsAnswer>("/settings");
  const readiness = useGet<{ ready: boolean; checks: (Omit<Check, "mend"> & { mend?: string })[] }>("/readiness");
  const about = settings.value;
  return (
    <section class="panel" aria-labelledby="about-heading" data-testid="about">
      <h2 id="about-heading">About</h2>
      <Problem text={settings.problem} />
      {about !== null && (
        <dl class="about">
          <dt>squareoff</dt>
          <dd>{about.version}</dd>
          <dt>Data folder</dt>
          <dd>{about.data_folder}</dd>
          <dt>Database</dt>
          <dd>{about.database}</dd>
          <dt>Redis</dt>
          <dd>{about.redis}</dd>
          <dt>Zone</dt>
          <dd>{about.zone}</dd>
        </dl>
      )}
      {readiness.value !== null && <Checks checks={readiness.value.checks.map((one) => ({ ...one, mend: one.mend ?? "" }))} />}
      <p class="dim">
        This page contains{" "}
        <a href="/static/THIRD_PARTY.txt" target="_blank" rel="noreferrer">
          software of others
        </a>
        . Charts by TradingView Lightweight Charts™, copyright TradingView, Inc.
      </p>
    </section>
  );
}
