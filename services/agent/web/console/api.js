// Requests to the agent's API, docs/api.md.

import { messages } from "./sse.js";

const JSON_TYPE = "application/json";
export const YAML = "application/yaml";

/** The agent refused; `message` is what it said, `problems` what is wrong with a persona: {key, message, line}. */
export class ApiError extends Error {
  constructor(status, message, problems = [], retryAfterS = 0) {
    super(message);
    this.status = status;
    this.problems = problems;
    this.retryAfterS = retryAfterS;
  }
}

/** The API for one key. */
export class Api {
  constructor(key, base = "../api/v1") {
    this.key = key;
    this.base = base;
    this.refused = () => {}; // told that the key is not known any more
  }

  /** A request and its answer: parsed when it is JSON, else text; null for none. */
  async ask(method, path, body, { type = JSON_TYPE, headers = {}, signal } = {}) {
    const response = await this.open(method, path, body, { type, headers, signal });
    if (response.status === 204) return null;
    return isJson(response) ? response.json() : response.text();
  }

  get(path, options) {
    return this.ask("GET", path, undefined, options);
  }

  /** A request whose answer is read by the caller. Raises ApiError. */
  async open(method, path, body, { type = JSON_TYPE, headers = {}, signal } = {}) {
    const plain = body instanceof FormData || typeof body === "string" || body === undefined;
    const response = await fetch(this.base + path, {
      method,
      signal,
      headers: {
        Authorization: `Bearer ${this.key}`,
        ...(body !== undefined && !(body instanceof FormData) && { "Content-Type": type }),
        ...headers,
      },
      body: plain ? body : JSON.stringify(body),
    });
    if (response.ok) return response;
    const error = await refusal(response);
    if (error.status === 401) this.refused(error);
    throw error;
  }

  /**
   * Events until the agent or `signal` ends them: from now on, after the event `lastId`, or for one call from as far
   * back as the agent has them.
   */
  async *events(callId, lastId, signal) {
    const query = callId ? `?${new URLSearchParams({ call_id: callId, recent: "true" })}` : "";
    const headers = lastId ? { "Last-Event-ID": lastId } : {};
    const response = await this.open("GET", `/events${query}`, undefined, { signal, headers });
    yield* messages(response.body);
  }
}

function isJson(response) {
  return response.headers.get("Content-Type")?.startsWith(JSON_TYPE);
}

async function refusal(response) {
  const retryAfterS = Number(response.headers.get("Retry-After")) || 0;
  const body = isJson(response) ? await response.json().catch(() => ({})) : {};
  const detail = typeof body.detail === "string" ? body.detail : `the agent answers ${response.status}`;
  return new ApiError(response.status, detail, body.problems ?? [], retryAfterS);
}

/** What went wrong, for a person. */
export function reason(error) {
  if (error instanceof ApiError) {
    if (error.status === 403) return `Your role does not allow this: ${error.message}.`;
    if (error.status === 429) return `Too many requests. Try again in ${error.retryAfterS || 1} s.`;
    const said = error.message.charAt(0).toUpperCase() + error.message.slice(1);
    return /[.!?]$/.test(said) ? said : `${said}.`;
  }
  if (error instanceof TypeError) return "The agent cannot be reached.";
  return error.message;
}
