// What was said in a call, as lines: {id, who: "bot" | "caller", turn, text, cut, done}. Pure: each function returns new
// lines, and leaves those it was given as they were.

const open = (lines, who, turn) => lines.findLastIndex((line) => !line.done && line.who === who && line.turn === turn);

function changed(lines, index, change) {
  return lines.map((line, at) => (at === index ? { ...line, ...change } : line));
}

function added(lines, line) {
  const id = Math.max(0, ...lines.map((one) => one.id)) + 1;
  return [...lines, { id, cut: false, done: false, ...line }];
}

/** A further piece of a line that is being said. */
export function said(lines, who, turn, text) {
  const index = open(lines, who, turn);
  if (index < 0) return text ? added(lines, { who, turn, text }) : lines;
  return changed(lines, index, { text: lines[index].text + text });
}

/** All of a line; without a text it is what was said so far. */
export function whole(lines, who, turn, text) {
  const index = open(lines, who, turn);
  if (index >= 0) return changed(lines, index, { done: true, ...(text && { text }) });
  return text ? added(lines, { who, turn, text, done: true }) : lines;
}

/** All that was heard so far of one of the bot's answers, which are counted over the call. */
export function spoken(lines, { turn, answer, text, done, interrupted }) {
  const change = { text, done, cut: interrupted };
  const index = lines.findIndex((line) => line.answer === answer);
  if (index >= 0) return changed(lines, index, change);
  return text ? added(lines, { who: "bot", turn, answer, ...change }) : lines;
}

/** What the caller said in a turn. It may come after the answer to it has begun, and stands before it all the same. */
export function heard(lines, turn, text) {
  if (lines.some((line) => line.who === "caller" && line.turn === turn && line.text === text)) return lines; // told twice
  const answer = lines.findIndex((line) => line.who === "bot" && line.turn === turn);
  const after = added(lines, { who: "caller", turn, text, done: true });
  return answer < 0 ? after : [...lines.slice(0, answer), after.at(-1), ...lines.slice(answer)];
}

/** The bot was interrupted in what it said last. */
export function cut(lines) {
  const index = lines.findLastIndex((line) => line.who === "bot");
  return index < 0 ? lines : changed(lines, index, { cut: true, done: true });
}

/** What a page is told of a call that it comes back to. */
export function restored(captions) {
  return captions.reduce(
    (lines, { turn, text, interrupted, unfinished }) =>
      added(lines, { who: "bot", turn, text, cut: Boolean(interrupted), done: !unfinished }),
    [],
  );
}
