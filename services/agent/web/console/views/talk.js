// A conversation with a persona from the browser.

import { play } from "../../shared/play.js";
import { Phone } from "../../shared/phone.js";
import { address } from "../route.js";
import { api, may } from "../session.js";
import { Button, Problem, Title } from "../ui/bits.js";
import { Captions } from "../ui/captions.js";
import { Field } from "../ui/dialog.js";
import { html, useEffect, useRef, useState } from "../ui/html.js";
import { Waterfall } from "../ui/waterfall.js";

const KEPT = "trunkline-console-call";
const BASE = "../"; // the agent's pages, from the console's
const QUIET = { you: false, bot: false };
const LABELS = { idle: "Call", connecting: "Cancel", live: "Hang up" };

function usePhone(audio) {
  const [state, setState] = useState({ state: "idle", status: "Your browser will ask for the microphone." });
  const [lines, setLines] = useState([]);
  const [turns, setTurns] = useState([]);
  const [speaking, setSpeaking] = useState(QUIET);
  const phone = useRef(null);
  const screen = {
    state: (state, status) => setState({ state, status }),
    track: (track) => play(audio.current, track, (status) => setState({ state: "live", status })),
    captions: setLines,
    speaking: (who, on) => setSpeaking((before) => ({ ...before, [who]: on })),
    turn: (turn, stages) => setTurns((before) => [...before, { turn, stages }]),
  };
  function call(answers, again = false) {
    setTurns([]);
    phone.current = new Phone({ screen, kept: KEPT, base: BASE, key: api().key, answers });
    phone.current.start(again);
  }
  const hangUp = () => phone.current?.end("The call has ended.");
  useEffect(() => {
    if (Phone.isKept(KEPT)) call({}, true);
    return hangUp; // leaving the view hangs up, a reload does not
  }, []);
  return { ...state, lines, turns, speaking, call, hangUp, callId: phone.current?.callId };
}

/** The call itself; `answers` says with whom: {persona}, {draft}, or whoever usually answers. */
export function Conversation({ answers }) {
  const audio = useRef(null);
  const phone = usePhone(audio);
  const idle = phone.state === "idle";
  return html`<div class="conversation">
    <div class="actions">
      <${Button}
        id="call"
        icon=${idle ? "talk" : "hangUp"}
        kind=${idle ? "go" : "stop"}
        data-state=${phone.state}
        onClick=${() => (idle ? phone.call(answers) : phone.hangUp())}
        >${LABELS[phone.state]}<//
      >
      <span class="talkers" aria-hidden="true">
        <span class="talker ${phone.speaking.you ? "on" : ""}">You</span>
        <span class="talker ${phone.speaking.bot ? "on" : ""}">Bot</span>
      </span>
      ${phone.state === "live" && html`<a class="push" href=${address("calls", phone.callId)} target="_blank" rel="opener">Watch this call</a>`}
    </div>
    <p class="status" role="status">${phone.status}</p>
    <div class="columns">
      <section aria-labelledby="captions-title"><h2 id="captions-title">Captions</h2><${Captions} lines=${phone.lines} caller="You" /></section>
      <section aria-labelledby="times-title"><h2 id="times-title">Answer times</h2><${Waterfall} turns=${phone.turns} /></section>
    </div>
    <audio ref=${audio} autoplay></audio>
  </div>`;
}

export function Talk({ name }) {
  const [personas, setPersonas] = useState([]);
  const [chosen, setChosen] = useState(name);
  const [error, setError] = useState(null);
  useEffect(() => {
    api()
      .get("/personas")
      .then(({ personas }) => setPersonas(personas.map((one) => one.name)), setError);
  }, []);
  return html`<section>
    <header class="head"><${Title}>Talk<//></header>
    ${may("operator")
      ? html`<${Field} label="Persona">
          <select value=${chosen} onChange=${(event) => setChosen(event.target.value)}>
            <option value="">The agent's default</option>
            ${personas.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}
          </select>
        <//>`
      : html`<p class="hint">Your role may talk to the agent's default persona.</p>`}
    <${Problem} error=${error} />
    <${Conversation} answers=${chosen && may("operator") ? { persona: chosen } : {}} />
  </section>`;
}
