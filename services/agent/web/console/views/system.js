// Health and capacity: of every replica of the models, and of every agent.

import { moment } from "../format.js";
import { repeat } from "../live.js";
import { api } from "../session.js";
import { Badge, Empty, Load, Problem, Title } from "../ui/bits.js";
import { html, useEffect, useState } from "../ui/html.js";

const AGAIN_MS = 5000;
const TONES = { serving: "go", draining: "warn", unknown: "off", dead: "stop" };
const SERVICES = { tokenizer: "Tokenizer", lm: "Language model", decoder: "Decoder" };

export function System() {
  const [state, setState] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    const asking = api();
    return repeat(async (signal) => setState(await asking.get("/replicas", { signal })), AGAIN_MS, setError);
  }, []);
  return html`<section>
    <header class="head"><${Title}>System<//></header>
    <${Problem} error=${error} />
    ${state && html`<h2 id="models">Models</h2><${Models} models=${state.models} /><h2>Agents</h2><${Agents} agents=${state.agents} />`}
  </section>`;
}

function Models({ models }) {
  if (!models.length) return html`<${Empty}>No replica is known.<//>`;
  return html`<table class="list">
    <thead>
      <tr>
        <th scope="col">Service</th>
        <th scope="col">State</th>
        <th scope="col">Taken</th>
        <th scope="col">By this agent</th>
        <th scope="col">Address</th>
        <th scope="col">Revision</th>
      </tr>
    </thead>
    <tbody>
      ${models.map(
        (one) => html`<tr key=${`${one.service} ${one.address}`}>
          <td data-label="Service">${SERVICES[one.service] ?? one.service}</td>
          <td data-label="State">
            <${Badge} state=${one.state} tone=${TONES[one.state]} /> ${one.failing && html`<${Badge} state="failing" tone="stop" />`}
          </td>
          <td data-label="Taken"><${Load} taken=${one.active} of=${one.capacity} /></td>
          <td data-label="By this agent" class="figure">${one.held}</td>
          <td data-label="Address"><code>${one.address}</code></td>
          <td data-label="Revision"><code>${one.revision.slice(0, 12)}</code></td>
        </tr>`,
      )}
    </tbody>
  </table>`;
}

function Agents({ agents }) {
  return html`<table class="list">
    <thead>
      <tr>
        <th scope="col">Agent</th>
        <th scope="col">State</th>
        <th scope="col">Calls</th>
        <th scope="col">Address</th>
        <th scope="col">Started</th>
      </tr>
    </thead>
    <tbody>
      ${agents.map(
        (one) => html`<tr key=${one.agent_id}>
          <td data-label="Agent">${one.agent_id} ${one.here && html`<small>(this one)</small>`}</td>
          <td data-label="State"><${Badge} state=${one.draining ? "draining" : "serving"} /></td>
          <td data-label="Calls"><${Load} taken=${one.calls} of=${one.capacity} /></td>
          <td data-label="Address"><code>${one.address}</code></td>
          <td data-label="Started">${moment(one.started)}</td>
        </tr>`,
      )}
    </tbody>
  </table>`;
}
