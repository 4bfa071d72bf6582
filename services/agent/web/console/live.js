// Subscriptions: they start with a view and end with it, and come back after whatever ended them.

import { ApiError } from "./api.js";

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 15000;

/** Resolves after `ms`, or when `signal` aborts. */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

/**
 * Reads something again and again; returns what stops it.
 *
 * @param read asked with an AbortSignal; resolves to true when that was the last time.
 * @param failed told of an error, and with null that it is over.
 */
export function repeat(read, everyMs, failed) {
  const stop = new AbortController();
  (async () => {
    let wait = everyMs;
    while (!stop.signal.aborted) {
      try {
        const done = await read(stop.signal);
        failed(null);
        if (done === true) return;
        wait = everyMs;
      } catch (error) {
        if (stop.signal.aborted) return;
        failed(error);
        wait = Math.min(Math.max(wait * 2, (error.retryAfterS ?? 0) * 1000), LONGEST_WAIT_MS);
      }
      await pause(document.hidden ? wait * 4 : wait, stop.signal);
    }
  })();
  return () => stop.abort();
}

/**
 * Follows the agent's events; returns what stops it. A stream that breaks is taken up where it was.
 *
 * @param callId of the only call; the stream is over with it, or when it is not here: `ended` is called then.
 */
export function follow(api, { callId = "", event, ended = () => {}, failed = () => {} }) {
  const stop = new AbortController();
  (async () => {
    let wait = FIRST_WAIT_MS;
    let lastId = "";
    while (!stop.signal.aborted) {
      try {
        for await (const { name, data, id } of api.events(callId, lastId, stop.signal)) {
          lastId = id;
          wait = FIRST_WAIT_MS;
          failed(null);
          event(name, data);
        }
      } catch (error) {
        if (stop.signal.aborted) return;
        if (error instanceof ApiError && [404, 409].includes(error.status)) return ended();
        failed(error);
        wait = Math.min(wait * 2, LONGEST_WAIT_MS);
      }
      await pause(wait, stop.signal);
    }
  })();
  return () => stop.abort();
}
