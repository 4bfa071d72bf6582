// The one door to the vendored library: Preact, its hooks and signals, and htm instead of a compiler for templates.

import htm from "../../vendored/htm.js";
import { h } from "../../vendored/preact.js";

export { cloneElement, render } from "../../vendored/preact.js";
export { useEffect, useId, useLayoutEffect, useRef, useState } from "../../vendored/hooks.js";
export { computed, signal } from "../../vendored/signals.js";

export const html = htm.bind(h);
