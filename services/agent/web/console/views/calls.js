// The calls there are now.

import { happened, inOrder, listed, noCalls } from "../calls_state.js";
import { duration, party, personaOf } from "../format.js";
import { follow, repeat } from "../live.js";
import { now } from "../now.js";
import { address } from "../route.js";
import { api, may } from "../session.js";
import { Badge, Button, Empty, Load, Problem, Title } from "../ui/bits.js";
import { html, useEffect, useState } from "../ui/html.js";
import { Quality } from "../ui/quality.js";
import { DialDialog } from "./call_dialogs.js";

const AGAIN_MS = 3000; // calls of other agents come by asking only

export function Calls() {
  const [state, setState] = useState(noCalls);
  const [error, setError] = useState(null);
  const [dialling, setDialling] = useState(false);
  useEffect(() => {
    const asking = api();
    const read = async (signal) => {
      const body = await asking.get("/calls?scope=all", { signal });
      setState((state) => listed(state, body));
    };
    const stops = [
      repeat(read, AGAIN_MS, setError),
      follow(asking, { event: (name, data) => setState((state) => happened(state, name, data)) }),
    ];
    return () => stops.forEach((stop) => stop());
  }, []);
  const calls = inOrder(state);
  return html`<section>
    <header class="head">
      <${Title}>Calls<//>
      ${state.agent && html`<${Load} taken=${state.agent.active} of=${state.agent.capacity} />`}
      ${state.agent?.draining && html`<${Badge} state="draining" />`}
      ${may("operator") && html`<span class="push"><${Button} icon="calls" onClick=${() => setDialling(true)}>Place a call<//></span>`}
    </header>
    <${Problem} error=${error} />
    ${calls.length > 0 && html`<${Table} calls=${calls} quality=${state.quality} />`}
    ${state.known && !calls.length && html`<${Empty}>No call is ringing or live.<//>`}
    ${dialling && html`<${DialDialog} close=${() => setDialling(false)} />`}
  </section>`;
}

function Table({ calls, quality }) {
  return html`<table class="list">
    <thead>
      <tr>
        <th scope="col">Call</th>
        <th scope="col">State</th>
        <th scope="col">Duration</th>
        <th scope="col">Leg</th>
        <th scope="col">To</th>
        <th scope="col">Persona</th>
        <th scope="col">Quality</th>
        <th scope="col">Agent</th>
      </tr>
    </thead>
    <tbody>
      ${calls.map((call) => html`<${Row} key=${call.call_id} call=${call} quality=${quality.get(call.call_id)} />`)}
    </tbody>
  </table>`;
}

function Row({ call, quality }) {
  const seconds = now.value / 1000 - Date.parse(call.started) / 1000;
  return html`<tr data-call=${call.call_id}>
    <td data-label="Call"><a href=${address("calls", call.call_id)}>${party(call.from)}</a></td>
    <td data-label="State"><${Badge} state=${call.state} /></td>
    <td data-label="Duration" class="figure">${duration(seconds)}</td>
    <td data-label="Leg">${call.leg}</td>
    <td data-label="To">${party(call.to)}</td>
    <td data-label="Persona">${personaOf(call)}</td>
    <td data-label="Quality"><${Quality} quality=${quality} /></td>
    <td data-label="Agent">${call.agent}</td>
  </tr>`;
}
