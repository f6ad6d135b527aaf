import { forget, usePress } from "../presses";

/** What became of a press: "asked" until the stream proves it, then "done". */
export function PressWord({ name }: { name: string }) {
  const press = usePress(name);
  if (press === undefined) return null;
  const { status, what, text } = press;
  const word =
    status === "done"
      ? `${what}: done`
      : status === "sending"
        ? `${what}: asked`
        : status === "asked"
          ? `${what}: asked${text === "asked" ? "" : `, ${text}`}${press.again ? "; not proven yet" : ""}`
          : `${what}: ${text}`;
  const over = status === "refused" || status === "unknown";
  return (
    <span class={`press press-${status}`} role={over ? "alert" : "status"} data-testid={`press-${name}`}>
      {word}
      {over && (
        <button class="icon" aria-label="Close this message" onClick={() => forget(name)}>
          ×
        </button>
      )}
    </span>
  );
}
