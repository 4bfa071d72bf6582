// A peer connection to the agent, and the requests that set it up.

const TRICKLE_MS = 50; // candidates found together are sent together

/** The agent does not want this call now; the message is for the caller. */
export class RefusedError extends Error {}

/** The call has ended. */
export class GoneError extends Error {}

/** The requests of docs/webrtc.md. */
export class Signalling {
  constructor(base, key) {
    this.base = base;
    this.key = key;
  }

  async iceServers() {
    return (await this.#ask("GET", "api/ice-servers")).iceServers;
  }

  offer(body) {
    return this.#ask("POST", "api/offer", body);
  }

  trickle(secret, candidates) {
    return this.#ask("PATCH", "api/offer", { pc_id: secret, candidates });
  }

  hangUp(secret) {
    return this.#ask("DELETE", "api/offer", { pc_id: secret });
  }

  async #ask(method, path, body) {
    const type = body && { "Content-Type": "application/json" };
    const key = this.key && { Authorization: `Bearer ${this.key}` };
    const response = await fetch(this.base + path, {
      method,
      headers: { ...type, ...key },
      body: body && JSON.stringify(body),
    });
    if (response.status === 404) throw new GoneError("The call has ended.");
    if (!response.ok) throw new RefusedError(refusal(response));
    return response.status === 204 ? null : response.json();
  }
}

function refusal(response) {
  if (response.status === 401) return "This page was opened without its key.";
  if (response.status === 403) return "Your key may not choose who answers.";
  if (response.status === 429) return "Too many attempts. Please wait a little.";
  if (response.status !== 503) return `The call could not be placed (${response.status}).`;
  const seconds = response.headers.get("Retry-After");
  return `All lines are busy.${seconds ? ` Please try again in ${seconds} seconds.` : ""}`;
}

/**
 * One peer connection. A call that reconnects gets another one.
 *
 * @param owner is told: `message(message)`, `track(track)`, `changed(link)` when the connection's state changes.
 */
export class Link {
  constructor(signalling, servers, microphone, owner) {
    this.signalling = signalling;
    this.peer = new RTCPeerConnection({ iceServers: servers });
    this.candidates = [];
    this.peer.addTransceiver(microphone, { direction: "sendrecv" });
    this.channel = this.peer.createDataChannel("rtvi");
    this.channel.onmessage = (event) => owner.message(JSON.parse(event.data));
    this.peer.ontrack = (event) => owner.track(event.track);
    this.peer.onconnectionstatechange = () => owner.changed(this);
    this.peer.onicecandidate = (event) => this.#found(event.candidate);
  }

  /** Connects: to the call of a secret, or for a new one, which `answers` says who is to answer. Returns the answer. */
  async connect(secret, answers) {
    await this.peer.setLocalDescription();
    const { sdp, type } = this.peer.localDescription;
    const more = secret ? { pc_id: secret, restart_pc: true } : answers;
    const answer = await this.signalling.offer({ sdp, type, ...more });
    this.secret = answer.pc_id;
    if (this.peer.signalingState === "closed") return answer;
    await this.peer.setRemoteDescription({ sdp: answer.sdp, type: answer.type });
    this.#trickle();
    return answer;
  }

  #found(candidate) {
    // The last one is empty: there are no more.
    const { sdpMid, sdpMLineIndex } = candidate ?? { sdpMid: "0", sdpMLineIndex: 0 };
    this.candidates.push({ candidate: candidate?.candidate ?? "", sdp_mid: sdpMid, sdp_mline_index: sdpMLineIndex });
    clearTimeout(this.trickling);
    this.trickling = setTimeout(() => this.#trickle(), TRICKLE_MS);
  }

  #trickle() {
    if (!this.secret || !this.candidates.length) return;
    this.signalling.trickle(this.secret, this.candidates.splice(0)).catch((error) => console.warn(error));
  }

  close() {
    clearTimeout(this.trickling);
    this.peer.onconnectionstatechange = null;
    this.peer.close();
  }
}
