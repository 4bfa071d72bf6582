// One call over WebRTC, without a screen; docs/webrtc.md describes its HTTP side and its messages. Captions and events
// come over the data channel as RTVI messages. A call outlives its connection for a while: after a reload, or when the
// network is back, the page finds it again by the secret that came with the answer. When its agent is gone, another one
// at the same address goes on with the conversation.

import { cut, heard, restored, said, whole } from "./captions.js";
import { GoneError, Link, RefusedError, Signalling } from "./link.js";

const LIVE = "Connected. Just talk; you may interrupt.";
const LOST_MS = 2000; // a connection may recover by itself for so long
const RETRY_MS = 1000;
const LEFT_MS = 5000; // so long after its agent hung up another one may go on with the call
const PATIENCE_MS = 30000; // after a reload; an answer says how long it is from then on

/**
 * A call, from `start` until `end`.
 *
 * @param options.screen what is told: `state(state, status)` with idle, connecting or live; `track(track)`;
 *   `captions(lines)`; `speaking(who, on)` with you or bot; `turn(turn, stages)`.
 * @param options.kept name in sessionStorage under which the call's secret survives a reload of this tab.
 * @param options.base path of the agent's pages, from the page on.
 * @param options.key of the page, or none.
 * @param options.answers who is to answer: {persona} by name, {draft} of one, or nothing for whoever usually does.
 */
export class Phone {
  constructor({ screen, kept, base = "", key = "", answers = {} }) {
    this.screen = screen;
    this.kept = kept;
    this.answers = answers;
    this.signalling = new Signalling(base, key);
    this.over = false;
    this.secret = null;
    this.callId = "";
    this.lines = [];
    this.patienceMs = PATIENCE_MS;
  }

  /** Whether a call of before this page's reload can be taken up. */
  static isKept(kept) {
    return sessionStorage.getItem(kept) !== null;
  }

  /** Calls, or with `again` takes up the call of before the reload. Ends by itself when that fails. */
  async start(again = false) {
    this.secret = again ? sessionStorage.getItem(this.kept) : null;
    this.screen.state("connecting", again ? "Returning to your call…" : "Calling…");
    this.#show([]);
    try {
      this.microphone = await navigator.mediaDevices.getUserMedia({
        audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
      });
      if (this.over) return this.#release();
      if (!this.secret) return await this.#connect();
      this.lostAt = Date.now();
      await this.#reconnect();
    } catch (error) {
      if (!(error instanceof GoneError)) console.error(error);
      this.end(explain(error));
    }
  }

  /** Hangs up; `status` says why. */
  end(status) {
    if (this.over) return;
    this.over = true;
    clearTimeout(this.losing);
    sessionStorage.removeItem(this.kept);
    this.#hangUp();
    for (const who of ["you", "bot"]) this.screen.speaking(who, false);
    this.screen.state("idle", status);
  }

  async #connect() {
    const iceServers = await this.signalling.iceServers();
    if (this.over) return;
    this.link?.close();
    const link = (this.link = new Link(this.signalling, iceServers, this.microphone.getAudioTracks()[0], {
      message: (message) => this.#receive(message),
      track: (track) => this.screen.track(track),
      changed: (changed) => this.#linkChanged(changed),
    }));
    const answer = await link.connect(this.secret, this.answers);
    this.secret = answer.pc_id;
    this.callId = answer.call_id;
    this.patienceMs = answer.resume_s * 1000;
    if (this.over) return this.#hangUp(); // it was cancelled meanwhile
    if (this.patienceMs) sessionStorage.setItem(this.kept, this.secret);
  }

  #linkChanged(link) {
    if (link !== this.link || this.over) return;
    const state = link.peer.connectionState;
    if (state === "connected") {
      clearTimeout(this.losing);
      this.lostAt = null;
      this.agentLeft = false;
      this.screen.state("live", LIVE);
    } else if (state === "disconnected" || state === "failed") {
      this.lostAt ??= Date.now();
      this.screen.state("connecting", "The connection was lost. Reconnecting…");
      clearTimeout(this.losing);
      this.losing = setTimeout(() => this.#reconnect(), state === "failed" ? 0 : LOST_MS);
    }
  }

  async #reconnect() {
    if (this.over || this.link?.peer.connectionState === "connected") return;
    const waited = Date.now() - this.lostAt;
    if (this.agentLeft && waited > LEFT_MS) return this.end("The call has ended.");
    if (waited > this.patienceMs) return this.end("The connection was lost.");
    try {
      await this.#connect();
      this.losing = setTimeout(() => this.#reconnect(), this.patienceMs / 2);
    } catch (error) {
      if (error instanceof GoneError) return this.end(error.message);
      this.losing = setTimeout(() => this.#reconnect(), RETRY_MS); // the network is not back yet
    }
  }

  // The agent hung up: because the call is over, or because the agent stops, and then another one goes on with it.
  #left() {
    this.lostAt ??= Date.now();
    this.agentLeft = true;
    clearTimeout(this.losing);
    if (!this.patienceMs) return this.end("The call has ended.");
    this.link.close();
    this.#reconnect();
  }

  #receive(message) {
    const data = message.data ?? {};
    switch (message.type) {
      case "bot-llm-text":
        return this.#show(said(this.lines, "bot", data.turn, data.text));
      case "bot-transcription":
        return this.#show(whole(this.lines, "bot", data.turn, data.text));
      case "user-transcription":
        return this.#show(heard(this.lines, data.turn, data.text));
      case "bot-started-speaking":
      case "bot-stopped-speaking":
        return this.screen.speaking("bot", message.type === "bot-started-speaking");
      case "user-started-speaking":
      case "user-stopped-speaking":
        return this.screen.speaking("you", message.type === "user-started-speaking");
      case "server-message":
        if (data.type === "turn-latency") this.screen.turn(data.turn, data.stages);
        if (data.type === "barge-in") this.#show(cut(this.lines));
        if (data.type === "resumed") this.#restore(data.captions);
        return;
      case "signalling":
        if (message.message?.type === "peerLeft") this.#left();
    }
  }

  #restore(captions) {
    for (const who of ["you", "bot"]) this.screen.speaking(who, false);
    this.#show(restored(captions));
  }

  #show(lines) {
    this.lines = lines;
    this.screen.captions(lines);
  }

  #hangUp() {
    if (this.secret) this.signalling.hangUp(this.secret).catch(() => {}); // it may have ended already
    this.#release();
  }

  #release() {
    this.microphone?.getTracks().forEach((track) => track.stop());
    this.link?.close();
  }
}

function explain(error) {
  if (error instanceof RefusedError || error instanceof GoneError) return error.message;
  if (error.name === "NotAllowedError") return "The microphone was not allowed. Allow it, then call again.";
  if (error.name === "NotFoundError") return "There is no microphone.";
  if (!navigator.mediaDevices) return "The browser gives the microphone to https pages only.";
  return "The call could not be placed. Please try again.";
}
