/** The fields of a strategy, the same for a new one and for an edit. */

import { useEffect, useState } from "preact/hooks";
import { get } from "../api";
import type { FieldError, StrategyFields } from "../contract";
import { Field } from "../parts/field";

export type Draft = Record<FieldName, string>;
export type FieldName = "name" | "symbol" | "quantity" | "buy_time" | "sell_time" | "stop_loss" | "repeat" | "until" | "product" | "account";

export const EMPTY: Draft = {
  name: "",
  symbol: "",
  quantity: "",
  buy_time: "",
  sell_time: "",
  stop_loss: "",
  repeat: "once",
  until: "",
  product: "MIS",
  account: "",
};

/** What is sent: only what was filled in, so that the server's own rule for a missing field speaks. */
export function filledIn(draft: Draft): StrategyFields {
  return Object.fromEntries(Object.entries(draft).filter(([, value]) => value.trim() !== "").map(([name, value]) => [name, value.trim()]));
}

interface Props {
  draft: Draft;
  onChange: (name: FieldName, value: string) => void;
  onLeave?: (name: FieldName) => void;
  errorOf: (name: FieldName) => FieldError | undefined;
  accounts: readonly string[];
  /** Of an edit: what no edit changes. */
  fixed?: boolean;
  tick?: string | null;
  lot?: string | null;
}

const PRODUCTS = [
  { value: "MIS", label: "MIS: intraday" },
  { value: "CNC", label: "CNC: delivery" },
  { value: "NRML", label: "NRML: carried forward" },
];
const REPEATS = [
  { value: "daily", label: "every trading day" },
  { value: "once", label: "once" },
];

export function StrategyFieldset({ draft, onChange, onLeave, errorOf, accounts, fixed = false, tick = null, lot = null }: Props) {
  const symbols = useSymbols(fixed ? "" : draft.symbol);
  const one = (name: FieldName) => ({
    name,
    value: draft[name],
    onInput: (value: string) => onChange(name, value),
    onBlur: () => onLeave?.(name),
    error: errorOf(name),
  });
  return (
    <>
      {!fixed && (
        <Field {...one("symbol")} label="Symbol" suggestions={symbols} hint='with its exchange, like "NSE:INFY"' />
      )}
      <div class="form-2">
        <Field
          {...one("quantity")}
          label="Quantity, shares"
          inputMode="decimal"
          hint={lot !== null && lot !== "1" ? `in lots of ${lot}` : ""}
        />
        <Field
          {...one("stop_loss")}
          label="Stop-loss: price, % or pts"
          hint={`like 1540, 1.5% or 4pts${tick === null ? "" : `; tick ${tick}`}`}
        />
        <Field {...one("buy_time")} label="BUY at, exchange time" inputMode="numeric" hint="like 09:20" />
        <Field {...one("sell_time")} label="SELL at, exchange time" inputMode="numeric" hint="like 15:15" />
        <Field {...one("repeat")} label="Repeat" options={REPEATS} />
        {draft.repeat === "daily" && <Field {...one("until")} label="Until (may stay empty)" hint="the last day, like 2026-12-31" />}
        <Field {...one("product")} label="Product" options={PRODUCTS} />
        {!fixed && accounts.length > 1 && <Field {...one("account")} label="Account" options={accounts} />}
        <Field {...one("name")} label={fixed ? "Name" : "Name (may stay empty)"} />
      </div>
    </>
  );
}

/** Known instruments that begin like what is typed. */
function useSymbols(typed: string): string[] {
  const [found, setFound] = useState<string[]>([]);
  useEffect(() => {
    if (typed.length < 2) return;
    const timer = window.setTimeout(() => {
      get<{ instruments: { symbol: string }[] }>(`/instruments?q=${encodeURIComponent(typed)}`).then(
        (answer) => setFound(answer.instruments.slice(0, 20).map((one) => one.symbol)),
        () => setFound([]), // suggestions only; the check says what is wrong
      );
    }, 150);
    return () => window.clearTimeout(timer);
  }, [typed]);
  return found;
}
