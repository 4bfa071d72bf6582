// A modal dialog over the browser's own, which keeps the focus inside, ends with Escape, and gives the focus back.

import { Button, Problem } from "./bits.js";
import { cloneElement, html, useId, useLayoutEffect, useRef, useState } from "./html.js";

/**
 * A form in a dialog. When it is closed, whichever way, the browser gives the focus back and `close` is called.
 *
 * @param act does what was asked for; what it raises is shown, and the dialog stays.
 * @param ready whether the form may be sent.
 */
export function Dialog({ title, children, action, kind = "go", icon, act, close, ready = true }) {
  const box = useRef(null);
  const over = useRef(false);
  const id = useId();
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  useLayoutEffect(() => {
    box.current.showModal(); // at once: an Escape may follow
    return () => requestAnimationFrame(focusSomewhere);
  }, []);
  // The browser tells of a closing later, when the dialog may have been asked for again: whoever closes it says so.
  function finish(event) {
    event?.preventDefault();
    if (over.current) return;
    over.current = true;
    box.current?.close();
    close();
  }
  async function submit(event) {
    event.preventDefault();
    if (busy || !ready) return;
    setBusy(true);
    try {
      await act();
      finish();
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  }
  return html`<dialog ref=${box} aria-labelledby=${id} onCancel=${finish} onClose=${finish}>
    <form method="dialog" onSubmit=${submit}>
      <h2 id=${id}>${title}</h2>
      ${children}
      <${Problem} error=${error} />
      <p class="buttons">
        <${Button} kind="quiet" onClick=${finish}>Cancel<//>
        <${Button} type="submit" kind=${kind} icon=${icon} busy=${busy || !ready}>${action}<//>
      </p>
    </form>
  </dialog>`;
}

/** The button that opened a dialog may be gone by what the dialog did. */
function focusSomewhere() {
  if (document.activeElement === document.body) document.querySelector("h1")?.focus();
}

/** A labelled input with a hint. */
export function Field({ label, hint, children: input }) {
  const id = useId();
  const described = [hint && id, input.props["aria-describedby"]].filter(Boolean).join(" ") || undefined;
  return html`<div class="field">
    <label><span class="label">${label}</span>${cloneElement(input, { "aria-describedby": described })}</label>
    ${hint && html`<span class="hint" id=${id}>${hint}</span>`}
  </div>`;
}
