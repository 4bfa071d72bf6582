// What is said in a call, as it comes. Screen readers read a line out when it is whole.

import { html, useLayoutEffect, useRef } from "./html.js";

const WHO = { bot: "Bot", caller: "Caller" };
const NEAR_PX = 40; // from the end: whoever scrolled back is left there

export function Captions({ lines, empty = "Nothing has been said yet.", caller = WHO.caller }) {
  const list = useRef(null);
  const atEnd = useRef(true);
  useLayoutEffect(() => {
    if (atEnd.current) list.current.scrollTop = list.current.scrollHeight;
  }, [lines]);
  function scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = list.current;
    atEnd.current = scrollHeight - scrollTop - clientHeight < NEAR_PX;
  }
  return html`<ol class="captions" role="log" aria-live="polite" aria-labelledby="captions-title" tabindex="0" ref=${list} onScroll=${scrolled}>
    ${lines.length === 0 && html`<li class="none" key="none">${empty}</li>`}
    ${lines.map(
      (line) => html`<li key=${line.id} class="line ${line.who}" data-turn=${line.turn} aria-busy=${!line.done}>
        <span class="who">${line.who === "caller" ? caller : WHO.bot}</span>
        <span class="said">${line.text}${line.cut && html`<span class="cut"> (interrupted)</span>`}</span>
      </li>`,
    )}
  </ol>`;
}
