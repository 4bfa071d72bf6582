// A unified diff as lines: {kind: "added" | "removed" | "same" | "hunk", old, new, text}; old and new count lines.

export function parseDiff(text) {
  const lines = [];
  let [before, after] = [0, 0];
  for (const line of text.split("\n")) {
    const hunk = /^@@ -(\d+)(?:,\d+)? \+(\d+)/.exec(line);
    if (hunk) {
      [before, after] = [Number(hunk[1]), Number(hunk[2])];
      lines.push({ kind: "hunk", text: line });
    } else if (!before && !after) {
      continue; // names of the two sides
    } else if (line.startsWith("+")) {
      lines.push({ kind: "added", new: after++, text: line.slice(1) });
    } else if (line.startsWith("-")) {
      lines.push({ kind: "removed", old: before++, text: line.slice(1) });
    } else if (line.startsWith(" ")) {
      lines.push({ kind: "same", old: before++, new: after++, text: line.slice(1) });
    }
  }
  return lines;
}
