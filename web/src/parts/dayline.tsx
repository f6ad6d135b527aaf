/** The trading day as a line: opens, BUY, SELL, closes, and now. */

import { exchangeNow, useTick } from "../clock";
import type { CheckAnswer } from "../contract";
import { wallShort } from "../format";

const [WIDTH, LEFT, RIGHT, LINE] = [560, 34, 526, 52] as const;

export function DayLine({ when }: { when: NonNullable<CheckAnswer["when"]> }) {
  useTick(5000);
  const [opens, closes] = [Date.parse(when.opens_at), Date.parse(when.closes_at)];
  const x = (ms: number) => LEFT + ((ms - opens) / Math.max(1, closes - opens)) * (RIGHT - LEFT);
  const [buy, sell] = [x(Date.parse(when.buy_at)), x(Date.parse(when.sell_at))];
  const now = exchangeNow();
  const isToday = now !== null && now >= opens && now <= closes;
  // BUY stands above the line and SELL too, unless they would run into each other.
  const near = sell - buy < 80;
  // Close to an end of the line both stand on its inner side, one above the other.
  const atEnd = near && sell > RIGHT - 80;
  const label = `${when.text}: opens ${wallShort(when.opens_at)}, BUY ${wallShort(when.buy_at)}, SELL ${wallShort(when.sell_at)}, closes ${wallShort(when.closes_at)}`;
  return (
    <svg class="dayline" viewBox={`0 0 ${WIDTH} 92`} role="img" aria-label={label} data-testid="dayline">
      <line class="d-track" x1={LEFT} y1={LINE} x2={RIGHT} y2={LINE} />
      <line class="d-held" x1={buy} y1={LINE} x2={sell} y2={LINE} />
      {[LEFT, RIGHT].map((at) => (
        <line key={at} class="d-tick" x1={at} y1={LINE - 9} x2={at} y2={LINE + 9} />
      ))}
      <text class="d-word" x={LEFT} y={LINE + 26} text-anchor="middle">
        opens {wallShort(when.opens_at)}
      </text>
      <text class="d-word" x={RIGHT} y={LINE + 26} text-anchor="middle">
        closes {wallShort(when.closes_at)}
      </text>
      <text class="d-strong" x={atEnd ? sell : Math.max(30, buy)} y={LINE - (atEnd ? 28 : 14)} text-anchor={near ? "end" : "middle"}>
        BUY {wallShort(when.buy_at)}
      </text>
      <text class="d-strong" x={Math.min(WIDTH - 30, sell)} y={LINE - 14} text-anchor={atEnd ? "end" : near ? "start" : "middle"}>
        SELL {wallShort(when.sell_at)}
      </text>
      {isToday && (
        <>
          <line class="d-now" x1={x(now)} y1={LINE - 34} x2={x(now)} y2={LINE + 10} />
          <text class="d-now-word" x={x(now)} y={LINE - 38} text-anchor="middle">
            now
          </text>
        </>
      )}
    </svg>
  );
}
