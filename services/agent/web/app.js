// One call over WebRTC. Captions and events come over the data channel as RTVI messages.

const STAGES = {
  turn_decided: "turn decided",
  last_tokens: "last tokens",
  first_lm_token: "LM token",
  first_speech_token: "speech token",
  first_pcm: "PCM",
  first_packet: "packet",
};
const GATHERING_MS = 1500; // host candidates are there at once; do not wait for the slowest interface

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

class Call {
  constructor() {
    this.over = false;
    this.lines = new Map();
  }

  async start() {
    this.microphone = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
    if (this.over) return this.release();
    this.peer = new RTCPeerConnection();
    this.peer.addTransceiver(this.microphone.getAudioTracks()[0], { direction: "sendrecv" });
    this.channel = this.peer.createDataChannel("rtvi");
    this.channel.onmessage = (event) => this.receive(JSON.parse(event.data));
    this.peer.ontrack = (event) => {
      byId("remote").srcObject = new MediaStream([event.track]);
    };
    this.peer.onconnectionstatechange = () => {
      const state = this.peer.connectionState;
      if (state === "connected") show("live", "Connected. Just talk; you may interrupt.");
      if (state === "failed") this.end("The connection was lost.");
    };
    await this.peer.setLocalDescription();
    await this.gathered();
    if (this.over) return;
    const { sdp, type } = this.peer.localDescription;
    const response = await fetch("api/offer", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ sdp, type }),
    });
    if (!response.ok) throw new RefusedError(await this.refusal(response));
    const answer = await response.json();
    if (!this.over) await this.peer.setRemoteDescription({ sdp: answer.sdp, type: answer.type });
  }

  async refusal(response) {
    if (response.status !== 503) return `The call could not be placed (${response.status}).`;
    const seconds = response.headers.get("Retry-After");
    return `All lines are busy.${seconds ? ` Please try again in ${seconds} seconds.` : ""}`;
  }

  gathered() {
    return new Promise((resolve) => {
      const done = () => this.peer.iceGatheringState === "complete" && resolve();
      this.peer.onicegatheringstatechange = done;
      setTimeout(resolve, GATHERING_MS);
      done();
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
        break;
      case "signalling":
        if (message.message?.type === "peerLeft") this.end("The call has ended.");
        break;
    }
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

  end(status) {
    if (this.over) return;
    this.over = true;
    if (this.channel?.readyState === "open") {
      this.channel.send(JSON.stringify({ label: "rtvi-ai", type: "disconnect-bot", id: "bye" }));
    }
    this.release();
    for (const id of ["you", "bot"]) byId(id).classList.remove("on");
    if (call === this) call = null;
    show("idle", status);
  }

  release() {
    this.microphone?.getTracks().forEach((track) => track.stop());
    // The goodbye needs a moment on the wire before the connection closes under it.
    if (this.peer) setTimeout(() => this.peer.close(), 200);
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
  if (error instanceof RefusedError) return error.message;
  if (error.name === "NotAllowedError") return "The microphone was not allowed. Allow it, then call again.";
  if (error.name === "NotFoundError") return "There is no microphone.";
  return "The call could not be placed. Please try again.";
}

button.addEventListener("click", async () => {
  if (call) return call.end("The call has ended.");
  captions.replaceChildren();
  byId("turns").replaceChildren();
  const started = (call = new Call());
  show("connecting", "Calling…");
  try {
    await started.start();
  } catch (error) {
    console.error(error);
    started.end(explain(error));
  }
});

addEventListener("pagehide", () => call?.end(""));
