"""A SIP caller at the level of single messages (RFC 3261) and RTP packets (RFC 3550): says exactly what is wanted.

A user agent of its own, nothing of the agent's SIP stack: what callers measure does not depend on what is measured.
"""

import asyncio
import contextlib
import itertools
import secrets
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.int16]
RATE = 8000
PACKET = 160  # samples of 20 ms
SILENCE = bytes([0xFF]) * PACKET  # mu-law zeros
KEYS_TYPE = 101  # RTP payload type


@dataclass(frozen=True)
class Message:
    """A response or request as it came."""

    text: str

    @property
    def first_line(self) -> str:
        """Status line or request line."""
        return self.text.partition("\r\n")[0]

    @property
    def status(self) -> int:
        """Of a response; 0 for a request."""
        return int(self.first_line.split()[1]) if self.first_line.startswith("SIP/2.0") else 0

    @property
    def method(self) -> str:
        """The method that it is or answers."""
        return self.header("CSeq").split()[1]

    def header(self, name: str) -> str:
        """The value of a header; empty where there is none."""
        for line in self.text.split("\r\n"):
            if line.lower().startswith(name.lower() + ":"):
                return line.partition(":")[2].strip()
        return ""

    def route(self) -> list[str]:
        """Its Record-Route, from the top."""
        lines = [line for line in self.text.split("\r\n") if line.lower().startswith("record-route:")]
        return [entry.strip() for line in lines for entry in line.partition(":")[2].split(",")]


class Datagrams(asyncio.DatagramProtocol):
    """Queues what arrives."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: object) -> None:
        """See `asyncio.DatagramProtocol`."""
        self.queue.put_nowait(data)


class Caller:
    """One dialog with a user agent on loopback. Make it with `caller`."""

    def __init__(
        self, target: tuple[str, int], sip: tuple[asyncio.DatagramTransport, Datagrams], rtp: socket.socket
    ) -> None:
        self._target = target
        self._transport, self._datagrams = sip
        self._rtp = rtp
        self.host, self.port = self._transport.get_extra_info("sockname")
        self.contact = f"sip:wire@{self.host}:{self.port}"
        self.call_id = secrets.token_hex(8)
        self.tag = secrets.token_hex(4)
        self.to_tag = ""
        self._route: list[str] = []  # proxies that want to see all requests of the dialog, the nearest first
        self._remote_target = ""
        self._invite_branch = "z9hG4bKnone"
        self._cseq = 0
        self._sequence = itertools.count()
        self._remote_rtp: tuple[str, int] | None = None
        self.received: list[Message] = []
        self.called = "anyone"  # user part of the URI that we call
        self.keys = False  # our offers hold telephone events too, as `KEYS_TYPE` (RFC 4733)
        self.more_sdp = ""  # further media lines of our offers
        self.more_headers: tuple[str, ...] = ()  # of our requests

    @property
    def rtp(self) -> tuple[socket.socket, tuple[str, int]]:
        """The socket for RTP, and where the far end wants it; once answered."""
        assert self._remote_rtp is not None
        return self._rtp, self._remote_rtp

    @property
    def remote_port(self) -> int:
        """Where its Contact says that the far end of the dialog is; once answered, and through a proxy."""
        return int(self._remote_target.rpartition(":")[2].partition(";")[0])

    def send_raw(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self._transport.sendto(data, self._target)

    def invite(self, direction: str = "sendrecv") -> bytes:
        """INVITE, or re-INVITE once answered, with G.711 and a direction. Returns it as sent."""
        return self.request("INVITE", self._sdp(direction))

    def _sdp(self, direction: str) -> str:
        rtp_port = self._rtp.getsockname()[1]
        events = f"a=rtpmap:{KEYS_TYPE} telephone-event/8000\r\na=fmtp:{KEYS_TYPE} 0-15\r\n" if self.keys else ""
        return (
            f"v=0\r\no=- {self._cseq} {self._cseq} IN IP4 {self.host}\r\ns=-\r\nc=IN IP4 {self.host}\r\nt=0 0\r\n"
            f"m=audio {rtp_port} RTP/AVP 0{f' {KEYS_TYPE}' if self.keys else ''}\r\na=rtpmap:0 PCMU/8000\r\n{events}"
            f"a={direction}\r\na=ptime:20\r\n{self.more_sdp}"
        )

    def request(self, method: str, sdp: str = "") -> bytes:
        """A request of this dialog; ACK and CANCEL take the INVITE's number, CANCEL its branch too.

        Returns it as sent.
        """
        if method not in ("ACK", "CANCEL"):
            self._cseq += 1
        branch = f"z9hG4bK{secrets.token_hex(6)}"
        if method == "INVITE":
            self._invite_branch = branch
        elif method == "CANCEL":
            branch = self._invite_branch
        to_tag = f";tag={self.to_tag}" if self.to_tag and method != "CANCEL" else ""
        target = f"{self._target[0]}:{self._target[1]}"
        within = bool(self._route) and method != "CANCEL"
        lines = [
            f"{method} {self._remote_target if within else f'sip:{self.called}@{target}'} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.host}:{self.port};branch={branch};rport",
            "Max-Forwards: 70",
            f"From: <sip:wire@{self.host}:{self.port}>;tag={self.tag}",
            f"To: <sip:{self.called}@{target}>{to_tag}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {self._cseq} {method}",
            f"Contact: <{self.contact}>",
            *(f"Route: {proxy}" for proxy in self._route if within),
            *self.more_headers,
            *(["Content-Type: application/sdp"] if sdp else []),
            f"Content-Length: {len(sdp)}",
        ]
        data = ("\r\n".join(lines) + "\r\n\r\n" + sdp).encode()
        self.send_raw(data)
        return data

    def accept(self, offer: Message, direction: str) -> None:
        """Answers a re-INVITE of the far end with a direction."""
        self.reply(offer, "200 OK", self._sdp(direction))

    def reply(self, request: Message, status: str, sdp: str = "") -> None:
        """Answers a request of the far end."""
        copied = [
            line
            for line in request.text.split("\r\n")
            if line.partition(":")[0].lower() in ("via", "from", "to", "call-id", "cseq")
        ]
        contact = [f"Contact: <{self.contact}>", "Content-Type: application/sdp"] if sdp else []
        lines = [f"SIP/2.0 {status}", *copied, *contact, f"Content-Length: {len(sdp)}"]
        self.send_raw(("\r\n".join(lines) + "\r\n\r\n" + sdp).encode())

    async def response(self, method: str, *statuses: int, timeout_s: float = 10.0) -> Message:
        """The next response to `method` with one of these statuses; others are kept in `received`."""
        async with asyncio.timeout(timeout_s):
            while True:
                message = await self.message()
                if message.status in statuses and message.method == method:
                    if message.status >= 180 and method == "INVITE":
                        self.follow(message)
                    return message

    async def message(self) -> Message:
        """The next message of this dialog, whatever it is."""
        while not self._keep(await self._datagrams.queue.get()):
            pass
        return self.received[-1]

    def _keep(self, data: bytes) -> bool:
        """Whether it is a message of this dialog, which `received` has then.

        A port may have been another caller's a moment ago, to whom the far end still sends: RTCP, or the BYE of a call
        that was left without a word. Who gets a request of an unknown dialog says so (RFC 3261 section 12.2.2).
        """
        message = Message(data.decode(errors="replace"))
        if len(message.header("CSeq").split()) != 2:
            return False
        if message.header("Call-ID") != self.call_id:
            if not message.status and message.method != "ACK":
                self.reply(message, "481 Call/Transaction Does Not Exist")
            return False
        self.received.append(message)
        return True

    async def answered(self, direction: str = "sendrecv") -> Message:
        """INVITE, 200, ACK."""
        self.invite(direction)
        ok = await self.response("INVITE", 200)
        self.request("ACK")
        return ok

    def messages_so_far(self) -> list[Message]:
        """All that the far end sent in this dialog."""
        while not self._datagrams.queue.empty():
            self._keep(self._datagrams.queue.get_nowait())
        return self.received

    def requests_so_far(self) -> list[str]:
        """First lines of requests that the far end sent."""
        return [message.first_line for message in self.messages_so_far() if not message.status]

    def send_rtp(self, payload: bytes = SILENCE) -> None:
        """One packet of mu-law."""
        assert self._remote_rtp is not None
        number = next(self._sequence)
        header = b"\x80\x00" + number.to_bytes(2, "big") + (number * PACKET).to_bytes(4, "big") + b"wire"
        self._rtp.sendto(header + payload, self._remote_rtp)

    async def listen(self, seconds: float) -> Pcm:
        """What arrives now, decoded, in the order of arrival; sends silence meanwhile as a phone does."""
        while True:
            try:
                self._rtp.recv(2048)
            except BlockingIOError:
                break
        heard: list[Pcm] = []
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        due = loop.time()
        while (now := loop.time()) < until:
            if now >= due:
                due += 0.02
                self.send_rtp()
            try:
                heard.append(mu_law(self._rtp.recv(2048)[12:]))
            except BlockingIOError:
                await asyncio.sleep(0.004)
        return np.concatenate(heard) if heard else np.zeros(0, np.int16)

    def follow(self, response: Message) -> None:
        """Takes from a response to INVITE where the dialog goes, and where the far end wants its audio."""
        if ";tag=" in response.header("To"):
            self.to_tag = response.header("To").rpartition(";tag=")[2]
        if response.route():
            self._route = response.route()[::-1]
            self._remote_target = response.header("Contact").partition("<")[2].partition(">")[0]
        host = self._target[0]
        for line in response.text.split("\r\n"):
            if line.startswith("c=IN IP4 "):
                host = line.split()[2]
            elif line.startswith("m=audio"):
                self._remote_rtp = (host, int(line.split()[1]))


@contextlib.asynccontextmanager
async def caller(target_port: int, target_host: str = "127.0.0.1", host: str = "") -> AsyncIterator[Caller]:
    """A caller with sockets of its own, on `host` or the address from which the target is reached."""
    loop = asyncio.get_running_loop()
    host = host or _own_address(target_host, target_port)
    transport, datagrams = await loop.create_datagram_endpoint(Datagrams, local_addr=(host, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtp:
        rtp.bind((host, 0))
        rtp.setblocking(False)
        try:
            yield Caller((target_host, target_port), (transport, datagrams), rtp)
        finally:
            transport.close()


def _own_address(host: str, port: int) -> str:
    if host.startswith("127."):
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))  # sends nothing
        return str(probe.getsockname()[0])


def mu_law(payload: bytes) -> Pcm:
    """G.711 mu-law to 16-bit PCM."""
    code = ~np.frombuffer(payload, np.uint8)
    magnitude = (((code & 0x0F).astype(np.int32) << 3) + 0x84 << ((code >> 4) & 7).astype(np.int32)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def acknowledgement(refusal: Message) -> bytes:
    """The ACK of a final response other than 2xx, in the same transaction (RFC 3261 section 17.1.1.3)."""
    headers = [f"{name}: {refusal.header(name)}" for name in ("Via", "From", "To", "Call-ID")]
    number = refusal.header("CSeq").split()[0]
    uri = refusal.header("To").partition("<")[2].partition(">")[0]
    return "\r\n".join([f"ACK {uri} SIP/2.0", *headers, f"CSeq: {number} ACK", "Content-Length: 0", "", ""]).encode()
