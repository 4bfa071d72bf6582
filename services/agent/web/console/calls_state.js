// The calls there are: the list as it was read last, and what happened since. Pure.

/** calls by id, quality by id, agent: {id, capacity, active, draining}. */
export const noCalls = { known: false, agent: null, calls: new Map(), quality: new Map() };

/** After the list was read. */
export function listed(state, { agent_id, capacity, active, draining, calls }) {
  const now = new Map(calls.map((call) => [call.call_id, call]));
  const quality = new Map([...state.quality].filter(([id]) => now.has(id)));
  return { known: true, agent: { id: agent_id, capacity, active, draining }, calls: now, quality };
}

/** After an event of the agent's stream. */
export function happened(state, name, data) {
  if (name === "Quality") return { ...state, quality: new Map(state.quality).set(data.call_id, data) };
  if (name !== "call") return state;
  const calls = new Map(state.calls);
  if (data.state === "ended") calls.delete(data.call_id);
  else calls.set(data.call_id, { ...calls.get(data.call_id), ...data });
  return { ...state, calls };
}

/** Calls as a table shows them: the newest first. */
export function inOrder(state) {
  return [...state.calls.values()].sort((a, b) => b.started.localeCompare(a.started));
}
