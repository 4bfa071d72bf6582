// What an operator does to a call.

import { address } from "../route.js";
import { api } from "../session.js";
import { Dialog, Field } from "../ui/dialog.js";
import { html, useState } from "../ui/html.js";

function useText(begin = "") {
  const [text, setText] = useState(begin);
  return [text, { value: text, onInput: (event) => setText(event.target.value) }];
}

export function SayDialog({ callId, close }) {
  const [text, input] = useText();
  const act = () => api().ask("POST", `/calls/${callId}/say`, { text });
  return html`<${Dialog} title="Say something" action="Say" icon="say" act=${act} close=${close} ready=${text.trim() !== ""}>
    <${Field} label="Text" hint="The bot says it after what it is saying now.">
      <textarea rows="3" maxlength="500" required autofocus ...${input}></textarea>
    <//>
  <//>`;
}

export function TransferDialog({ callId, close }) {
  const [target, input] = useText();
  const act = () => api().ask("POST", `/calls/${callId}/transfer`, { target: target.trim() });
  return html`<${Dialog} title="Transfer" action="Transfer" icon="transfer" act=${act} close=${close} ready=${target.trim() !== ""}>
    <${Field} label="To" hint="A SIP URI, or a number at the caller's own domain. The call leaves the bot at once.">
      <input type="text" maxlength="300" required autofocus autocomplete="off" spellcheck=${false} ...${input} />
    <//>
  <//>`;
}

export function KeysDialog({ callId, close }) {
  const [digits, input] = useText();
  const act = () => api().ask("POST", `/calls/${callId}/dtmf`, { digits: digits.trim().toUpperCase() });
  return html`<${Dialog} title="Send keys" action="Send" icon="keys" act=${act} close=${close} ready=${digits.trim() !== ""}>
    <${Field} label="Keys" hint="0-9, *, #, A-D">
      <input type="text" inputmode="tel" maxlength="64" pattern="[0-9*#A-Da-d]+" required autofocus autocomplete="off" ...${input} />
    <//>
  <//>`;
}

export function HangUpDialog({ callId, close }) {
  const act = () => api().ask("DELETE", `/calls/${callId}`);
  return html`<${Dialog} title="Hang up?" action="Hang up" icon="hangUp" kind="stop" act=${act} close=${close}>
    <p>The call ends at once, without a goodbye.</p>
  <//>`;
}

export function DialDialog({ close }) {
  const [target, input] = useText();
  const [persona, personaInput] = useText();
  async function act() {
    const placed = await api().ask("POST", "/calls", { target: target.trim(), persona: persona.trim() });
    location.hash = address("calls", placed.call_id);
  }
  return html`<${Dialog} title="Place a call" action="Call" icon="calls" act=${act} close=${close} ready=${target.trim() !== ""}>
    <${Field} label="To" hint="A SIP URI, or a number for the first trunk.">
      <input type="text" maxlength="300" required autofocus autocomplete="off" spellcheck=${false} ...${input} />
    <//>
    <${Field} label="Persona" hint="Who calls; empty: the agent's default.">
      <input type="text" maxlength="64" autocomplete="off" spellcheck=${false} ...${personaInput} />
    <//>
  <//>`;
}
