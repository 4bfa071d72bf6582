// The key is asked for. It is checked by asking who it belongs to.

import { refusal, signIn } from "../session.js";
import { Button, Problem, Title } from "../ui/bits.js";
import { Field } from "../ui/dialog.js";
import { html, useState } from "../ui/html.js";

export function SignIn() {
  const [key, setKey] = useState("");
  const [busy, setBusy] = useState(false);
  async function submit(event) {
    event.preventDefault();
    if (busy || !key.trim()) return;
    setBusy(true);
    if (!(await signIn(key.trim()))) setBusy(false);
  }
  return html`<main class="sign-in">
    <form onSubmit=${submit}>
      <${Title} focus=${false}>Trunkline console<//>
      <${Field} label="API key" hint="It stays in this tab, and is forgotten when the tab is closed.">
        <input
          type="password"
          name="key"
          autocomplete="off"
          autofocus
          required
          aria-describedby="refusal"
          value=${key}
          onInput=${(event) => setKey(event.target.value)}
        />
      <//>
      <div id="refusal"><${Problem} error=${refusal.value} /></div>
      <${Button} type="submit" kind="go" busy=${busy}>Sign in<//>
    </form>
  </main>`;
}
