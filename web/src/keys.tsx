/** Keyboard shortcuts; '?' lists them. */

import { Dialog } from "./parts/small";
import { go } from "./router";
import { toggleTheme } from "./theme";

const SHORTCUTS: readonly [key: string, what: string][] = [
  ["t", "Today"],
  ["n", "New strategy"],
  ["a", "Activity"],
  ["r", "Replay"],
  ["s", "Settings"],
  ["j / k", "next / previous strategy on Today"],
  ["Enter", "open the strategy that has the focus"],
  ["Shift + K", "the kill switch (asks before it acts)"],
  ["d", "dark or light"],
  ["?", "this list"],
  ["Esc", "close what is open"],
];

const PAGES: Record<string, string> = { t: "#/", n: "#/new", a: "#/activity", r: "#/replay", s: "#/settings" };

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.closest("input, select, textarea, dialog, [contenteditable]") !== null;
}

function moveInList(step: 1 | -1): void {
  const links = [...document.querySelectorAll<HTMLElement>("a.row-name")];
  const at = links.indexOf(document.activeElement as HTMLElement);
  const next = at === -1 ? (step === 1 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + step));
  links[next]?.focus();
}

/** Returns how to unbind. */
export function bindKeys(onHelp: () => void): () => void {
  const onKey = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    const page = PAGES[event.key];
    if (page !== undefined) go(page);
    else if (event.key === "j") moveInList(1);
    else if (event.key === "k") moveInList(-1);
    else if (event.key === "d") toggleTheme();
    else if (event.key === "?") onHelp();
    else if (event.key === "K") document.querySelector<HTMLElement>("[data-testid=kill-button]")?.click();
    else return;
    event.preventDefault();
  };
  window.addEventListener("keydown", onKey);
  return () => window.removeEventListener("keydown", onKey);
}

export function ShortcutsDialog({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keyboard" onClose={onClose} testid="shortcuts">
      <dl class="shortcuts">
        {SHORTCUTS.map(([key, what]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <form method="dialog">
        <button class="primary">Close</button>
      </form>
    </Dialog>
  );
}
