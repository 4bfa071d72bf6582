// The one door to the vendored library: Preact, its hooks and signals, and htm instead of a compiler for templates.

import htm from "../../vendored/htm.js";
import { h } from "../../vendored/preact.js";

export { createRef, Fragment, render } from "../../vendored/preact.js";
export { useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "../../vendored/hooks.js";
export { batch, computed, effect, signal, useSignal } from "../../vendored/signals.js";

export const html = htm.bind(h);
