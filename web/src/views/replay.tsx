export function ReplayView(_: { rest: string }) { return <p>…</p>; }
