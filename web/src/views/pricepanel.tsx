import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Prices } from "../contract";
import { money, quantity, wall } from "../format";
import { useGet } from "../parts/small";
import { exchangeIso } from "../clock";
import { usePick } from "../store";

type Chart = ComponentType<{ prices: Prices; stop: string | null; now: string | null; zone: string }>;
const REFRESH_MS = 5000;

interface Props {
  runId: number;
  closed: boolean;
  stop: string | null;
  /** The last price as the stream tells it; null: the run is over, or it is not known. */
  now: string | null;
}

export function PricePanel({ runId, closed, stop, now }: Props) {
  const [turn, setTurn] = useState(0);
  const [Chart, setChart] = useState<Chart | null>(null);
  const [problem, setProblem] = useState("");
  const zone = usePick((s) => s.today?.zone ?? "UTC");
  const prices = useGet<Prices>(`/runs/${runId}/prices`, turn);
  useEffect(() => {
    import("./chart").then(
      (module) => setChart(() => module.default),
      () => setProblem("The chart could not be fetched from squareoff."),
    );
  }, []);
  useEffect(() => {
    if (closed) return;
    const timer = window.setInterval(() => !document.hidden && setTurn((n) => n + 1), REFRESH_MS);
    return () => window.clearInterval(timer);
  }, [closed]);
  const { value } = prices;
  return (
    <section class="panel" aria-labelledby="chart-heading" data-testid="chart">
      <h2 id="chart-heading">Price, exchange time</h2>
      {problem !== "" && <p class="problem">{problem}</p>}
      {prices.problem !== "" && <p class="problem">{prices.problem}</p>}
      {value !== null && value.note !== "" && <p class="dim">{value.note}</p>}
      {value !== null && value.bars.length > 0 && Chart !== null && <Chart prices={value} stop={stop ?? value.stop_price} now={closed ? null : now} zone={zone} />}
      {value !== null && <Marks prices={value} stop={stop ?? value.stop_price} />}
    </section>
  );
}

/** What the chart shows, in words: for those who do not see it, and exact. */
function Marks({ prices, stop }: { prices: Prices; stop: string | null }) {
  return (
    <p class="num dim">
      {prices.marks.map((mark) => (
        <span key={`${mark.t}${mark.side}`}>
          <b class={mark.side === "BUY" ? "buy" : "sell"}>{mark.side}</b>{" "}
          {mark.side === "STOP-LOSS" ? "hit" : quantity(mark.qty)} at {money(mark.price)} ({wall(exchangeIso(mark.t * 1000))}){" · "}
        </span>
      ))}
      {stop === null ? "no stop-loss level yet" : `stop-loss ${money(stop)}`}
    </p>
  );
}
