// One call, from what the agent tells of it. Pure: each function returns a new state. What is told twice counts once: a
// stream that is begun again repeats what the agent still has.

import { heard, spoken } from "../shared/captions.js";

const KEPT_EVENTS = 500;

/**
 * record: as the API has it; past: lines of before the stream; lines: of the stream; turns: {turn, stages}; quality: the
 * newest; events: {id, time, kind, text}; listeners: names of keys.
 */
export const nothing = { record: null, past: [], lines: [], turns: [], quality: null, events: [], listeners: [], over: false };

const TELLS = {
  BargeIn: ({ turn }) => `the caller interrupted the bot in turn ${turn}`,
  Dtmf: ({ digit }) => `the caller pressed ${digit}`,
  ActionStarted: ({ name, kind }) => `action ${name} (${kind}) began`,
  ActionDone: ({ name, kind, outcome }) => `action ${name} (${kind}): ${outcome}`,
  Transfer: ({ target, outcome, detail }) => `transfer to ${target}: ${outcome}${detail ? `, ${detail}` : ""}`,
  Listening: ({ who, on }) => `${who} ${on ? "listens in" : "no longer listens in"}`,
};

/** After an event of the API's stream. */
export function after(state, name, data) {
  switch (name) {
    case "call":
      return withRecord(state, data);
    case "Spoken":
      return { ...state, lines: spoken(state.lines, data) };
    case "CallerCaption":
      return { ...state, lines: heard(state.lines, data.turn, data.text) };
    case "TurnTimes":
      return { ...state, turns: withTurn(state.turns, data) };
    case "Quality":
      return { ...state, quality: data };
    case "Listening":
      return noted({ ...state, listeners: withListener(state.listeners, data) }, name, data);
    default:
      return name in TELLS ? noted(state, name, data) : state;
  }
}

function withRecord(state, record) {
  const over = record.state === "ended";
  const next = { ...state, record: { ...state.record, ...record }, over, ...(over && { listeners: [] }) };
  if (state.record?.state === record.state || record.time === undefined) return next;
  const why = over && record.end_reason ? `: ${record.end_reason}` : "";
  return noted(next, "call", record, `the call is ${record.state}${why}`);
}

function withTurn(turns, { turn, stages }) {
  return [...turns.filter((one) => one.turn !== turn), { turn, stages }].sort((a, b) => a.turn - b.turn);
}

function withListener(listeners, { who, on }) {
  const others = listeners.filter((one) => one !== who);
  return on ? [...others, who] : others;
}

function noted(state, kind, data, text = TELLS[kind](data)) {
  const { events } = state;
  if (events.some((one) => one.time === data.time && one.text === text)) return state;
  const id = (events.at(-1)?.id ?? 0) + 1;
  return { ...state, events: [...events, { id, time: data.time, kind, text }].slice(-KEPT_EVENTS) };
}

/** With what was said before the stream began, as the call's conversation has it. */
export function withPast(state, entries) {
  const told = entries.filter(({ role, text }) => text && (role === "assistant" || role === "user"));
  const past = told.map(({ role, turn, text, interrupted }, at) => {
    const who = role === "assistant" ? "bot" : "caller";
    return { id: `past-${at}`, who, turn, text, cut: Boolean(interrupted), done: true };
  });
  return { ...state, past };
}

/** All lines: those of before the stream, as far as the stream has not brought them too, and those of the stream. */
export function linesOf({ past, lines }) {
  const first = Math.min(...lines.map(({ turn }) => turn));
  const known = ({ who, turn, text }) =>
    turn > first || lines.some((line) => line.who === who && line.turn === turn && same(line.text, text));
  return [...past.filter((line) => !known(line)), ...lines];
}

function same(one, other) {
  const [a, b] = [one.trim(), other.trim()];
  return a.startsWith(b) || b.startsWith(a);
}
