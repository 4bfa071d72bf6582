// A text area with line numbers; lines with something wrong are marked, and say what.

import { html, useLayoutEffect, useRef } from "./html.js";

/** Where a line begins and ends in a text. Pure. */
export function lineRange(text, number) {
  const lines = text.split("\n");
  const start = lines.slice(0, number - 1).reduce((at, line) => at + line.length + 1, 0);
  return [start, start + (lines[number - 1]?.length ?? 0)];
}

/**
 * @param problems {key, message, line} each; those without a line stand above the text.
 * @param change told of the new text; none: it is for reading only.
 */
export function Editor({ text, problems = [], change, label }) {
  const area = useRef(null);
  const gutter = useRef(null);
  const lines = text.split("\n").length;
  const inOrder = [...problems].sort((one, other) => (one.line ?? 0) - (other.line ?? 0));
  const wrong = new Map(problems.filter(({ line }) => line).map((problem) => [problem.line, problem]));
  const align = () => (gutter.current.scrollTop = area.current.scrollTop);
  useLayoutEffect(align);
  function show(line) {
    area.current.focus();
    area.current.setSelectionRange(...lineRange(text, line));
    const height = area.current.scrollHeight / Math.max(1, lines);
    area.current.scrollTop = Math.max(0, (line - 4) * height);
  }
  return html`<div class="editor">
    <ul class="problems" role="alert" aria-label="Problems">
      ${inOrder.map(
        ({ key, message, line }) => html`<li key=${`${key} ${message}`}>
          ${line ? html`<button type="button" class="link" onClick=${() => show(line)}>Line ${line}</button>` : null}
          ${key && html`<code>${key}</code>`} <span>${message}</span>
        </li>`,
      )}
    </ul>
    <div class="editor-box" style=${{ height: `${(lines + 2) * 1.25}rem` }}>
      <ol class="gutter" aria-hidden="true" ref=${gutter}>
        ${Array.from({ length: lines }, (_, at) => html`<li key=${at} class=${wrong.has(at + 1) ? "wrong" : ""}>${at + 1}</li>`)}
      </ol>
      <textarea
        ref=${area}
        aria-label=${label}
        aria-invalid=${problems.length > 0}
        spellcheck=${false}
        autocapitalize="off"
        wrap="off"
        readonly=${!change}
        value=${text}
        onInput=${(event) => change(event.target.value)}
        onScroll=${align}
      ></textarea>
    </div>
  </div>`;
}
