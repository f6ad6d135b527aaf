/** What every page has: mode bar, trust line, kill bar, navigation, and the view of the route. */

import { lazyView } from "./parts/lazy";
import { useEffect, useState } from "preact/hooks";
import { bindKeys, ShortcutsDialog } from "./keys";
import { useRoute } from "./router";
import { usePick } from "./store";
import { KillBar } from "./views/kill";
import { ModeBar } from "./views/modebar";
import { Today } from "./views/today";
import { TrustLine } from "./views/trust";

const NAV = [
  { view: "", name: "today", label: "Today", key: "t" },
  { view: "new", name: "new", label: "New", key: "n" },
  { view: "activity", name: "activity", label: "Activity", key: "a" },
  { view: "replay", name: "replay", label: "Replay", key: "r" },
  { view: "settings", name: "settings", label: "Settings", key: "s" },
] as const;

const StrategyView = lazyView(() => import("./views/strategy").then((m) => m.StrategyView));
const NewView = lazyView(() => import("./views/new").then((m) => m.NewView));
const ActivityView = lazyView(() => import("./views/activity").then((m) => m.ActivityView));
const ReplayView = lazyView(() => import("./views/replay").then((m) => m.ReplayView));
const SettingsView = lazyView(() => import("./views/settings").then((m) => m.SettingsView));

export function Nav({ view }: { view: string }) {
  return (
    <nav aria-label="Pages">
      {NAV.map((one) => (
        <a
          key={one.name}
          href={`#/${one.view}`}
          aria-current={view === one.view ? "page" : undefined}
          data-testid={`nav-${one.name}`}
          title={`${one.label} (key ${one.key})`}
        >
          {one.label}
        </a>
      ))}
    </nav>
  );
}

function View({ view, rest }: { view: string; rest: string }) {
  switch (view) {
    case "":
      return <Today />;
    case "strategy":
      return <StrategyView key={rest} rest={rest} />;
    case "new":
      return <NewView rest={rest} />;
    case "activity":
      return <ActivityView rest={rest} />;
    case "replay":
      return <ReplayView rest={rest} />;
    case "settings":
      return <SettingsView rest={rest} />;
    default:
      return (
        <section class="panel">
          <h1>There is no such page</h1>
          <p>
            <a href="#/">Back to Today</a>
          </p>
        </section>
      );
  }
}

export function Shell() {
  const route = useRoute();
  const lost = usePick((s) => s.live.lost);
  const down = usePick((s) => s.today?.trust.up === false);
  const [help, setHelp] = useState(false);
  useEffect(() => bindKeys(() => setHelp(true)), []);
  useEffect(() => {
    window.scrollTo(0, 0);
  }, [route.view, route.rest]);
  return (
    <div class={`shell ${lost || down ? "not-live" : ""}`}>
      <a class="skip" href="#main" onClick={skipToMain}>
        To the content
      </a>
      <header class="top">
        <ModeBar onHelp={() => setHelp(true)}>
          <Nav view={route.view} />
        </ModeBar>
        <div class="second">
          <TrustLine />
          <KillBar />
        </div>
      </header>
      <main id="main" tabIndex={-1}>
        <View view={route.view} rest={route.rest} />
      </main>
      {help && <ShortcutsDialog onClose={() => setHelp(false)} />}
    </div>
  );
}

/** The hash is the route, so the skip link moves the focus itself. */
function skipToMain(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}
