// Where the time of each turn went: one bar a turn, from the caller's end of speech to the first packet of the answer.

import { STAGES } from "../../shared/stages.js";
import { milliseconds } from "../format.js";
import { html } from "./html.js";

const SHOWN = 12; // turns
const ROUND_MS = 250;

/** The parts of a bar, in percent of the scale. Pure. */
export function parts(stages, scaleMs) {
  const told = STAGES.filter(([stage]) => stages[stage] != null).map(([stage, title]) => ({ stage, title, at: stages[stage] }));
  let before = 0; // an answer begun in a pause has stages before the turn was decided
  return told
    .sort((one, other) => one.at - other.at)
    .map((part) => {
      const from = before;
      before = Math.max(before, part.at);
      return { ...part, x: (from / scaleMs) * 100, width: ((before - from) / scaleMs) * 100 };
    });
}

/** The end of the axis: the longest turn, rounded up. Pure. */
export function scaleOf(turns) {
  const longest = Math.max(ROUND_MS, ...turns.flatMap(({ stages }) => Object.values(stages)));
  return Math.ceil(longest / ROUND_MS) * ROUND_MS;
}

function Bar({ turn, stages, scaleMs }) {
  const told = parts(stages, scaleMs);
  const label = told.map(({ title, at }) => `${title} ${milliseconds(at)}`).join(", ");
  return html`<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label=${`Turn ${turn}: ${label}`}>
    ${told.map(
      ({ stage, title, at, x, width }) => html`<rect key=${stage} class=${`stage ${stage}`} x=${x} y="0" width=${width} height="10">
        <title>${title}: ${milliseconds(at)}</title>
      </rect>`,
    )}
  </svg>`;
}

export function Waterfall({ turns }) {
  if (!turns.length) return html`<p class="empty">No turn is over yet.</p>`;
  const shown = turns.slice(-SHOWN);
  const scaleMs = scaleOf(shown);
  return html`<div class="waterfall">
    <ul class="legend">
      ${STAGES.map(([stage, title]) => html`<li key=${stage}><i class=${`stage ${stage}`} aria-hidden="true"></i>${title}</li>`)}
    </ul>
    <ol class="bars">
      ${shown.map(
        ({ turn, stages }) => html`<li key=${turn}>
          <span class="figure turn">${turn}</span>
          <${Bar} turn=${turn} stages=${stages} scaleMs=${scaleMs} />
          <span class="figure">${milliseconds(Math.max(...Object.values(stages)))}</span>
        </li>`,
      )}
    </ol>
    <p class="axis" aria-hidden="true"><span>0</span><span>${scaleMs / 2}</span><span>${scaleMs} ms</span></p>
    <details>
      <summary>Figures</summary>
      <div class="wide">
        <table>
          <caption>Milliseconds from the caller's end of speech</caption>
          <thead><tr><th scope="col">turn</th>${STAGES.map(([stage, title]) => html`<th key=${stage} scope="col">${title}</th>`)}</tr></thead>
          <tbody>
            ${turns.map(
              ({ turn, stages }) => html`<tr key=${turn}>
                <th scope="row">${turn}</th>
                ${STAGES.map(([stage]) => html`<td key=${stage}>${stages[stage]?.toFixed(0) ?? ""}</td>`)}
              </tr>`,
            )}
          </tbody>
        </table>
      </div>
    </details>
  </div>`;
}
