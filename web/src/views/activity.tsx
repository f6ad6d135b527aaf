export function ActivityView(_: { rest: string }) { return <p>…</p>; }
