import { money } from "../format";

interface Props {
  price: string | null;
  stop: string | null;
  entry: string | null;
  distance: string | null;
}

/** How far the price is from the stop-loss: the left end is the stop-loss, the mark is where we bought.
 * Only drawn with floats; nothing is decided by them. */
export function StopBar({ price, stop, entry, distance }: Props) {
  if (stop === null) return <span class="stop-none">no stop-loss level yet</span>;
  if (price === null || distance === null) return <span class="stop-none">stop-loss {money(stop)}, price not known</span>;
  const [p, s, e] = [Number(price), Number(stop), Number(entry ?? price)];
  const right = Math.max(p, e, s) + Math.abs(e - s) * 0.25;
  const at = (value: number) => (right <= s ? 0 : Math.min(100, Math.max(0, ((value - s) / (right - s)) * 100)));
  const left = e > s ? (p - s) / (e - s) : 1;
  const tone = left < 0.25 ? "near" : left < 0.6 ? "closer" : "far";
  const percent = Number(distance).toFixed(2);
  const words = `${percent} % above its stop-loss ${money(stop)}`;
  return (
    <span class="stop" role="img" aria-label={words} title={words}>
      <span class="stop-track">
        <span class={`stop-fill stop-${tone}`} style={{ width: `${at(p)}%` }} />
        <span class="stop-entry" style={{ left: `${at(e)}%` }} />
      </span>
      <span class="stop-words num" aria-hidden="true">
        {percent} % <span class="dim">above {money(stop)}</span>
      </span>
    </span>
  );
}
