// Values as people read them. Pure: the time is passed in.

/** 75 -> "1:15"; 3700 -> "1:01:40". */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (value) => String(value).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** A clock time of Unix seconds. */
export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });
}

/** An ISO date as date and time here. */
export function moment(iso) {
  return new Date(iso).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

export function milliseconds(value) {
  return value === undefined || value === null ? "–" : `${Math.round(value)} ms`;
}

/** 0.0123 -> "1.2 %". */
export function percent(share) {
  return share === undefined || share === null ? "–" : `${(share * 100).toFixed(1)} %`;
}

/** What a mean opinion score (ITU-T G.107) is like: good, fair, poor; empty for none. */
export function grade(mos) {
  if (!mos) return "";
  return mos >= 4 ? "good" : mos >= 3.6 ? "fair" : "poor";
}

/** A call's persona with its version; 0 is a draft that was never saved. */
export function personaOf({ persona, persona_version: version }) {
  return `${persona} ${version ? `v${version}` : "(draft)"}`;
}

/** The worse one of a call's two directions: {mos, loss, jitter_s}; null while nobody tells. */
export function worst(quality) {
  const told = [quality?.received, quality?.sent].filter((one) => one?.mos);
  return told.length ? told.reduce((one, other) => (other.mos < one.mos ? other : one)) : null;
}

/** "sip:100@example.com" -> "100@example.com". */
export function party(address) {
  return address ? address.replace(/^sips?:/, "") : "–";
}
