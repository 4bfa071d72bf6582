// A voice says a text.

import { api } from "../session.js";
import { Button, Problem } from "../ui/bits.js";
import { html, useEffect, useRef, useState } from "../ui/html.js";

const TEXT = "Hello, how can I help you?";

/** A Blob as something that an audio element plays; the one before is given back. */
export function useSound() {
  const [url, setUrl] = useState("");
  useEffect(() => () => url && URL.revokeObjectURL(url), [url]);
  return [url, (blob) => setUrl(blob ? URL.createObjectURL(blob) : "")];
}

export function TryVoice({ name }) {
  const [text, setText] = useState(TEXT);
  const [sound, setSound] = useSound();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const player = useRef(null);
  useEffect(() => {
    if (sound) player.current.play().catch(() => {}); // the controls are there
  }, [sound]);
  async function hear(event) {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setError(null);
    try {
      const response = await api().open("POST", `/voices/${encodeURIComponent(name)}:try`, { text });
      setSound(await response.blob());
    } catch (failure) {
      setError(failure);
    }
    setBusy(false);
  }
  return html`<form class="try" onSubmit=${hear}>
    <input
      type="text"
      maxlength="300"
      required
      aria-label=${`Text for ${name}`}
      value=${text}
      onInput=${(event) => setText(event.target.value)}
    />
    <${Button} type="submit" icon="play" busy=${busy}>Hear it<//>
    <audio controls ref=${player} src=${sound || undefined} hidden=${!sound} aria-label=${`${name} says it`}></audio>
    <${Problem} error=${error} />
  </form>`;
}
