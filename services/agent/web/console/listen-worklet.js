// Plays a call that is listened in to: interleaved samples of caller and bot come in by messages, and leave as two
// outputs, so that each has a volume of its own. Runs on the audio thread.

const LATENCY_S = 0.15; // is waited for before playing, and after running dry
const LONGEST_S = 0.6; // more than this is behind the call: the oldest is left out

class Listening extends AudioWorkletProcessor {
  constructor() {
    super();
    this.pieces = []; // Float32Array of interleaved samples
    this.at = 0; // in the first of them
    this.waiting = 0; // frames in all of them
    this.playing = false;
    this.port.onmessage = ({ data }) => this.take(data);
  }

  take(piece) {
    this.pieces.push(piece);
    this.waiting += piece.length / 2;
    while (this.waiting > LONGEST_S * sampleRate) this.drop();
    if (this.waiting > LATENCY_S * sampleRate) this.playing = true;
  }

  drop() {
    this.waiting -= (this.pieces[0].length - this.at) / 2;
    this.pieces.shift();
    this.at = 0;
  }

  process(_, [caller, bot]) {
    for (let frame = 0; frame < caller[0].length && this.playing; frame++) {
      if (!this.pieces.length) {
        this.playing = false;
        break;
      }
      caller[0][frame] = this.pieces[0][this.at];
      bot[0][frame] = this.pieces[0][this.at + 1];
      this.at += 2;
      this.waiting -= 1;
      if (this.at >= this.pieces[0].length) {
        this.pieces.shift();
        this.at = 0;
      }
    }
    return true;
  }
}

registerProcessor("listening", Listening);
