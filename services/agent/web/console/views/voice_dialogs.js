// Adding a voice, with the consent of whose voice it is; and deleting one.

import { api } from "../session.js";
import { Dialog, Field } from "../ui/dialog.js";
import { html, useState } from "../ui/html.js";
import { useSound } from "./try_voice.js";

const EMPTY = { name: "", who: "", when: "", note: "" };

export function VoiceDialog({ limits, close }) {
  const [told, setTold] = useState(EMPTY);
  const [clip, setClip] = useState(null);
  const [sound, setSound] = useSound();
  const input = (key) => ({ value: told[key], onInput: (event) => setTold({ ...told, [key]: event.target.value }) });
  const ready = Boolean(clip) && Object.values(told).every((value) => value.trim());
  function choose(event) {
    const [file = null] = event.target.files;
    setClip(file);
    setSound(file);
  }
  function act() {
    const form = new FormData();
    form.append("name", told.name.trim());
    form.append("consent_who", told.who.trim());
    form.append("consent_when", told.when);
    form.append("consent_note", told.note.trim());
    form.append("clip", clip);
    return api().ask("POST", "/voices", form);
  }
  const hint = `WAV, ${limits.min_s} to ${limits.max_s} s of one person speaking, without noise or music`;
  return html`<${Dialog} title="Add a voice" action="Add" icon="add" act=${act} close=${close} ready=${ready}>
    <${Field} label="Name" hint="Lower case letters, digits, - and _; personas name it.">
      <input type="text" maxlength="63" pattern="[a-z0-9][a-z0-9_\\-]*" required autofocus autocomplete="off" ...${input("name")} />
    <//>
    <${Field} label="Clip" hint=${hint}><input type="file" accept="audio/wav,.wav" required onChange=${choose} /><//>
    <audio controls src=${sound || undefined} hidden=${!sound} aria-label="The clip"></audio>
    <fieldset>
      <legend>Consent</legend>
      <p class="hint">Whoever speaks must have agreed to this use of their voice.</p>
      <${Field} label="Who agreed"><input type="text" maxlength="200" required autocomplete="off" ...${input("who")} /><//>
      <${Field} label="When"><input type="date" required max=${today()} ...${input("when")} /><//>
      <${Field} label="To what, and where it is written"><textarea rows="3" maxlength="2000" required ...${input("note")}></textarea><//>
    </fieldset>
  <//>`;
}

function today() {
  const now = new Date();
  return new Date(now.getTime() - now.getTimezoneOffset() * 60000).toISOString().slice(0, 10);
}

export function DeleteVoiceDialog({ name, close }) {
  const act = () => api().ask("DELETE", `/voices/${encodeURIComponent(name)}`);
  return html`<${Dialog} title=${`Delete the voice ${name}?`} action="Delete" icon="remove" kind="stop" act=${act} close=${close}>
    <p>Its clip and its consent note are deleted with it.</p>
  <//>`;
}
