import { useState } from "preact/hooks";
import { act, put } from "../../api";
import type { AccountDetail, Limits } from "../../contract";
import { money } from "../../format";
import { Field } from "../../parts/field";
import { Instant, Problem, useGet } from "../../parts/small";
import { isOpen, pressRelease, usePress } from "../../presses";
import { useLost, usePick } from "../../store";
import { PressWord } from "../pressword";
import { notLive } from "../trust";
import { useSaving } from "./saving";

const LEVELS = {
  normal: "may trade",
  no_entries: "buys nothing; positions run on to their exit",
  square_off: "squared off; buys nothing",
} as const;

export function AccountsPanel() {
  const levels = usePick((s) => s.today?.accounts);
  const answer = useGet<{ accounts: AccountDetail[] }>("/accounts", levels);
  return (
    <section class="panel" aria-labelledby="accounts-heading" data-testid="accounts">
      <h2 id="accounts-heading">Accounts, limits, kill switch</h2>
      <Problem text={answer.problem} />
      {answer.value?.accounts.map((one) => (
        <AccountView key={one.id} account={one} again={answer.again} />
      ))}
      <AddAccount again={answer.again} />
    </section>
  );
}

function AccountView({ account, again }: { account: AccountDetail; again: () => void }) {
  return (
    <article aria-label={`Account ${account.id}`}>
      <p>
        <b>{account.id}</b> <span class="dim">({account.broker})</span>:{" "}
        <span class={account.level === "normal" ? "" : "loss"}>{LEVELS[account.level]}</span>
        {account.funds !== null && <span class="num">, {money(account.funds)} free to buy with</span>}
        {!account.worker && <b class="loss">, no worker runs for it</b>}
      </p>
      {account.level !== "normal" && <Release account={account} />}
      <LimitsForm account={account} again={again} />
    </article>
  );
}

/** Whoever lets it trade again says why: the reason goes into the journal. */
function Release({ account }: { account: AccountDetail }) {
  const lost = useLost();
  const why = usePick(notLive);
  const press = usePress(`release:${account.id}`);
  const [reason, setReason] = useState("");
  const [missing, setMissing] = useState(false);
  const send = (event: Event) => {
    event.preventDefault();
    setMissing(reason.trim() === "");
    if (reason.trim() !== "") void pressRelease(account.id, reason.trim());
  };
  return (
    <form class="form" onSubmit={send}>
      <p class="caution">
        The kill switch of {account.id} is pressed{account.level_by ? ` by ${account.level_by}` : ""}
        {account.level_at && (
          <>
            {" "}
            at <Instant at={account.level_at} day />
          </>
        )}
        {account.level_reason ? `: ${account.level_reason}` : ""}.
      </p>
      <Field
        name={`release-${account.id}`}
        label="Why it may trade again"
        value={reason}
        onInput={setReason}
        error={missing ? { field: "reason", wrong: "is missing", right: "say why it may trade again" } : undefined}
      />
      <div class="buttons">
        <button class="primary" disabled={lost || isOpen(press)} title={why} data-testid={`release-${account.id}`}>
          {lost ? "Release · not live" : isOpen(press) ? "asked…" : "Release"}
        </button>
        <PressWord name={`release:${account.id}`} />
      </div>
    </form>
  );
}

type NumberLimit = Exclude<keyof Limits, "square_off_at_loss">;
const LIMITS: readonly [NumberLimit, string][] = [
  ["max_order_qty", "Shares in one order, at most"],
  ["max_order_value", "Value of one order, at most"],
  ["max_open_positions", "Positions at once, at most"],
  ["max_orders_per_day", "Orders a day, at most"],
  ["max_loss_per_day", "Loss of a day, at most, gross"],
];
const COUNTS: readonly NumberLimit[] = ["max_open_positions", "max_orders_per_day"];

type Typed = Record<NumberLimit, string> & { square_off_at_loss: boolean };

function typedOf(limits: Limits): Typed {
  const typed = { square_off_at_loss: limits.square_off_at_loss } as Typed;
  for (const [name] of LIMITS) typed[name] = limits[name] === null ? "" : String(limits[name]);
  return typed;
}

/** Empty: no limit. A count is a number; what is no number is sent as it was typed, so that the server's rule speaks. */
function limitsOf(typed: Typed): Record<string, string | number | boolean | null> {
  const limits: Record<string, string | number | boolean | null> = { square_off_at_loss: typed.square_off_at_loss };
  for (const [name] of LIMITS) {
    const text = typed[name].trim();
    limits[name] = text === "" ? null : COUNTS.includes(name) && /^\d+$/.test(text) ? Number(text) : text;
  }
  return limits;
}

function LimitsForm({ account, again }: { account: AccountDetail; again: () => void }) {
  const [typed, setTyped] = useState(() => typedOf(account.limits));
  const lost = useLost();
  const form = useSaving();
  const send = (event: Event) => {
    event.preventDefault();
    void form.save(async () => {
      await put(`/accounts/${encodeURIComponent(account.id)}/limits`, limitsOf(typed));
      again();
      return "Saved: these limits hold now.";
    });
  };
  return (
    <form class="form" onSubmit={send}>
      <p class="hint">A limit never holds back an exit. Empty: no limit.</p>
      <div class="limits">
        {LIMITS.map(([name, label]) => (
          <Field
            key={name}
            name={`${name}`}
            label={label}
            value={typed[name]}
            inputMode="decimal"
            onInput={(value) => setTyped((old) => ({ ...old, [name]: value }))}
            error={form.errorOf(name)}
          />
        ))}
      </div>
      <label class="tick">
        <input
          type="checkbox"
          checked={typed.square_off_at_loss}
          onChange={(event) => setTyped({ ...typed, square_off_at_loss: event.currentTarget.checked })}
        />
        When the day's loss is reached, also square off everything
      </label>
      <Problem text={[form.problem, form.elsewhere(LIMITS.map(([name]) => name))].join(" ").trim()} />
      {form.good !== "" && <p class="good">{form.good}</p>}
      <div class="buttons">
        <button disabled={lost || form.busy} data-testid={`limits-save-${account.id}`}>
          {lost ? "Save limits · not live" : "Save limits"}
        </button>
      </div>
    </form>
  );
}

function AddAccount({ again }: { again: () => void }) {
  const [name, setName] = useState("");
  const [cash, setCash] = useState("");
  const lost = useLost();
  const form = useSaving();
  const send = async (event: Event) => {
    event.preventDefault();
    const body = cash.trim() === "" ? { name } : { name, cash: cash.trim() };
    const done = await form.save(async () => {
      await act("/accounts", body);
      again();
      return `${name} is there now.`;
    });
    if (done) setName("");
  };
  return (
    <details>
      <summary>Add a paper account</summary>
      <form class="form" onSubmit={(event) => void send(event)}>
        <div class="form-2">
          <Field name="account-name" label="Name" value={name} onInput={setName} error={form.errorOf("name")} />
          <Field name="account-cash" label="Cash to begin with (may stay empty)" inputMode="decimal" value={cash} onInput={setCash} error={form.errorOf("cash")} />
        </div>
        <Problem text={[form.problem, form.elsewhere(["name", "cash"])].join(" ").trim()} />
        {form.good !== "" && <p class="good">{form.good}</p>}
        <div class="buttons">
          <button disabled={lost || form.busy || name.trim() === ""}>Add it</button>
        </div>
      </form>
    </details>
  );
}
