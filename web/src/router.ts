/** Hash routes: `#/`, `#/strategy/3`, `#/new`, ... */

import { useEffect, useState } from "preact/hooks";

export interface Route {
  view: string;
  /** What follows the view, such as the id in `#/strategy/3`. */
  rest: string;
}

export function parse(hash: string): Route {
  const [view = "", ...rest] = hash.replace(/^#\/?/, "").split("/");
  return { view: view.split("?")[0] ?? "", rest: rest.join("/") };
}

export function go(hash: string): void {
  location.hash = hash;
}

export function useRoute(): Route {
  const [route, setRoute] = useState(() => parse(location.hash));
  useEffect(() => {
    const look = () => setRoute(parse(location.hash));
    window.addEventListener("hashchange", look);
    return () => window.removeEventListener("hashchange", look);
  }, []);
  return route;
}
