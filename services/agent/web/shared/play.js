/** Plays a call's audio; a browser that wants a click or a key first gets it from the next one. */
export function play(audio, track, blocked) {
  audio.srcObject = new MediaStream([track]);
  audio.play().catch((error) => {
    if (error.name !== "NotAllowedError") return;
    blocked("Your browser blocks the sound. Press any key, or click, to hear the call.");
    for (const kind of ["keydown", "pointerdown"]) addEventListener(kind, () => audio.play(), { once: true });
  });
}
