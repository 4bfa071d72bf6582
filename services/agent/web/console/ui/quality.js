// How well a call is heard.

import { grade, milliseconds, percent, worst } from "../format.js";
import { html } from "./html.js";

const TONES = { good: "go", fair: "warn", poor: "stop" };

/** The worse direction in a word, with its mean opinion score. */
export function Quality({ quality }) {
  const told = worst(quality);
  if (!told) return html`<span class="soft">–</span>`;
  const word = grade(told.mos);
  return html`<span class="badge ${TONES[word]}" title=${`mean opinion score ${told.mos.toFixed(1)} of 4.5`}>
    ${word} <span class="figure">${told.mos.toFixed(1)}</span>
  </span>`;
}

/** One direction in figures. */
export function Direction({ told }) {
  if (!told) return html`<span class="soft">–</span>`;
  return html`<span class="figure">${percent(told.loss)} lost, jitter ${milliseconds(told.jitter_s * 1000)}</span>`;
}
