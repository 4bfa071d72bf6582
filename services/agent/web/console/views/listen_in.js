// Hearing a call: both sides, each with a level and a volume.

import { Listening } from "../listen.js";
import { api } from "../session.js";
import { Button, Problem } from "../ui/bits.js";
import { html, useEffect, useRef, useState } from "../ui/html.js";

const SIDES = [
  ["caller", "Caller"],
  ["bot", "Bot"],
];

export function ListenIn({ callId }) {
  const [listening, setListening] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => () => listening?.stop(), [listening]);
  function start() {
    setError(null);
    const begun = new Listening((failure) => {
      setError(failure);
      setListening(null);
    });
    setListening(begun);
    begun.start(api(), callId);
  }
  const press = () => (listening ? setListening(null) : start());
  return html`<div class="listening" role="group" aria-label="Listening in">
    <${Button} icon=${listening ? "stop" : "listen"} kind=${listening ? "on" : ""} onClick=${press}>
      ${listening ? "Stop listening" : "Listen"}
    <//>
    ${listening && SIDES.map(([side, title]) => html`<${Side} key=${side} listening=${listening} side=${side} title=${title} />`)}
    <${Problem} error=${error} />
  </div>`;
}

function Side({ listening, side, title }) {
  const meter = useRef(null);
  const [volume, setVolume] = useState(listening.volume[side]);
  useEffect(() => {
    const bar = meter.current;
    let frame = 0;
    let shown = 0;
    const draw = () => {
      shown = Math.max(listening.level(side), shown * 0.9);
      bar.value = Math.sqrt(shown); // loudness is heard so, more or less
      frame = requestAnimationFrame(draw);
    };
    draw();
    return () => cancelAnimationFrame(frame);
  }, [listening]);
  function change(event) {
    setVolume(event.target.valueAsNumber);
    listening.setVolume(side, event.target.valueAsNumber);
  }
  return html`<label class="side">
    <span>${title}</span>
    <meter min="0" max="1" aria-label=${`Level of the ${side}`} data-side=${side} ref=${meter}></meter>
    <input type="range" min="0" max="2" step="0.05" value=${volume} onInput=${change} aria-label=${`Volume of the ${side}`} />
  </label>`;
}
