/** Accounts and limits, the kill switch's release, who may come in, alerts, and what runs here. */

import { AccountsPanel } from "./settings/accounts";
import { AboutPanel, AlertsPanel } from "./settings/about";
import { PasswordPanel, SessionsPanel, TokensPanel, UsersPanel } from "./settings/access";
import { FilesPanel } from "./settings/files";

export function SettingsView(_: { rest: string }) {
  return (
    <>
      <h1>Settings</h1>
      <div class="columns">
        <div class="stack">
          <AccountsPanel />
          <AlertsPanel />
          <FilesPanel />
        </div>
        <div class="stack">
          <SessionsPanel />
          <TokensPanel />
          <PasswordPanel />
          <UsersPanel />
          <AboutPanel />
        </div>
      </div>
    </>
  );
}
