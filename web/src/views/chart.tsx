/** The price of a run: candles, BUY and SELL, the stop-loss as a line. Fetched only when it is shown. */

import {
  CandlestickSeries,
  ColorType,
  createChart,
  createSeriesMarkers,
  LineStyle,
  type AutoscaleInfo,
  type CandlestickData,
  type IChartApi,
  type IPriceLine,
  type ISeriesApi,
  type ISeriesMarkersPluginApi,
  type SeriesMarker,
  type Time,
  type UTCTimestamp,
} from "lightweight-charts";
import { useEffect, useRef } from "preact/hooks";
import type { Prices } from "../contract";
import { money, quantity } from "../format";
import { useTheme } from "../theme";

interface Props {
  prices: Prices;
  /** The stop-loss as it is now, which an edit may have moved since the prices were fetched. */
  stop: string | null;
  /** The price now; null: there is none to show. */
  now: string | null;
  zone: string;
}

interface Drawn {
  chart: IChartApi;
  candles: ISeriesApi<"Candlestick">;
  markers: ISeriesMarkersPluginApi<Time>;
  line: IPriceLine | null;
  nowLine: IPriceLine | null;
  fitted: boolean;
}

const colour = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function clockOf(zone: string, seconds: boolean): (time: Time) => string {
  const format = new Intl.DateTimeFormat("en-GB", {
    timeZone: zone,
    hour: "2-digit",
    minute: "2-digit",
    ...(seconds ? { second: "2-digit" } : {}),
    hour12: false,
  });
  return (time) => format.format(new Date(Number(time) * 1000));
}

function paint({ chart, candles, line }: Drawn): void {
  const [text, grid, gain, loss] = [colour("--dim"), colour("--line"), colour("--gain"), colour("--loss")];
  chart.applyOptions({
    layout: { background: { type: ColorType.Solid, color: colour("--panel") }, textColor: text },
    grid: { vertLines: { visible: false }, horzLines: { color: grid } },
    rightPriceScale: { borderColor: grid },
    timeScale: { borderColor: grid },
  });
  candles.applyOptions({ upColor: gain, wickUpColor: gain, downColor: loss, wickDownColor: loss, borderVisible: false });
  line?.applyOptions({ color: loss, axisLabelColor: loss });
}

const candleOf = (bar: Prices["bars"][number]): CandlestickData => ({
  time: bar.t as UTCTimestamp,
  open: Number(bar.o),
  high: Number(bar.h),
  low: Number(bar.l),
  close: Number(bar.c),
});

/** A mark stands at the bar its fill fell into: the library moves others to a bar of its choice. */
function barAt(prices: Prices, t: number): number {
  let at = prices.bars[0]?.t ?? t;
  for (const bar of prices.bars) if (bar.t <= t) at = bar.t;
  return at;
}

function marksOf(prices: Prices): SeriesMarker<Time>[] {
  return prices.marks.map((mark) => ({
    time: barAt(prices, mark.t) as UTCTimestamp,
    position: mark.side === "BUY" ? "belowBar" : "aboveBar",
    shape: mark.side === "BUY" ? "arrowUp" : "arrowDown",
    color: colour(mark.side === "BUY" ? "--link" : "--warn"),
    text: mark.side === "STOP-LOSS" ? "stop-loss hit" : `${mark.side} ${quantity(mark.qty)}`,
  }));
}

export default function PriceChart({ prices, stop, now: price, zone }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const drawn = useRef<Drawn | null>(null);
  const theme = useTheme();

  useEffect(() => {
    if (box.current === null) return;
    const chart = createChart(box.current, {
      autoSize: true,
      layout: { attributionLogo: true, fontFamily: "system-ui, sans-serif" },
      localization: { timeFormatter: clockOf(zone, true), priceFormatter: (p: number) => money(p.toFixed(2)) },
      timeScale: { timeVisible: true, secondsVisible: false, tickMarkFormatter: clockOf(zone, false), rightOffset: 4 },
    });
    const candles = chart.addSeries(CandlestickSeries, { priceLineVisible: false, lastValueVisible: false });
    drawn.current = { chart, candles, markers: createSeriesMarkers(candles, []), line: null, nowLine: null, fitted: false };
    return () => {
      drawn.current = null;
      chart.remove();
    };
  }, [zone]);

  useEffect(() => {
    const now = drawn.current;
    if (now === null) return;
    now.candles.setData(prices.bars.map(candleOf));
    now.markers.setMarkers(marksOf(prices));
    const level = stop === null ? null : Number(stop);
    if (now.line !== null) now.candles.removePriceLine(now.line);
    now.line =
      level === null
        ? null
        : now.candles.createPriceLine({ price: level, title: "stop-loss", lineWidth: 2, lineStyle: LineStyle.Dashed, axisLabelVisible: true });
    // The stop-loss is why one looks at this chart: it is always in sight.
    now.candles.applyOptions({
      autoscaleInfoProvider: (original: () => AutoscaleInfo | null) => {
        const range = original();
        if (range?.priceRange == null || level === null) return range;
        const { minValue, maxValue } = range.priceRange;
        return { ...range, priceRange: { minValue: Math.min(minValue, level), maxValue: Math.max(maxValue, level) } };
      },
    });
    paint(now);
    if (!now.fitted && prices.bars.length > 0) {
      // All of the day, with room at both ends for the words of a mark.
      now.chart.timeScale().setVisibleLogicalRange({ from: -5, to: prices.bars.length + 4 });
      now.fitted = true;
    }
  }, [prices, stop, zone, theme]);

  useEffect(() => {
    const { current } = drawn;
    if (current === null) return;
    if (current.nowLine !== null) current.candles.removePriceLine(current.nowLine);
    current.nowLine =
      price === null
        ? null
        : current.candles.createPriceLine({ price: Number(price), title: "now", color: colour("--dim"), lineWidth: 1, lineStyle: LineStyle.Dotted, axisLabelVisible: true });
  }, [price, zone, theme]);

  return <div ref={box} class="chart" />;
}
