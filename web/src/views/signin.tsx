import { useState } from "preact/hooks";
import { act, asApiError } from "../api";
import type { Session } from "../contract";
import { Field } from "../parts/field";
import { Problem } from "../parts/small";
import { usePick } from "../store";

export function SignIn({ login, onSession }: { login: "link" | "password"; onSession: (session: Session) => void }) {
  const linkProblem = usePick((s) => s.linkProblem);
  return (
    <main class="alone" data-testid="sign-in">
      <h1>squareoff</h1>
      <Problem text={linkProblem === "" ? "" : `The link did not work: ${linkProblem}.`} />
      {login === "link" ? <ByLink /> : <ByPassword onSession={onSession} />}
    </main>
  );
}

function ByLink() {
  return (
    <>
      <p>
        You are not signed in. Open the link that <code>squareoff up</code> or <code>squareoff link</code> prints.
      </p>
      <p class="dim">A link works once. Positions are guarded whether or not this page is open.</p>
    </>
  );
}

function ByPassword({ onSession }: { onSession: (session: Session) => void }) {
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const signIn = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setProblem("");
    try {
      onSession(await act<Session>("/session", { name, password }));
    } catch (thrown) {
      const error = asApiError(thrown);
      const wait = error.retryAfterS === null ? "" : ` Try again in ${error.retryAfterS} s.`;
      setProblem(error.sentence + wait);
      setBusy(false);
    }
  };
  return (
    <form onSubmit={(event) => void signIn(event)} class="form">
      <Field name="name" label="Name" value={name} onInput={setName} autocomplete="username" />
      <Field
        name="password"
        label="Password"
        secret
        value={password}
        onInput={setPassword}
        autocomplete="current-password"
      />
      <Problem text={problem} testid="sign-in-problem" />
      <button class="primary" disabled={busy || name === "" || password === ""} data-testid="sign-in-button">
        {busy ? "Signing in…" : "Sign in"}
      </button>
    </form>
  );
}
