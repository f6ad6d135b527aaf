export function SettingsView(_: { rest: string }) { return <p>…</p>; }
