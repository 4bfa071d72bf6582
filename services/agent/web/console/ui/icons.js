// Our own icons: 16 by 16, one stroke, the colour of the text beside them. They repeat what the text says.

import { html } from "./html.js";

const PATHS = {
  calls: "M3 2.5h2.5l1 3-1.6 1.2a8 8 0 0 0 4.4 4.4L10.5 9.5l3 1V13a1 1 0 0 1-1 1A10.5 10.5 0 0 1 2 3.5a1 1 0 0 1 1-1Z",
  talk: "M8 1.5a2 2 0 0 1 2 2v4a2 2 0 0 1-4 0v-4a2 2 0 0 1 2-2ZM3.5 7.5a4.5 4.5 0 0 0 9 0M8 12v2.5",
  personas: "M8 8a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM2.5 14a5.5 5.5 0 0 1 11 0",
  voices: "M2 7v2M5 4.5v7M8 2v12M11 5v6M14 7v2",
  system: "M2.5 3h11v4h-11ZM2.5 9.5h11v4h-11ZM5 5h.01M5 11.5h.01",
  listen: "M2.5 9.5V8a5.5 5.5 0 0 1 11 0v1.5M2.5 9h2v4h-2ZM11.5 9h2v4h-2Z",
  say: "M2.5 3h11v7.5H8L5 13v-2.5H2.5Z",
  keys: "M4 3h.01M8 3h.01M12 3h.01M4 7h.01M8 7h.01M12 7h.01M4 11h.01M8 11h.01M12 11h.01M8 14.5h.01",
  transfer: "M2 5h10M9.5 2.5 12 5 9.5 7.5M14 11H4M6.5 8.5 4 11l2.5 2.5",
  hangUp: "M2 9.5c3.5-3.5 8.5-3.5 12 0l-1.5 2-3-1.200V8.200a7 7 0 0 0-3 0v2.100l-3 1.200Z",
  stop: "M4 4h8v8H4Z",
  play: "M5 3v10l8-5Z",
  check: "M2.5 8.5 6 12l7.5-8",
  add: "M8 2.5v11M2.5 8h11",
  remove: "M3 4h10M6 4V2.5h4V4M4.5 4l.5 9.5h6l.5-9.5",
  back: "M10 3 5 8l5 5",
  theme: "M8 2a6 6 0 1 0 0 12ZM8 2a6 6 0 0 1 0 12",
  leave: "M6 2.5H3v11h3M10.5 5l3 3-3 3M13.5 8H6.5",
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
    <path d=${PATHS[name]} />
  </svg>`;
}
