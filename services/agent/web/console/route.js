// Addresses of the console: all behind the `#`, which browsers send nowhere.

/** Of an address: {view, name}; name is a call's id, or a persona's or voice's name. */
export function parse(hash) {
  const [view = "", name = ""] = hash.replace(/^#\/?/, "").split("/").map(decoded);
  if (["calls", "talk", "personas", "voices", "system"].includes(view)) return { view, name };
  return { view: "calls", name: "" };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return "";
  }
}

export function address(view, name = "") {
  return `#/${view}${name ? `/${encodeURIComponent(name)}` : ""}`;
}
