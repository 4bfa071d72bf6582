"""Phone calls over SIP (RFC 3261): a user agent that takes and places calls, and each call as a `Leg`.

Signalling, codecs, RTP and the jitter buffer are baresip's, on native threads; this module is the only one (with
`sip_media`) that knows it, so that another stack can take its place.
"""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import re
import socket
from dataclasses import dataclass
from typing import Any

from baresip import Account, BaresipError, Call, CallState, Config, DigitEvent, Event, Runtime, StackEvent, UserAgent

from services.agent.legs.base import CallAcceptor, CallRefusedError, LegError, LegKind
from services.agent.legs.sip_media import SipMedia
from services.agent.legs.sip_transport import SipTransport

log = logging.getLogger(__name__)
logging.getLogger("baresip").setLevel(logging.WARNING)  # its INFO lines name who called

# In order of preference. Opus and G.722 carry the whole band that the models hear; every phone has G.711.
CODECS = ("opus/48000/2", "g722/16000/1", "pcmu", "pcma")
ANSWER_TIMEOUT_S = 10.0  # from our 200 to the caller's ACK (RFC 3261 gives up after 64 * T1 = 32 s)
MEDIA_TIMEOUT_S = 10.0  # from the ACK to audio both ways: a PBX may set a call up on hold and connect it then
MEDIA_POLL_S = 0.01
SIP_URI = re.compile(r"sips?:[^\s<>\"@]+(@[^\s<>\"@]+)?", re.ASCII)
NUMBER = re.compile(r"\+?[0-9*#]{1,32}", re.ASCII)


@dataclass(frozen=True)
class SipSettings:
    """Where and how calls are taken.

    Attributes:
        host: IPv4 or IPv6 address to listen on, UDP. 0.0.0.0 means all addresses of the machine except loopback; a
            loopback address confines media to loopback too.
        port: of signalling; 0 takes a free one.
        user: our name in the calls we place. Calls for any name are taken.
        codecs: in order of preference.
        jitter_ms: least and most delay of the jitter buffer.
        rtp_ports: lowest and highest port of media; None leaves the choice to the stack.
        rtp_timeout_s: a call without a packet for so long is dead.
        max_call_s: a call is ended after so long.
        ring_timeout_s: how long a call that we place may ring.
    """

    host: str = "127.0.0.1"
    port: int = 5060
    user: str = "trunkline"
    codecs: tuple[str, ...] = CODECS
    jitter_ms: tuple[int, int] = (40, 100)
    rtp_ports: tuple[int, int] | None = None
    rtp_timeout_s: int = 30
    max_call_s: float = 3600.0
    ring_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            raise ValueError(f"SIP host {self.host!r} is not an IP address") from None
        if not 0 <= self.port <= 65535:
            raise ValueError(f"SIP port {self.port} is not between 0 and 65535")
        if self.rtp_ports is not None and not 1024 <= self.rtp_ports[0] < self.rtp_ports[1] <= 65535:
            raise ValueError(f"RTP ports {self.rtp_ports} are not two ports between 1024 and 65535, lowest first")
        if not 0 < self.jitter_ms[0] <= self.jitter_ms[1]:
            raise ValueError(f"jitter buffer {self.jitter_ms} ms is not two positive numbers, lowest first")
        if self.rtp_timeout_s < 1 or self.max_call_s <= 0 or self.ring_timeout_s <= 0:
            raise ValueError("SIP timeouts must be positive")


class SipLeg:
    """One phone call."""

    kind = LegKind.SIP

    def __init__(self, call: Call, settings: SipSettings, from_: str, to: str) -> None:
        self._call = call
        self._settings = settings
        self.from_ = from_
        self.to = to
        self.media = SipMedia(call.audio)
        self._transport: SipTransport | None = None
        self._incoming = call.state is CallState.INCOMING
        self._answered = False
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[str] = loop.create_future()
        self._established: asyncio.Future[None] = loop.create_future()
        self._limit: asyncio.TimerHandle | None = None
        self._hanging_up: asyncio.Task[None] | None = None
        # Before any answer: the events of a quick caller may come with it.
        call.on(self._on_event)
        call.on_dtmf(self._on_key)

    @property
    def sip_call_id(self) -> str:
        """The Call-ID header, the same in the far end's log."""
        return self._call.call_id or ""

    @property
    def transport(self) -> SipTransport:
        """The media as a pipecat transport."""
        if self._transport is None:
            self._transport = SipTransport(self.media)
        return self._transport

    @property
    def output_rate(self) -> int:
        """The codec's rate, hertz; 0 before the answer."""
        return self.media.output_rate

    async def answer(self) -> None:
        """Takes an incoming call, or waits until a placed one is taken; returns when media flows.

        Raises:
            LegError: the far end gave up or refused, or media did not come up.
        """
        if self._incoming:
            await self._accept()
            patience = ANSWER_TIMEOUT_S
        else:
            patience = self._settings.ring_timeout_s
        outcomes: tuple[asyncio.Future[Any], ...] = (self.ended, self._established)
        await asyncio.wait(outcomes, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if not self._established.done():
            await self.hang_up("not answered" if not self._incoming else "answer not acknowledged")
            raise LegError(self.ended.result())
        await self._wait_for_media()
        self._limit = asyncio.get_running_loop().call_later(self._settings.max_call_s, self._too_long)

    async def hang_up(self, reason: str) -> None:
        """Ends the call, or declines it with 486 when it still rings. Idempotent."""
        if self.ended.done():
            return
        self._end(reason)
        with contextlib.suppress(BaresipError):  # the far end may have hung up at the same time
            if self._incoming and not self._answered:
                await self._call.reject()
            else:
                await self._call.hangup()

    async def transfer(self, target: str) -> None:
        """Blind transfer (RFC 3515) to a SIP URI or a number at the caller's own domain. The call ends when it worked.

        Raises:
            LegError: not a usable target, the call is not up, or the far end refused.
        """
        uri = self._uri_of(target)
        try:
            await self._call.transfer(uri)
        except BaresipError as error:
            raise LegError(f"transfer failed: {error}") from error

    async def send_dtmf(self, digits: str) -> None:
        """Sends keys as RTP events (RFC 4733).

        Raises:
            LegError: not a key, or the call is over.
        """
        try:
            await self._call.send_dtmf(digits)
        except (BaresipError, ValueError) as error:
            raise LegError(f"keys not sent: {error}") from error

    def lost(self, reason: str) -> None:
        """The stack beneath is gone."""
        self._end(reason)

    async def _accept(self) -> None:
        if self.ended.done():
            raise LegError(self.ended.result())
        self._answered = True
        try:
            # Without `video` the stack follows its answer with a re-INVITE that takes the video stream away, offered
            # or not; phones treat that as a new session and drop their audio for a moment.
            await self._call.answer(video=True)
        except BaresipError as error:
            # A CANCEL that crossed our answer shows as a stale handle here.
            self._end("caller gave up")
            raise LegError(f"the call could not be answered: {error}") from error

    async def _wait_for_media(self) -> None:
        deadline = asyncio.get_running_loop().time() + MEDIA_TIMEOUT_S
        while not self.media.is_up():
            if self.ended.done():
                raise LegError(self.ended.result())
            if asyncio.get_running_loop().time() > deadline:
                await self.hang_up("no media")
                raise LegError("audio streams did not open")
            await asyncio.sleep(MEDIA_POLL_S)

    def _uri_of(self, target: str) -> str:
        if SIP_URI.fullmatch(target):
            return target
        if NUMBER.fullmatch(target):
            domain = (self.from_ if self._incoming else self.to).rpartition("@")[2]
            return f"sip:{target}@{domain}"
        raise LegError(f"cannot transfer to {target!r}: give a SIP URI or a number")

    def _on_event(self, event: StackEvent) -> None:
        if event.event is Event.CALL_ESTABLISHED:
            if not self._established.done():
                self._established.set_result(None)
        elif event.event is Event.CALL_CLOSED:
            self._end(self._reason(event.text or ""))

    def _reason(self, text: str) -> str:
        if self._established.done():
            return {"rtp stream error": "no audio", "Call transfered": "transferred"}.get(text, "caller hung up")
        if self._incoming:
            return "caller gave up"
        status = text.partition(" ")[0]
        return {"486": "busy", "603": "declined"}.get(status, f"refused: {status}" if status.isdigit() else "failed")

    def _on_key(self, event: DigitEvent) -> None:
        self.media.keys.append(event.digit)

    def _too_long(self) -> None:
        self._hanging_up = asyncio.get_running_loop().create_task(self.hang_up("call too long"))

    def _end(self, reason: str) -> None:
        if self._limit is not None:
            self._limit.cancel()
        if not self.ended.done():
            self.ended.set_result(reason)


class SipEndpoint:
    """The one SIP user agent of this process.

    Args:
        settings: where it listens.
        acceptor: takes incoming calls, each in a task of its own while it rings; None declines them all.
    """

    def __init__(self, settings: SipSettings, acceptor: CallAcceptor | None = None) -> None:
        self._settings = settings
        self._acceptor = acceptor
        self._runtime = Runtime()
        self._agent: UserAgent | None = None
        self._legs: set[SipLeg] = set()
        self._offers: set[asyncio.Task[None]] = set()
        self.port = settings.port
        self.failed: asyncio.Future[str] | None = None  # resolves when the stack dies under us; set by `start`

    async def start(self) -> None:
        """Opens the port and takes calls from now on.

        Raises:
            OSError: the address cannot be listened on.
        """
        self.port = self._settings.port or free_port(self._settings.host)
        self.failed = asyncio.get_running_loop().create_future()
        self._runtime.on_dead = self._on_dead
        try:
            await self._runtime.start(self._config())
        except BaresipError as error:
            raise OSError(
                errno.EADDRINUSE if "in use" in str(error) else errno.EADDRNOTAVAIL,
                f"cannot listen for SIP on {self._settings.host}:{self.port} (udp): {error}",
            ) from error
        # A peer's REFER could make us dial any number: refuse them all.
        self._agent = await UserAgent.create(self._runtime, self._account(), transfer_policy="reject")
        self._agent.on_incoming(self._on_incoming)

    async def dial(self, target: str) -> SipLeg:
        """A call to a SIP URI; `answer` of the leg waits until it is taken.

        Raises:
            LegError: not a SIP URI, or the request cannot be sent.
        """
        if self._agent is None:
            raise LegError("the SIP endpoint is not running")
        if not SIP_URI.fullmatch(target):
            raise LegError(f"cannot call {target!r}: not a SIP URI")
        try:
            call = await self._agent.dial(target, video=False)
        except BaresipError as error:
            raise LegError(f"cannot call {target!r}: {error}") from error
        leg = SipLeg(call, self._settings, from_=self.uri, to=target)
        self._keep(leg)
        return leg

    @property
    def uri(self) -> str:
        """Our own address."""
        return f"sip:{self._settings.user}@{self._domain()}"

    async def close(self) -> None:
        """Hangs up what is left and closes the port."""
        for leg in tuple(self._legs):
            await leg.hang_up("agent stopped")
        for offer in tuple(self._offers):
            offer.cancel()
        await asyncio.gather(*self._offers, return_exceptions=True)
        with contextlib.suppress(BaresipError):
            await self._runtime.close()

    def _config(self) -> Config:
        settings = self._settings
        lines = [
            f"sip_listen {self._domain()}",
            "sip_transports udp",  # else it also takes the same TCP port, and the next one for TLS
            "audio_jitter_buffer_type fixed",
            f"audio_jitter_buffer_ms {settings.jitter_ms[0]}-{settings.jitter_ms[1]}",
        ]
        if settings.rtp_ports is not None:
            lines.append(f"rtp_ports {settings.rtp_ports[0]}-{settings.rtp_ports[1]}")
        anywhere = ipaddress.ip_address(settings.host).is_unspecified
        return Config(
            net_interface=None if anywhere else settings.host,
            max_concurrent_calls=None,  # the acceptor knows the capacity
            expose_headers=("From", "To"),
            rtp_timeout=settings.rtp_timeout_s,
            extra_config_text="\n".join(lines),
        )

    def _account(self) -> Account:
        return Account(
            user=self._settings.user,
            domain=self._domain(),
            password="",
            reg_interval=0,
            audio_codecs=self._settings.codecs,
            extra_params=("catchall=yes",),
        )

    def _domain(self) -> str:
        host = self._settings.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def _on_incoming(self, call: Call) -> None:
        leg = SipLeg(
            call,
            self._settings,
            from_=_uri(call.headers.get("From"), call.peer),
            to=_uri(call.headers.get("To"), self.uri),
        )
        self._keep(leg)
        offer = asyncio.get_running_loop().create_task(self._offer(leg), name="sip-offer")
        self._offers.add(offer)
        offer.add_done_callback(self._offers.discard)

    async def _offer(self, leg: SipLeg) -> None:
        try:
            if self._acceptor is None:
                raise CallRefusedError("takes no calls")
            await self._acceptor(leg)
        except CallRefusedError as refusal:
            log.info("call refused", extra={"reason": refusal.reason, "sip_call_id": leg.sip_call_id})
            await leg.hang_up(refusal.reason)
        except Exception:
            log.exception("a call could not be taken", extra={"sip_call_id": leg.sip_call_id})
            await leg.hang_up("internal error")

    def _keep(self, leg: SipLeg) -> None:
        self._legs.add(leg)
        leg.ended.add_done_callback(lambda _: self._legs.discard(leg))

    def _on_dead(self) -> None:
        for leg in tuple(self._legs):
            leg.lost("SIP stack died")
        if self.failed is not None and not self.failed.done():
            self.failed.set_result("the SIP stack died; a new process is needed")


def free_port(host: str) -> int:
    """A UDP port of `host` that is free now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _uri(header: str | None, otherwise: str | None) -> str:
    """The URI of a From or To header: `"Ann" <sip:ann@example.com>;tag=1` gives `sip:ann@example.com`."""
    if not header:
        return otherwise or ""
    bracketed = re.search(r"<([^>]*)>", header)
    return bracketed.group(1) if bracketed else header.partition(";")[0].strip()
