// Listening in to a call. It begins with a click, never by itself.

import { Frames } from "./pcm.js";

const RATE = 16000;
const WINDOW = 512; // samples of which a level is told

/** One session of listening; `over` is called when the call ends or the stream breaks, with the error or null. */
export class Listening {
  constructor(over) {
    this.over = over;
    this.stopped = new AbortController();
    this.volume = { caller: 1, bot: 1 };
    this.gains = {};
    this.meters = {};
    this.window = new Float32Array(WINDOW);
  }

  /** Opens the stream and plays it. */
  async start(api, callId) {
    try {
      if (!window.isSecureContext) throw new Error("The browser plays streams on https pages only.");
      const context = (this.context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" }));
      await context.audioWorklet.addModule(new URL("listen-worklet.js", import.meta.url));
      const { signal } = this.stopped;
      const response = await api.open("GET", `/calls/${callId}/audio`, undefined, { signal });
      this.#play(context);
      await this.#read(response.body.getReader());
      this.#end(null);
    } catch (error) {
      this.#end(this.stopped.signal.aborted ? null : error);
    }
  }

  /** The volume of one side, 0 to 2. */
  setVolume(side, volume) {
    this.volume[side] = volume;
    this.gains[side]?.gain.setTargetAtTime(volume, this.context.currentTime, 0.02);
  }

  /** How loud one side is now, whatever its volume: the highest sample, 0 to 1. */
  level(side) {
    if (!this.meters[side]) return 0;
    this.meters[side].getFloatTimeDomainData(this.window);
    return this.window.reduce((loudest, sample) => Math.max(loudest, Math.abs(sample)), 0);
  }

  stop() {
    this.stopped.abort();
    this.#close();
  }

  #play(context) {
    const options = { numberOfInputs: 0, numberOfOutputs: 2, outputChannelCount: [1, 1] };
    this.node = new AudioWorkletNode(context, "listening", options);
    ["caller", "bot"].forEach((side, at) => {
      const gain = (this.gains[side] = new GainNode(context, { gain: this.volume[side] }));
      const pan = new StereoPannerNode(context, { pan: at ? 0.6 : -0.6 });
      const meter = (this.meters[side] = new AnalyserNode(context, { fftSize: WINDOW }));
      this.node.connect(meter, at).connect(gain).connect(pan).connect(context.destination);
    });
  }

  async #read(reader) {
    const frames = new Frames();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const samples = frames.push(value);
      this.node.port.postMessage(samples, [samples.buffer]);
    }
  }

  #end(error) {
    this.#close();
    this.over(error);
  }

  #close() {
    if (this.context && this.context.state !== "closed") this.context.close();
  }
}
