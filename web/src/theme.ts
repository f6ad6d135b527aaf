/** Dark or light: what the system prefers until the user chooses; the choice is kept in this browser. */

import { useEffect, useState } from "preact/hooks";

export type Theme = "dark" | "light";
const KEY = "squareoff-theme";
const listeners = new Set<() => void>();
const prefersLight = window.matchMedia("(prefers-color-scheme: light)");

function chosen(): Theme | null {
  try {
    const kept = localStorage.getItem(KEY);
    return kept === "dark" || kept === "light" ? kept : null;
  } catch {
    return null; // a browser that keeps nothing still shows a page
  }
}

export const theme = (): Theme => chosen() ?? (prefersLight.matches ? "light" : "dark");

export function applyTheme(): void {
  document.documentElement.dataset["theme"] = theme();
  for (const listener of listeners) listener();
}

export function toggleTheme(): void {
  const next = theme() === "dark" ? "light" : "dark";
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // nothing is kept then; the page still changes
  }
  document.documentElement.dataset["theme"] = next;
  for (const listener of listeners) listener();
}

export function useTheme(): Theme {
  const shown = () => (document.documentElement.dataset["theme"] === "light" ? "light" : "dark");
  const [now, setNow] = useState<Theme>(shown);
  useEffect(() => {
    const look = () => setNow(shown());
    listeners.add(look);
    return () => {
      listeners.delete(look);
    };
  }, []);
  return now;
}

prefersLight.addEventListener("change", applyTheme);
