// The audio of a call as the API streams it, audio/L16 (RFC 2586): signed 16-bit
// big-endian samples, caller and bot in turn. Pure.

const FRAME_BYTES = 4;

/** Joins a stream's chunks, which may end anywhere, into whole frames. */
export class Frames {
  #rest = new Uint8Array(0);

  /** Interleaved samples between -1 and 1, of all whole frames that are there now. */
  push(chunk) {
    const bytes = new Uint8Array(this.#rest.length + chunk.length);
    bytes.set(this.#rest);
    bytes.set(chunk, this.#rest.length);
    const whole = bytes.length - (bytes.length % FRAME_BYTES);
    this.#rest = bytes.slice(whole);
    const view = new DataView(bytes.buffer, 0, whole);
    return Float32Array.from({ length: whole / 2 }, (_, at) => view.getInt16(at * 2, false) / 32768);
  }
}
