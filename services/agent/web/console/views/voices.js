// Voices: those there are, how they sound, and new ones from a recording with its consent.

import { moment } from "../format.js";
import { repeat } from "../live.js";
import { api, may } from "../session.js";
import { Badge, Button, Empty, Facts, Problem, Title } from "../ui/bits.js";
import { html, useEffect, useState } from "../ui/html.js";
import { TryVoice } from "./try_voice.js";
import { DeleteVoiceDialog, VoiceDialog } from "./voice_dialogs.js";

const AGAIN_MS = 5000; // decoders learn of a voice, and lose it, by themselves
const STANDARD = "default";

export function Voices() {
  const [state, setState] = useState(null);
  const [error, setError] = useState(null);
  const [dialog, setDialog] = useState(null); // "add", or the voice to be deleted
  const read = async () => setState(await api().get("/voices"));
  useEffect(() => repeat(read, AGAIN_MS, setError), []);
  function close() {
    setDialog(null);
    read().catch(setError);
  }
  const add = may("admin") && state?.can_register;
  return html`<section>
    <header class="head">
      <${Title}>Voices<//>
      ${add && html`<span class="push"><${Button} icon="add" onClick=${() => setDialog("add")}>Add a voice<//></span>`}
    </header>
    <${Problem} error=${error} />
    ${state && may("admin") && !state.can_register && html`<p class="notice">No voice can be added: ${state.why_not}</p>`}
    ${state &&
    html`<ul class="cards">
      <${Voice} voice=${{ name: STANDARD }} />
      ${state.voices.map((voice) => html`<${Voice} key=${voice.name} voice=${voice} remove=${() => setDialog(voice)} />`)}
    </ul>`}
    ${state && !state.voices.length && html`<${Empty}>There is no other voice than the default one.<//>`}
    ${dialog === "add" && html`<${VoiceDialog} limits=${state.limits} close=${close} />`}
    ${dialog?.name && html`<${DeleteVoiceDialog} name=${dialog.name} close=${close} />`}
  </section>`;
}

function Voice({ voice, remove }) {
  const { name, replicas, consent } = voice;
  const partial = replicas && replicas.ready < replicas.serving;
  return html`<li class="card" data-voice=${name}>
    <header class="head">
      <h2>${name}</h2>
      ${partial && html`<${Badge} state=${`at ${replicas.ready} of ${replicas.serving} decoders`} tone="warn" />`}
      ${remove && may("admin") && html`<span class="push"><${Button} icon="remove" kind="quiet" onClick=${remove}>Delete<//></span>`}
    </header>
    ${remove
      ? html`<${Facts}
          facts=${[
            ["Clip", voice.seconds && `${voice.seconds.toFixed(1)} s`],
            ["Added", `${moment(voice.created)} by ${voice.by}`],
            ["Used by", voice.used_by?.join(", ")],
            ["Consent of", consent && `${consent.who}, ${consent.when}`],
            ["Note", consent?.note],
          ]}
        />`
      : html`<p class="soft">The voice of every persona that names none.</p>`}
    ${may("operator") && html`<${TryVoice} name=${name} />`}
  </li>`;
}
