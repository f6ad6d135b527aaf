import { useState } from "preact/hooks";
import { act, patch, put, remove } from "../../api";
import { Field } from "../../parts/field";
import { Dialog, Instant, Problem, useGet } from "../../parts/small";
import { usePick } from "../../store";
import { useSaving } from "./saving";

interface SessionLine {
  id: number | string;
  created_at: string;
  last_seen_at: string | null;
  about: string;
  current: boolean;
}

/** The page starts over: with no session it asks for one. */
const startOver = () => location.reload();

export function SessionsPanel() {
  const user = usePick((s) => s.session?.user);
  const answer = useGet<{ sessions: SessionLine[] }>("/sessions");
  const form = useSaving();
  const signOut = (path: string) =>
    void form.save(async () => {
      await remove(path);
      startOver();
      return "Signed out.";
    });
  return (
    <section class="panel" aria-labelledby="sessions-heading" data-testid="sessions">
      <h2 id="sessions-heading">Signed in</h2>
      <p>
        You are <b>{user?.name}</b> ({user?.role}).
      </p>
      <Problem text={answer.problem || form.problem} />
      <ul>
        {answer.value?.sessions.map((one) => (
          <li key={one.id}>
            {one.about}
            {one.current && <b> (this one)</b>}
            <span class="dim">
              {" "}
              since <Instant at={one.created_at} day />
              {one.last_seen_at !== null && (
                <>
                  , last seen <Instant at={one.last_seen_at} day />
                </>
              )}
            </span>
          </li>
        ))}
      </ul>
      <div class="buttons">
        <button onClick={() => signOut("/session")} data-testid="sign-out">
          Sign out
        </button>
        <button onClick={() => signOut("/sessions")} data-testid="sign-out-everywhere">
          Sign out everywhere
        </button>
      </div>
    </section>
  );
}

interface Token {
  id: number;
  name: string;
  scope: string;
  created_at: string;
  last_used_at: string | null;
  expires_at: string | null;
}

const SCOPES = [
  { value: "read", label: "read: sees, changes nothing" },
  { value: "trade", label: "trade: starts and stops" },
  { value: "admin", label: "admin: everything" },
];

export function TokensPanel() {
  const answer = useGet<{ tokens: Token[] }>("/tokens");
  const [name, setName] = useState("");
  const [scope, setScope] = useState("read");
  const [days, setDays] = useState("90");
  const [shown, setShown] = useState("");
  const form = useSaving();
  const make = (event: Event) => {
    event.preventDefault();
    void form.save(async () => {
      const made = await act<Token & { token: string }>("/tokens", { name, scope, days: /^\d+$/.test(days) ? Number(days) : days });
      setShown(made.token);
      setName("");
      answer.again();
      return "";
    });
  };
  const revoke = (id: number) =>
    void form.save(async () => {
      await remove(`/tokens/${id}`);
      answer.again();
      return "It works no more.";
    });
  return (
    <section class="panel" aria-labelledby="tokens-heading" data-testid="tokens">
      <h2 id="tokens-heading">Tokens for programs</h2>
      <Problem text={answer.problem} />
      {answer.value !== null && answer.value.tokens.length === 0 && <p class="dim">None.</p>}
      <ul>
        {answer.value?.tokens.map((one) => (
          <li key={one.id} class="head">
            <span>
              <b>{one.name}</b> ({one.scope}){" "}
              <span class="dim">
                {one.last_used_at === null ? "never used" : <>last used <Instant at={one.last_used_at} day /></>},{" "}
                {one.expires_at === null ? "never ends" : <>ends <Instant at={one.expires_at} day /></>}
              </span>
            </span>
            <span class="buttons">
              <button class="quiet" onClick={() => revoke(one.id)} aria-label={`Revoke ${one.name}`}>
                Revoke
              </button>
            </span>
          </li>
        ))}
      </ul>
      {shown !== "" && (
        <div role="status">
          <p>Copy it now; it is shown this once:</p>
          <p class="secret">{shown}</p>
        </div>
      )}
      <form class="form" onSubmit={make}>
        <div class="form-2">
          <Field name="token-name" label="Name" value={name} onInput={setName} error={form.errorOf("name")} />
          <Field name="token-scope" label="It may" value={scope} onInput={setScope} options={SCOPES} error={form.errorOf("scope")} />
          <Field name="token-days" label="Works for, days" inputMode="numeric" value={days} onInput={setDays} error={form.errorOf("days")} />
        </div>
        <Problem text={[form.problem, form.elsewhere(["name", "scope", "days"])].join(" ").trim()} />
        {form.good !== "" && <p class="good">{form.good}</p>}
        <div class="buttons">
          <button disabled={form.busy}>Make a token</button>
        </div>
      </form>
    </section>
  );
}

export function PasswordPanel() {
  const login = usePick((s) => s.session?.login);
  const [old, setOld] = useState("");
  const [fresh, setFresh] = useState("");
  const form = useSaving();
  if (login !== "password") return null;
  const send = async (event: Event) => {
    event.preventDefault();
    const done = await form.save(async () => {
      await put("/password", { old, new: fresh });
      return "Changed.";
    });
    if (done) {
      setOld("");
      setFresh("");
    }
  };
  return (
    <section class="panel" aria-labelledby="password-heading">
      <h2 id="password-heading">Your password</h2>
      <form class="form" onSubmit={(event) => void send(event)}>
        <Field name="old" label="The one you have" secret value={old} onInput={setOld} error={form.errorOf("old")} autocomplete="current-password" />
        <Field name="new" label="The new one" secret value={fresh} onInput={setFresh} error={form.errorOf("new")} autocomplete="new-password" />
        <Problem text={[form.problem, form.elsewhere(["old", "new"])].join(" ").trim()} />
        {form.good !== "" && <p class="good">{form.good}</p>}
        <div class="buttons">
          <button disabled={form.busy || old === "" || fresh === ""}>Change it</button>
        </div>
      </form>
    </section>
  );
}

interface User {
  id: number;
  name: string;
  role: string;
  disabled: boolean;
}

const ROLES = [
  { value: "trader", label: "trader: own strategies" },
  { value: "admin", label: "admin: users and settings too" },
];

export function UsersPanel() {
  const me = usePick((s) => s.session?.user);
  return me?.role === "admin" ? <Users myId={me.id} /> : null;
}

function Users({ myId }: { myId: number }) {
  const answer = useGet<{ users: User[] }>("/users");
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [role, setRole] = useState("trader");
  const [chosen, setChosen] = useState<User | null>(null);
  const form = useSaving();
  const add = async (event: Event) => {
    event.preventDefault();
    const done = await form.save(async () => {
      await act("/users", { name, password, role });
      answer.again();
      return `${name} may sign in now.`;
    });
    if (done) {
      setName("");
      setPassword("");
    }
  };
  const turn = (user: User) =>
    void form.save(async () => {
      await patch(`/users/${user.id}`, { disabled: !user.disabled });
      answer.again();
      return user.disabled ? `${user.name} may sign in again.` : `${user.name} may not sign in any more.`;
    });
  return (
    <section class="panel" aria-labelledby="users-heading" data-testid="users">
      <h2 id="users-heading">Users</h2>
      <Problem text={answer.problem} />
      <ul>
        {answer.value?.users.map((one) => (
          <li key={one.id} class="head">
            <span class={one.disabled ? "dim" : ""}>
              <b>{one.name}</b> ({one.role}){one.disabled && ", may not sign in"}
            </span>
            {one.id !== myId && (
              <span class="buttons">
                <button class="quiet" onClick={() => setChosen(one)} aria-label={`Change ${one.name}`}>
                  Change
                </button>
                <button class="quiet" onClick={() => turn(one)} aria-label={`${one.disabled ? "Enable" : "Disable"} ${one.name}`}>
                  {one.disabled ? "Enable" : "Disable"}
                </button>
              </span>
            )}
          </li>
        ))}
      </ul>
      {chosen !== null && (
        <ChangeUser
          user={chosen}
          onClose={() => {
            setChosen(null);
            answer.again();
          }}
        />
      )}
      <form class="form" onSubmit={(event) => void add(event)}>
        <div class="form-2">
          <Field name="user-name" label="Name" value={name} onInput={setName} error={form.errorOf("name")} />
          <Field name="user-password" label="Password" secret value={password} onInput={setPassword} error={form.errorOf("password")} autocomplete="new-password" />
          <Field name="user-role" label="Role" value={role} onInput={setRole} options={ROLES} error={form.errorOf("role")} />
        </div>
        <Problem text={[form.problem, form.elsewhere(["name", "password", "role"])].join(" ").trim()} />
        {form.good !== "" && <p class="good">{form.good}</p>}
        <div class="buttons">
          <button disabled={form.busy || name.trim() === "" || password === ""}>Add a user</button>
        </div>
      </form>
    </section>
  );
}

function ChangeUser({ user, onClose }: { user: User; onClose: () => void }) {
  const [role, setRole] = useState(user.role);
  const [password, setPassword] = useState("");
  const form = useSaving();
  const save = async (event: Event) => {
    event.preventDefault();
    const changes = { ...(role === user.role ? {} : { role }), ...(password === "" ? {} : { password }) };
    const done = await form.save(async () => {
      await patch(`/users/${user.id}`, changes);
      return "";
    });
    if (done) onClose();
  };
  return (
    <Dialog title={`Change ${user.name}`} onClose={onClose}>
      <form class="form" onSubmit={(event) => void save(event)}>
        <Field name="change-role" label="Role" value={role} onInput={setRole} options={ROLES} error={form.errorOf("role")} />
        <Field
          name="change-password"
          label="New password (empty: it stays)"
          secret
          value={password}
          onInput={setPassword}
          error={form.errorOf("password")}
          autocomplete="new-password"
        />
        <Problem text={[form.problem, form.elsewhere(["role", "password"])].join(" ").trim()} />
        <div class="buttons">
          <button class="primary" disabled={form.busy || (role === user.role && password === "")}>
            Save
          </button>
          <button type="button" onClick={onClose}>
            Cancel
          </button>
        </div>
      </form>
    </Dialog>
  );
}
