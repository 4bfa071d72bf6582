// Deleting a persona, and bringing an old version back.

import { address } from "../route.js";
import { api } from "../session.js";
import { Dialog } from "../ui/dialog.js";
import { html } from "../ui/html.js";

export function DeletePersonaDialog({ name, version, close }) {
  async function act() {
    await api().ask("DELETE", `/personas/${name}`, undefined, { headers: { "If-Match": `"${version}"` } });
    location.hash = address("personas");
  }
  return html`<${Dialog} title=${`Delete ${name}?`} action="Delete" icon="remove" kind="stop" act=${act} close=${close}>
    <p>The next call does not have it. Its versions stay: rolling back brings it back.</p>
  <//>`;
}

export function RollBackDialog({ name, version, current, done, close }) {
  async function act() {
    const headers = { "If-Match": `"${current}"` };
    await api().ask("POST", `/personas/${name}/rollback`, { version }, { headers });
    done();
  }
  return html`<${Dialog} title=${`Roll back to version ${version}?`} action="Roll back" act=${act} close=${close}>
    <p>${name} gets a new version with the settings of version ${version}. The next call has them; live calls keep theirs.</p>
  <//>`;
}
