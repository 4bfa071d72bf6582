// One call over WebRTC; docs/webrtc.md describes its HTTP side and its messages. Captions and events come over the data
// channel as RTVI messages. A call outlives its connection for a while: after a reload, or when the network is back, the
// page finds it again by the secret that came with the answer. When its agent is gone, another one at the same address
// goes on with the conversation.

const STAGES = {
  turn_decided: "turn decided",
  last_tokens: "last tokens",
  first_lm_token: "LM token",
  first_speech_token: "speech token",
  first_pcm: "PCM",
  first_packet: "packet",
};
const LIVE = "Connected. Just talk; you may interrupt.";
const KEPT = "trunkline-call"; // in sessionStorage: it survives a reload of this tab, and nothing else
const TRICKLE_MS = 50; // candidates found together are sent together
const LOST_MS = 2000; // a connection may recover by itself for so long
const RETRY_MS = 1000;
// Of an operator who wants one: the page's address ends with #key=KEY then, which browsers send nowhere.
const KEY = new URLSearchParams(location.hash.slice(1)).get("key");
const LEFT_MS = 5000; // so long after its agent hung up another one may go on with the call
const PATIENCE_MS = 30000; // after a reload; an answer says how long it is from then on

const byId = (id) => document.getElementById(id);
const button = byId("call");
const captions = byId("captions");
let call = null;

function show(state, status) {
  button.dataset.state = state;
  byId("call-label").textContent = { idle: "Call", connecting: "Cancel", live: "Hang up" }[state];
  if (status) byId("status").textContent = status;
}

class RefusedError extends Error {}
class GoneError extends Error {}

async function ask(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: { ...(body && { "Content-Type": "application/json" }), ...(KEY && { Authorization: `Bearer ${KEY}` }) },
    body: body && JSON.stringify(body),
  });
  if (response.status === 404) throw new GoneError("The call has ended.");
  if (!response.ok) throw new RefusedError(refusal(response));
  return response.status === 204 ? null : response.json();
}

function refusal(response) {
  if (response.status === 401) return "This page was opened without its key.";
  if (response.status === 429) return "Too many attempts. Please wait a little.";
  if (response.status !== 503) return `The call could not be placed (${response.status}).`;
  const seconds = response.headers.get("Retry-After");
  return `All lines are busy.${seconds ? ` Please try again in ${seconds} seconds.` : ""}`;
}

// One peer connection. A call that reconnects gets another one.
class Link {
  constructor(owner, servers) {
    this.owner = owner;
    this.peer = new RTCPeerConnection({ iceServers: servers });
    this.candidates = [];
    this.peer.addTransceiver(owner.microphone.getAudioTracks()[0], { direction: "sendrecv" });
    this.channel = this.peer.createDataChannel("rtvi");
    this.channel.onmessage = (event) => owner.receive(JSON.parse(event.data));
    this.peer.ontrack = (event) => owner.hear(event.track);
    this.peer.onconnectionstatechange = () => owner.linkChanged(this);
    this.peer.onicecandidate = (event) => this.found(event.candidate);
  }

  async connect(secret) {
    await this.peer.setLocalDescription();
    const { sdp, type } = this.peer.localDescription;
    const offer = secret ? { sdp, type, pc_id: secret, restart_pc: true } : { sdp, type };
    const answer = await ask("POST", "api/offer", offer);
    this.secret = answer.pc_id;
    if (this.peer.signalingState === "closed") return answer;
    await this.peer.setRemoteDescription({ sdp: answer.sdp, type: answer.type });
    this.trickle();
    return answer;
  }

  found(candidate) {
    // The last one is empty: there are no more.
    const { sdpMid, sdpMLineIndex } = candidate ?? { sdpMid: "0", sdpMLineIndex: 0 };
    this.candidates.push({ candidate: candidate?.candidate ?? "", sdp_mid: sdpMid, sdp_mline_index: sdpMLineIndex });
    clearTimeout(this.trickling);
    this.trickling = setTimeout(() => this.trickle(), TRICKLE_MS);
  }

  trickle() {
    if (!this.secret || !this.candidates.length) return;
    const candidates = this.candidates.splice(0);
    ask("PATCH", "api/offer", { pc_id: this.secret, candidates }).catch((error) => console.warn(error));
  }

  close() {
    clearTimeout(this.trickling);
    this.peer.onconnectionstatechange = null;
    this.peer.close();
  }
}

class Call {
  constructor(secret = null) {
    this.over = false;
    this.secret = secret;
    this.lines = new Map();
    this.patienceMs = PATIENCE_MS;
  }

  async start() {
    this.microphone = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
    if (this.over) return this.release();
    if (!this.secret) return this.connect();
    this.lostAt = Date.now();
    await this.reconnect();
  }

  async connect() {
    const { iceServers } = await ask("GET", "api/ice-servers");
    if (this.over) return;
    this.link?.close();
    const link = (this.link = new Link(this, iceServers));
    const answer = await link.connect(this.secret);
    this.secret = answer.pc_id;
    this.patienceMs = answer.resume_s * 1000;
    if (this.over) return this.hangUp(); // it was cancelled meanwhile
    if (this.patienceMs) sessionStorage.setItem(KEPT, this.secret);
  }

  linkChanged(link) {
    if (link !== this.link || this.over) return;
    const state = link.peer.connectionState;
    if (state === "connected") {
      clearTimeout(this.losing);
      this.lostAt = null;
      this.agentLeft = false;
      show("live", LIVE);
    } else if (state === "disconnected" || state === "failed") {
      this.lostAt ??= Date.now();
      show("connecting", "The connection was lost. Reconnecting…");
      clearTimeout(this.losing);
      this.losing = setTimeout(() => this.reconnect(), state === "failed" ? 0 : LOST_MS);
    }
  }

  async reconnect() {
    if (this.over || this.link?.peer.connectionState === "connected") return;
    const waited = Date.now() - this.lostAt;
    if (this.agentLeft && waited > LEFT_MS) return this.end("The call has ended.");
    if (waited > this.patienceMs) return this.end("The connection was lost.");
    try {
      await this.connect();
      this.losing = setTimeout(() => this.reconnect(), this.patienceMs / 2);
    } catch (error) {
      if (error instanceof GoneError) return this.end(error.message);
      this.losing = setTimeout(() => this.reconnect(), RETRY_MS); // the network is not back yet
    }
  }

  // The agent hung up: because the call is over, or because the agent stops, and then another one goes on with it.
  left() {
    this.lostAt ??= Date.now();
    this.agentLeft = true;
    clearTimeout(this.losing);
    if (!this.patienceMs) return this.end("The call has ended.");
    this.link.close();
    this.reconnect();
  }

  hear(track) {
    const audio = byId("remote");
    audio.srcObject = new MediaStream([track]);
    audio.play().catch((error) => {
      if (error.name !== "NotAllowedError") return;
      byId("status").textContent = "Your browser blocks the sound. Press any key, or click, to hear the call.";
      for (const kind of ["keydown", "pointerdown"]) addEventListener(kind, () => audio.play(), { once: true });
    });
  }

  receive(message) {
    const data = message.data ?? {};
    switch (message.type) {
      case "bot-llm-text":
        this.line(data.turn).textContent += data.text;
        captions.scrollTop = captions.scrollHeight;
        break;
      case "bot-transcription":
        this.line(data.turn).textContent = data.text;
        this.lines.delete(data.turn);
        break;
      case "bot-started-speaking":
      case "bot-stopped-speaking":
        byId("bot").classList.toggle("on", message.type === "bot-started-speaking");
        break;
      case "user-started-speaking":
      case "user-stopped-speaking":
        byId("you").classList.toggle("on", message.type === "user-started-speaking");
        break;
      case "server-message":
        if (data.type === "turn-latency") showTimes(data.turn, data.stages);
        if (data.type === "barge-in") captions.lastElementChild?.classList.add("cut");
        if (data.type === "resumed") this.restore(data.captions);
        break;
      case "signalling":
        if (message.message?.type === "peerLeft") this.left();
        break;
    }
  }

  restore(said) {
    captions.replaceChildren();
    this.lines.clear();
    for (const id of ["you", "bot"]) byId(id).classList.remove("on");
    for (const { turn, text, interrupted, unfinished } of said) {
      const line = this.line(turn);
      line.textContent = text;
      line.classList.toggle("cut", interrupted);
      if (!unfinished) this.lines.delete(turn);
    }
    captions.scrollTop = captions.scrollHeight;
  }

  line(turn) {
    if (!this.lines.has(turn)) {
      const item = document.createElement("li");
      item.dataset.turn = turn;
      captions.append(item);
      this.lines.set(turn, item);
    }
    return this.lines.get(turn);
  }

  hangUp() {
    if (this.secret) ask("DELETE", "api/offer", { pc_id: this.secret }).catch(() => {}); // it may have ended already
    this.release();
  }

  end(status) {
    if (this.over) return;
    this.over = true;
    clearTimeout(this.losing);
    sessionStorage.removeItem(KEPT);
    this.hangUp();
    for (const id of ["you", "bot"]) byId(id).classList.remove("on");
    if (call === this) call = null;
    show("idle", status);
  }

  release() {
    this.microphone?.getTracks().forEach((track) => track.stop());
    this.link?.close();
  }
}

function showTimes(turn, stages) {
  const head = byId("stages");
  if (!head.hasChildNodes()) head.append(row("th", ["turn", ...Object.values(STAGES)]));
  byId("turns").append(row("td", [turn, ...Object.keys(STAGES).map((stage) => stages[stage]?.toFixed(0) ?? "")]));
}

function row(kind, cells) {
  const line = document.createElement("tr");
  for (const text of cells) {
    const cell = document.createElement(kind);
    if (kind === "th") cell.scope = "col";
    cell.textContent = text;
    line.append(cell);
  }
  return line;
}

function explain(error) {
  if (error instanceof RefusedError || error instanceof GoneError) return error.message;
  if (error.name === "NotAllowedError") return "The microphone was not allowed. Allow it, then call again.";
  if (error.name === "NotFoundError") return "There is no microphone.";
  if (!navigator.mediaDevices) return "The browser gives the microphone to https pages only.";
  return "The call could not be placed. Please try again.";
}

async function begin(secret, status) {
  captions.replaceChildren();
  byId("turns").replaceChildren();
  const started = (call = new Call(secret));
  show("connecting", status);
  try {
    await started.start();
  } catch (error) {
    if (!(error instanceof GoneError)) console.error(error);
    started.end(explain(error));
  }
}

button.addEventListener("click", () => (call ? call.end("The call has ended.") : begin(null, "Calling…")));

const kept = sessionStorage.getItem(KEPT);
if (kept) begin(kept, "Returning to your call…");
