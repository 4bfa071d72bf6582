"""Phone calls over SIP (RFC 3261): user agents that take and place calls, and each call as a `Leg`.

Signalling, codecs, RTP and the jitter buffer are baresip's, on native threads; the modules `sip*` of this package are
the only ones that know it, so that another stack can take its place.
"""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import shutil
import socket
import tempfile
from pathlib import Path

from baresip import Account, BaresipError, Call, Config, StackEvent, UserAgent

from services.agent.legs.base import CallAcceptor, CallRefusedError, LegError
from services.agent.legs.sip_leg import SipLeg
from services.agent.legs.sip_networks import restrict
from services.agent.legs.sip_parties import NUMBER, SIP_URI, host_of, party
from services.agent.legs.sip_refusal import RefusingRuntime
from services.agent.legs.sip_settings import PARTY_HEADERS, SipSettings, Srtp, Tls, Transport, Trunk
from services.agent.legs.sip_trunks import TrunkLine, TrunkStatus

__all__ = ["SipEndpoint", "SipLeg", "SipSettings", "free_port"]

log = logging.getLogger(__name__)
logging.getLogger("baresip").setLevel(logging.ERROR)  # its other lines name who called

MEDIA_ENCRYPTION = {Srtp.OFF: (), Srtp.OPTIONAL: ("mediaenc=srtp",), Srtp.MANDATORY: ("mediaenc=srtp-mand",)}
# Of every account: any called name is ours, and no stream of pictures is offered or taken.
COMMON_PARAMETERS = ("catchall=yes", "video_codecs=none")


class SipEndpoint:
    """The one SIP stack of this process: a user agent for each transport, and one for each trunk.

    Args:
        settings: where it listens.
        acceptor: takes incoming calls, each in a task of its own while it rings; None declines them all.
    """

    def __init__(self, settings: SipSettings, acceptor: CallAcceptor | None = None) -> None:
        self._settings = settings
        self._acceptor = acceptor
        self._runtime = RefusingRuntime()
        self._agents: dict[Transport, UserAgent] = {}
        self._trunks: list[TrunkLine] = []
        self._legs: set[SipLeg] = set()
        self._offers: set[asyncio.Task[None]] = set()
        self._files: Path | None = None
        self.port = settings.port
        self.failed: asyncio.Future[str] | None = None  # resolves when the stack dies under us; set by `start`

    @property
    def uri(self) -> str:
        """Our own address."""
        return f"sip:{self._settings.user}@{self._domain(self._settings.transports[0])}"

    @property
    def trunks(self) -> tuple[TrunkStatus, ...]:
        """Every trunk's registration as it is now."""
        return tuple(line.status for line in self._trunks)

    async def start(self) -> None:
        """Opens the ports, takes calls from now on, and begins to register at the trunks.

        Raises:
            OSError: the address cannot be listened on, the certificate cannot be used, or the kernel takes no filter.
        """
        self.port = self._settings.port or free_port(self._settings.host, self._settings.transports)
        self.failed = asyncio.get_running_loop().create_future()
        self._runtime.on_dead = self._on_dead
        if self._settings.tls is not None:
            self._files = Path(tempfile.mkdtemp(prefix="trunkline-sip-"))  # readable by us alone
        try:
            await self._runtime.start(self._config())
        except BaresipError as error:
            self._forget_files()
            raise OSError(
                errno.EADDRINUSE if "in use" in str(error) else errno.EADDRNOTAVAIL,
                f"cannot listen for SIP on {self._settings.host}:{self.port} "
                f"({', '.join(self._settings.transports)}): {error}",
            ) from error
        try:
            # Requests that come before the first user agent is there find nobody: no gap for those we refuse.
            if self._settings.networks and not restrict((self.port, self.port + 1), self._settings.networks):
                raise OSError(errno.ENOTSOCK, "the sockets of the SIP stack were not found: no source filter")
            await self._create_agents()
        except BaseException:
            await self.close()
            raise

    async def dial(self, target: str) -> SipLeg:
        """A call to a SIP URI, or to a number at the first trunk; `answer` of the leg waits until it is taken.

        A URI at a trunk's domain goes through that trunk, with its name and password.

        Raises:
            LegError: not a SIP URI or number, no trunk for a number, or the request cannot be sent.
        """
        if not self._agents:
            raise LegError("the SIP endpoint is not running")
        line, uri = self._route(target)
        agent = line.agent if line else self._agent_for(uri)
        early: list[StackEvent] = []
        self._runtime.subscribe(early.append)
        try:
            call = await agent.dial(uri, video=False)
        except BaresipError as error:
            raise LegError(f"cannot call {target!r}: {error}") from error
        finally:
            self._runtime.unsubscribe(early.append)
        from_ = f"sip:{line.trunk.user}@{line.trunk.domain}" if line else self.uri
        leg = SipLeg(call, self._settings, from_=from_, to=uri)
        self._keep(leg)
        # An answer within the same millisecond is dispatched before there is a call that would take note of it.
        for event in early:
            call._on_stack_event(event)
        return leg

    async def withdraw(self) -> None:
        """Takes registrations back, so that trunks bring no new calls; those there are go on. Idempotent."""
        await asyncio.gather(*(line.close() for line in self._trunks))

    async def close(self) -> None:
        """Hangs up what is left, takes registrations back and closes the ports."""
        for leg in tuple(self._legs):
            await leg.decline(CallRefusedError("agent stopped"))
        for offer in tuple(self._offers):
            offer.cancel()
        await asyncio.gather(*self._offers, return_exceptions=True)
        await self.withdraw()
        with contextlib.suppress(BaresipError):
            await self._runtime.close()
        self._forget_files()

    def _config(self) -> Config:
        settings = self._settings
        lines = [
            f"sip_listen {_authority(settings.host, self.port)}",
            f"sip_transports {','.join(settings.transports)}",  # else it takes all three
            f"sip_trans_def {settings.transports[0]}",
            "audio_jitter_buffer_type adaptive",  # a fixed one drops a tenth of the audio at 30 ms of jitter
            f"audio_jitter_buffer_ms {settings.jitter_ms[0]}-{settings.jitter_ms[1]}",
        ]
        if settings.rtp_ports is not None:
            lines.append(f"rtp_ports {settings.rtp_ports[0]}-{settings.rtp_ports[1]}")
        if settings.tls is not None:
            lines += self._tls_lines(settings.tls)
        anywhere = ipaddress.ip_address(settings.host).is_unspecified
        return Config(
            net_interface=None if anywhere else settings.host,
            max_concurrent_calls=None,  # the acceptor knows the capacity
            expose_headers=PARTY_HEADERS,
            rtp_timeout=settings.rtp_timeout_s,
            extra_config_text="\n".join(lines),
        )

    def _tls_lines(self, tls: Tls) -> list[str]:
        """The stack wants certificate and key in one file."""
        assert self._files is not None
        parts = [path.read_text().strip() for path in (tls.certificate, tls.key) if path is not None]
        bundle = self._files / "certificate.pem"
        bundle.touch(mode=0o600)
        bundle.write_text("\n".join([*parts, ""]))
        lines = [f"sip_certificate {bundle}", f"sip_verify_server {'yes' if tls.ca else 'no'}"]
        return [*lines, f"sip_cafile {tls.ca.resolve()}"] if tls.ca else lines

    async def _create_agents(self) -> None:
        # Requests are matched on user and transport, so each transport has an agent of its own.
        for transport in self._settings.transports:
            account = Account(
                user=self._settings.user,
                domain=self._domain(transport),
                password="",
                reg_interval=0,
                transport=transport,
                audio_codecs=self._settings.codecs,
                dtmf_mode="auto",
                extra_params=(*COMMON_PARAMETERS, *MEDIA_ENCRYPTION[self._settings.srtp]),
            )
            self._agents[transport] = await self._create_agent(account)
        for trunk in self._settings.trunks:
            line = TrunkLine(trunk, await self._create_agent(self._trunk_account(trunk)))
            self._trunks.append(line)
            line.start()

    async def _create_agent(self, account: Account) -> UserAgent:
        # A peer's REFER could make us dial any number: refuse them all.
        agent = await UserAgent.create(self._runtime, account, transfer_policy="reject")
        agent.on_incoming(self._on_incoming)
        return agent

    def _trunk_account(self, trunk: Trunk) -> Account:
        direct = trunk.proxy is None and trunk.transport == self._settings.transports[0]
        srtp = self._settings.srtp if trunk.srtp is None else trunk.srtp
        return Account(
            user=trunk.user,
            domain=trunk.domain,
            password=trunk.password,
            registrar=None if direct else f"sip:{trunk.proxy or trunk.domain};transport={trunk.transport}",
            reg_interval=trunk.expires_s,
            transport=trunk.transport,
            audio_codecs=self._settings.codecs,
            dtmf_mode="auto",
            auth_user=trunk.auth_user,
            extra_params=(*COMMON_PARAMETERS[1:], *MEDIA_ENCRYPTION[srtp]),
        )

    def _route(self, target: str) -> tuple[TrunkLine | None, str]:
        """The trunk and the URI to call."""
        if NUMBER.fullmatch(target):
            if not self._trunks:
                raise LegError(f"cannot call {target!r}: a number needs a trunk, and none is configured")
            line = self._trunks[0]
            return line, f"sip:{target}@{line.trunk.domain}"
        if not SIP_URI.fullmatch(target):
            raise LegError(f"cannot call {target!r}: not a SIP URI, nor a number")
        host = host_of(target)
        return next((line for line in self._trunks if line.trunk.domain.lower() == host), None), target

    def _agent_for(self, uri: str) -> UserAgent:
        wanted = "tls" if uri.startswith("sips:") else uri.lower().partition(";transport=")[2].partition(";")[0]
        if not wanted:
            return self._agents[self._settings.transports[0]]
        for transport, agent in self._agents.items():
            if transport == wanted:
                return agent
        raise LegError(f"cannot call over {wanted!r}: SIP transports are {', '.join(self._agents)}")

    def _domain(self, transport: Transport) -> str:
        return _authority(self._settings.host, self.port + (transport == "tls"))

    def _on_incoming(self, call: Call) -> None:
        leg = SipLeg(
            call,
            self._settings,
            from_=party(call.headers, self._settings.caller_headers, call.peer or ""),
            to=party(call.headers, self._settings.called_headers, self.uri),
            refuse=self._runtime.refuse,
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
            log.info("call refused", extra={"reason": refusal.reason, "pii_sip_call_id": leg.sip_call_id})
            await leg.decline(refusal)
        except Exception:
            log.exception("a call could not be taken", extra={"pii_sip_call_id": leg.sip_call_id})
            await leg.hang_up("internal error")

    def _keep(self, leg: SipLeg) -> None:
        self._legs.add(leg)
        leg.ended.add_done_callback(lambda _: self._legs.discard(leg))

    def _forget_files(self) -> None:
        if self._files is not None:
            shutil.rmtree(self._files, ignore_errors=True)

    def _on_dead(self) -> None:
        for leg in tuple(self._legs):
            leg.lost("SIP stack died")
        if self.failed is not None and not self.failed.done():
            self.failed.set_result("the SIP stack died; a new process is needed")


def free_port(host: str, transports: tuple[str, ...] = ("udp",)) -> int:
    """A port of `host` that is free now for all of these transports; TLS takes the one after it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            first.bind((host, 0))
            port = int(first.getsockname()[1])
            try:
                for transport in transports:
                    if transport != "udp":
                        probe = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                        probe.bind((host, port + (transport == "tls")))
            except (OSError, OverflowError):
                continue
            return port


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
