export function NewView(_: { rest: string }) { return <p>…</p>; }
