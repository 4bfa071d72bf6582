// One call: what is said, how fast the answers were, what happened, and what can be done.

import { after, linesOf, nothing, withPast } from "../call_state.js";
import { clock, duration, milliseconds, moment, party, personaOf } from "../format.js";
import { follow, repeat } from "../live.js";
import { now } from "../now.js";
import { address } from "../route.js";
import { api, may } from "../session.js";
import { Badge, Button, Empty, Facts, Problem, Title } from "../ui/bits.js";
import { Captions } from "../ui/captions.js";
import { html, useEffect, useState } from "../ui/html.js";
import { Icon } from "../ui/icons.js";
import { Direction, Quality } from "../ui/quality.js";
import { Waterfall } from "../ui/waterfall.js";
import { HangUpDialog, KeysDialog, SayDialog, TransferDialog } from "./call_dialogs.js";
import { ListenIn } from "./listen_in.js";

const AGAIN_MS = 15000; // what happens comes by events; a call of another agent has none here
const DIALOGS = { say: SayDialog, keys: KeysDialog, transfer: TransferDialog, hangUp: HangUpDialog };

function useCall(callId) {
  const [state, setState] = useState(nothing);
  const [error, setError] = useState(null);
  useEffect(() => {
    const asking = api();
    const read = async (signal) => {
      const record = await asking.get(`/calls/${callId}`, { signal });
      const { entries } = await asking.get(`/calls/${callId}/conversation`, { signal });
      setState((state) => withPast(after(state, "call", record), entries));
      return record.state === "ended";
    };
    setState(nothing);
    const event = (name, data) => setState((state) => after(state, name, data));
    const stops = [follow(asking, { callId, event }), repeat(read, AGAIN_MS, setError)];
    return () => stops.forEach((stop) => stop());
  }, [callId]);
  return [state, error];
}

export function Call({ name: callId }) {
  const [state, error] = useCall(callId);
  const [dialog, setDialog] = useState("");
  const { record, over } = state;
  const Opened = DIALOGS[dialog];
  return html`<section>
    <p class="crumb"><a href=${address("calls")}><${Icon} name="back" /> Calls</a></p>
    <header class="head">
      <${Title}>${record ? `Call from ${party(record.from)}` : "Call"}<//>
      ${record && html`<${Badge} state=${record.state} />`}
      ${record && !over && html`<span class="figure">${duration(now.value / 1000 - Date.parse(record.started) / 1000)}</span>`}
    </header>
    <${Problem} error=${record ? null : error} />
    ${record && html`<${About} ...${state} />`}
    ${record && !over && !record.here && html`<${Elsewhere} record=${record} />`}
    ${record?.here && !over && may("operator") && html`<${Actions} record=${record} open=${setDialog} />`}
    ${record?.may_listen && record.state === "live" && may("operator") && html`<${ListenIn} callId=${callId} />`}
    ${record &&
    html`<div class="columns">
      <section aria-labelledby="captions-title"><h2 id="captions-title">Captions</h2><${Captions} lines=${linesOf(state)} /></section>
      <div>
        <section aria-labelledby="turns-title"><h2 id="turns-title">Answer times</h2><${Waterfall} turns=${state.turns} /></section>
        <section aria-labelledby="events-title"><h2 id="events-title">Events</h2><${Events} events=${state.events} /></section>
      </div>
    </div>`}
    ${Opened && html`<${Opened} callId=${callId} close=${() => setDialog("")} />`}
  </section>`;
}

function Elsewhere({ record }) {
  const [home, setHome] = useState("");
  useEffect(() => {
    const found = ({ agents }) => setHome(agents.find((one) => one.agent_id === record.agent)?.address ?? "");
    api().get("/replicas").then(found, () => {});
  }, [record.agent]);
  const there = home && html`<a href=${`${home}/console/#/calls/${record.call_id}`}>Open its console<//>`;
  return html`<p class="notice">Agent ${record.agent} has this call; it is followed and acted on there. ${there}</p>`;
}

function About({ record, quality, listeners }) {
  return html`<${Facts}
    facts=${[
      ["Leg", record.leg],
      ["To", party(record.to)],
      ["Persona", personaOf(record)],
      ["Started", moment(record.started)],
      ["Agent", record.agent],
      ["Quality", html`<${Quality} quality=${quality} />`],
      ["From caller", html`<${Direction} told=${quality?.received} />`],
      ["To caller", html`<${Direction} told=${quality?.sent} />`],
      ["Round trip", quality?.round_trip_s ? milliseconds(quality.round_trip_s * 1000) : "–"],
      ["Listening in", listeners.join(", ") || "nobody"],
      ["Outcome", record.outcome && record.outcome !== "none" ? record.outcome : ""],
      ["Ended", record.end_reason],
    ]}
  />`;
}

function Actions({ record, open }) {
  const live = record.state === "live";
  return html`<div class="actions" role="group" aria-label="Act on the call">
    ${live && html`<${Button} icon="say" onClick=${() => open("say")}>Say<//>`}
    ${live && html`<${Button} icon="keys" onClick=${() => open("keys")}>Keys<//>`}
    ${live && html`<${Button} icon="transfer" onClick=${() => open("transfer")}>Transfer<//>`}
    <${Button} icon="hangUp" kind="stop" onClick=${() => open("hangUp")}>Hang up<//>
  </div>`;
}

function Events({ events }) {
  if (!events.length) return html`<${Empty}>Nothing has happened yet.<//>`;
  return html`<ol class="events" tabindex="0" aria-label="Events">
    ${[...events].reverse().map(({ id, time, text }) => html`<li key=${id}><time class="figure">${clock(time)}</time> ${text}</li>`)}
  </ol>`;
}
