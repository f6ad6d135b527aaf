/** A view that is fetched when it is first shown, so that Today stays light. */

import type { FunctionComponent } from "preact";
import { useEffect, useState } from "preact/hooks";

export interface ViewProps {
  rest: string;
}

export function lazyView(fetchView: () => Promise<FunctionComponent<ViewProps>>): FunctionComponent<ViewProps> {
  let known: FunctionComponent<ViewProps> | null = null;
  return function Lazy(props: ViewProps) {
    const [View, setView] = useState<FunctionComponent<ViewProps> | null>(() => known);
    const [problem, setProblem] = useState(false);
    const load = () => {
      setProblem(false);
      fetchView().then(
        (view) => {
          known = view;
          setView(() => view);
        },
        () => setProblem(true),
      );
    };
    useEffect(() => {
      if (known === null) load();
    }, []);
    if (View !== null) return <View {...props} />;
    if (!problem) return <p class="dim pad" role="status">Loading…</p>;
    return (
      <p class="problem" role="alert">
        This page could not be fetched from squareoff. <button onClick={load}>Try again</button>
      </p>
    );
  };
}
