// One persona: its settings as YAML, checked by the agent, and its history.

import { YAML } from "../api.js";
import { address } from "../route.js";
import { api, may } from "../session.js";
import { Badge, Button, Problem, Title } from "../ui/bits.js";
import { Editor } from "../ui/editor.js";
import { html, useEffect, useState } from "../ui/html.js";
import { Icon } from "../ui/icons.js";
import { DeletePersonaDialog } from "./persona_dialogs.js";
import { History } from "./history.js";
import { Conversation } from "./talk.js";

export const NEW = "new persona"; // no persona's name has a space
const TEMPLATE = `name: my-persona
prompt: >-
  You are ...
greeting: Hello, how can I help you?
`;

const unsaved = new Map(); // texts of this tab by persona, for whoever goes elsewhere and comes back

/** What is stored: {version, source, yaml}. */
async function load(name) {
  if (name === NEW) return { version: 0, yaml: TEMPLATE };
  const path = `/personas/${name}`;
  const [found, yaml] = await Promise.all([api().get(path), api().get(`${path}/yaml`)]);
  return { ...found, yaml };
}

export function Persona({ name }) {
  const [stored, setStored] = useState(null);
  const [text, setText] = useState("");
  const [told, setTold] = useState({ status: "", error: null, problems: [] });
  const [busy, setBusy] = useState("");
  const [draft, setDraft] = useState("");
  const [deleting, setDeleting] = useState(false);
  const isNew = name === NEW;
  function edit(text) {
    unsaved.set(name, text);
    setText(text);
  }
  async function read(status = "") {
    try {
      const found = await load(name);
      setStored(found);
      setText(unsaved.get(name) ?? found.yaml);
      setTold({ status, error: null, problems: [] });
    } catch (error) {
      setTold({ status: "", error, problems: [] });
    }
  }
  const readAnew = (status) => (unsaved.delete(name), read(status));
  useEffect(() => void read(), [name]);
  const changed = stored && text !== stored.yaml;

  async function attempt(what, act) {
    if (busy) return;
    setBusy(what);
    setTold({ status: "", error: null, problems: [] });
    try {
      await act();
    } catch (error) {
      const problems = error.problems ?? [];
      setTold({ status: "", error: problems.length ? null : error, problems });
    }
    setBusy("");
  }
  const send = (method, path, headers = {}) => api().ask(method, path, text, { type: YAML, headers });
  const check = () =>
    attempt("check", async () => {
      await send("POST", "/personas:validate");
      setTold({ status: "These settings can be used.", error: null, problems: [] });
    });
  const save = () =>
    attempt("save", async () => {
      const saved = isNew
        ? await send("POST", "/personas")
        : await send("PUT", `/personas/${name}`, { "If-Match": `"${stored.version}"` });
      unsaved.delete(name);
      if (isNew) location.hash = address("personas", saved.name);
      else await read(`Saved as version ${saved.version}.`);
    });
  const attemptDraft = () =>
    attempt("try", async () => {
      const { draft } = await send("POST", "/personas:try");
      setDraft(draft);
    });

  if (!stored) return html`<section><header class="head"><${Title}>${name}<//></header><${Problem} error=${told.error} /></section>`;
  const admin = may("admin");
  return html`<section>
    <p class="crumb"><a href=${address("personas")}><${Icon} name="back" /> Personas</a></p>
    <header class="head">
      <${Title}>${isNew ? "New persona" : name}<//>
      ${!isNew && html`<span class="soft">version <span class="figure">${stored.version}</span></span>`}
      ${changed && html`<${Badge} state="not saved" tone="warn" />`}
      ${!isNew && may("operator") && html`<a class="button push" href=${address("talk", name)}><${Icon} name="talk" /><span>Talk</span></a>`}
    </header>
    <${Editor} text=${text} problems=${told.problems} change=${admin ? edit : null} label=${`Settings of ${name} as YAML`} />
    ${admin &&
    html`<div class="actions">
      <${Button} icon="check" busy=${busy === "check"} onClick=${check}>Check<//>
      <${Button} kind="go" busy=${busy === "save" || !changed} onClick=${save}>Save<//>
      <${Button} icon="talk" busy=${busy === "try"} onClick=${attemptDraft}>Try it unsaved<//>
      ${changed && html`<${Button} kind="quiet" onClick=${() => readAnew()}>Discard changes<//>`}
      ${!isNew && html`<span class="push"><${Button} icon="remove" kind="quiet" onClick=${() => setDeleting(true)}>Delete<//></span>`}
    </div>`}
    <p class="status" role="status">${told.status}</p>
    <${Problem} error=${told.error} />
    ${told.error?.status === 412 && html`<p><${Button} onClick=${() => readAnew()}>Discard mine and read theirs<//></p>`}
    ${draft && html`<section key=${draft} aria-label="Try"><h2>Try</h2><${Conversation} answers=${{ draft }} /></section>`}
    ${!isNew && html`<${History} name=${name} version=${stored.version} changed=${() => readAnew("Rolled back.")} />`}
    ${deleting && html`<${DeletePersonaDialog} name=${name} version=${stored.version} close=${() => setDeleting(false)} />`}
  </section>`;
}
