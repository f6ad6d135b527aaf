/** The start: who is there, then the stream, then the page. */

import { render } from "preact";
import { useEffect } from "preact/hooks";
import { act, asApiError, get, useCsrf, whenSignedOut } from "./api";
import type { Session } from "./contract";
import { Shell } from "./shell";
import { change, usePick } from "./store";
import { closeStream, openStream } from "./stream";
import { applyTheme } from "./theme";
import { SignIn } from "./views/signin";

const ASK_AGAIN_MS = 2000;

/** The one-time key of the link. It leaves the address bar before anything else may go wrong. */
function takeKey(): string | null {
  const found = /^#key=(.+)$/.exec(location.hash);
  if (found === null) return null;
  history.replaceState(null, "", `${location.pathname}#/`);
  return decodeURIComponent(found[1] ?? "");
}

export function welcome(session: Session): void {
  useCsrf(session.csrf);
  change({ session, login: null, linkProblem: "", unreachable: false });
  openStream(signedOut);
}

function signedOut(): void {
  closeStream();
  change({ session: null, today: null, login: "link" });
  void begin();
}

async function begin(key: string | null = null): Promise<void> {
  try {
    welcome(key === null ? await get<Session>("/session") : await act<Session>("/session", { key }));
  } catch (thrown) {
    const error = asApiError(thrown);
    if (error.status === 401 && key !== null) {
      change({ linkProblem: error.message });
      return begin();
    }
    if (error.status === 401) change({ session: null, login: error.login ?? "link", unreachable: false });
    else {
      change({ unreachable: true });
      window.setTimeout(() => void begin(key), ASK_AGAIN_MS);
    }
  }
}

function Page() {
  const session = usePick((s) => s.session);
  const login = usePick((s) => s.login);
  const unreachable = usePick((s) => s.unreachable);
  useEffect(() => whenSignedOut(signedOut), []);
  if (session !== null) return <Shell />;
  if (login !== null) return <SignIn login={login} onSession={welcome} />;
  return (
    <main class="alone">
      <h1>squareoff</h1>
      <p role="status">{unreachable ? "squareoff does not answer; asking again every 2 s." : "Asking squareoff…"}</p>
      {unreachable && <p class="dim">Is it running? `squareoff up` starts it; `squareoff status` and `squareoff kill` work without this page.</p>}
    </main>
  );
}

applyTheme();
const app = document.getElementById("app");
if (app !== null) render(<Page />, app);
void begin(takeKey());
