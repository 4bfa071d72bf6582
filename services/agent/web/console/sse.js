// Server-sent events read from a fetch, which can send a key in a header: EventSource cannot.

/** Takes a stream's text in any pieces and gives its messages (HTML standard, section 9.2.6). */
export class EventParser {
  /** Of the last message that had one: to go on from there. */
  lastId = "";
  #rest = "";
  #name = "";
  #data = [];

  /** The messages that this piece completes: {name, data}, data still as text. */
  push(text) {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?=.)/);
    this.#rest = lines.pop();
    return lines.flatMap((line) => this.#line(line));
  }

  #line(line) {
    if (line === "") return this.#dispatch();
    const [, field, value = ""] = /^([^:]*)(?::\u0020?(.*))?$/s.exec(line);
    if (field === "event") this.#name = value;
    if (field === "data") this.#data.push(value);
    if (field === "id") this.lastId = value;
    return []; // what begins with a colon is a comment
  }

  #dispatch() {
    const message = { name: this.#name || "message", data: this.#data.join("\n") };
    const there = this.#data.length > 0;
    this.#name = "";
    this.#data = [];
    return there ? [message] : [];
  }
}

/** The messages of a response's body: {name, data, id}, data parsed from JSON. */
export async function* messages(body) {
  const parser = new EventParser();
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      for (const { name, data } of parser.push(value)) yield { name, data: JSON.parse(data), id: parser.lastId };
    }
  } finally {
    reader.cancel().catch(() => {}); // whoever stopped reading has said why
  }
}
