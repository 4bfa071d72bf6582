// Small parts that many views are made of.

import { reason } from "../api.js";
import { html, useLayoutEffect, useRef } from "./html.js";
import { Icon } from "./icons.js";

const STATES = { live: "go", ringing: "warn", ended: "off", serving: "go", draining: "warn", gone: "stop" };

/** A state in a word, with a colour that repeats it. */
export function Badge({ state, tone = STATES[state] ?? "off" }) {
  return html`<span class="badge ${tone}">${state}</span>`;
}

/** A button with an icon; `busy` keeps it from being pressed twice without taking the focus from it. */
export function Button({ icon, children, kind = "", busy = false, onClick, ...more }) {
  const press = (event) => (busy ? event.preventDefault() : onClick?.(event));
  return html`<button type="button" class=${`button ${kind}`} aria-disabled=${busy || undefined} onClick=${press} ...${more}>
    ${icon && html`<${Icon} name=${icon} />`}<span>${children}</span>
  </button>`;
}

/** What went wrong, told at once. The place is kept, so that nothing jumps. */
export function Problem({ error }) {
  return html`<p class="problem" role="alert">${error ? (typeof error === "string" ? error : reason(error)) : ""}</p>`;
}

/** The heading of a view, which takes the focus when the view is opened. */
export function Title({ children, focus = true }) {
  const heading = useRef(null);
  useLayoutEffect(() => {
    if (focus) heading.current.focus({ preventScroll: true });
  }, []);
  return html`<h1 tabindex="-1" ref=${heading}>${children}</h1>`;
}

/** How much of a capacity is taken. */
export function Load({ taken, of }) {
  const share = of ? Math.min(1, taken / of) : 0;
  return html`<span class="load">
    <span class="load-bar ${share >= 1 ? "full" : ""}" aria-hidden="true"><i style=${{ width: `${share * 100}%` }}></i></span>
    <span class="figure">${taken} of ${of}</span>
  </span>`;
}

/** A table row's name and value where there is no room for a table. */
export function Facts({ facts }) {
  const told = facts.filter(([, value]) => value !== undefined && value !== "" && value !== null);
  return html`<dl class="facts">
    ${told.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`;
}

export function Empty({ children }) {
  return html`<p class="empty">${children}</p>`;
}
