// The time, for what counts seconds on the screen.

import { signal } from "./ui/html.js";

/** Milliseconds, renewed each second. */
export const now = signal(Date.now());

setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, 1000);
