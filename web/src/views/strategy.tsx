export function StrategyView(_: { rest: string }) { return <p>…</p>; }
