// The frame around the views: who is signed in, where to go, and light or dark.

import { address, parse } from "./route.js";
import { role, session, signOut } from "./session.js";
import { Button } from "./ui/bits.js";
import { html, signal, useEffect } from "./ui/html.js";
import { Icon } from "./ui/icons.js";
import { Call } from "./views/call.js";
import { Calls } from "./views/calls.js";
import { Persona } from "./views/persona.js";
import { Personas } from "./views/personas.js";
import { SignIn } from "./views/signin.js";
import { System } from "./views/system.js";
import { Talk } from "./views/talk.js";
import { Voices } from "./views/voices.js";

const PLACES = [
  ["calls", "Calls"],
  ["talk", "Talk"],
  ["personas", "Personas"],
  ["voices", "Voices"],
  ["system", "System"],
];
const THEMES = ["system", "light", "dark"];
const route = signal(parse(location.hash));
const theme = signal(document.documentElement.dataset.theme);

addEventListener("hashchange", () => (route.value = parse(location.hash)));

function View({ view, name }) {
  if (view === "calls") return name ? html`<${Call} name=${name} />` : html`<${Calls} />`;
  if (view === "personas") return name ? html`<${Persona} name=${name} />` : html`<${Personas} />`;
  if (view === "talk") return html`<${Talk} name=${name} />`;
  if (view === "voices") return html`<${Voices} />`;
  return html`<${System} />`;
}

function nextTheme() {
  theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length];
  document.documentElement.dataset.theme = theme.value;
  localStorage.setItem("trunkline-theme", theme.value);
}

export function App() {
  const { view, name } = route.value;
  const title = PLACES.find(([place]) => place === view)[1];
  useEffect(() => {
    document.title = `${title} · Trunkline`;
  }, [title]);
  if (!session.value) return html`<${SignIn} />`;
  return html`
    <a class="skip" href="#main" onClick=${skip}>To the content</a>
    <header class="top">
      <a class="brand" href=${address("calls")}><img src="../icon.svg" alt="" width="24" height="24" /><span>Trunkline</span></a>
      <nav aria-label="Console">
        ${PLACES.map(
          ([place, label]) => html`<a key=${place} href=${address(place)} aria-current=${place === view ? "page" : undefined}>
            <${Icon} name=${place} /><span>${label}</span>
          </a>`,
        )}
      </nav>
      <div class="who">
        <span class="key-name"><span>${session.value.name}</span> <small>${role.value}</small></span>
        <${Button} icon="theme" kind="quiet" aria-label=${`Colours: ${theme.value}`} onClick=${nextTheme}>${theme.value}<//>
        <${Button} icon="leave" kind="quiet" onClick=${() => signOut()}>Sign out<//>
      </div>
    </header>
    <main id="main" tabindex="-1"><${View} key=${`${view}/${name}`} view=${view} name=${name} /></main>
  `;
}

// An address after the `#` is a view here, so the browser's own jump would leave this one.
function skip(event) {
  event.preventDefault();
  document.querySelector("h1").focus();
}
