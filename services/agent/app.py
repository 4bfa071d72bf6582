"""Puts one agent process together: what must be there before it serves, and the order in which it stops."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from services.agent import kube, metrics
from services.agent.actions.webhook import Webhooks
from services.agent.api.app import Desks, Doors, make_api
from services.agent.api.keys import KeyRing
from services.agent.call import Surroundings
from services.agent.call_desk import CallDesk
from services.agent.calls import SERVICE, CallsServicer
from services.agent.carriers.desk import CarrierDesk
from services.agent.carriers.settings import CarrierSettings
from services.agent.casting import Casting
from services.agent.drain import DrainPlan, drain
from services.agent.events import EventBus
from services.agent.http import HttpServer, make_app
from services.agent.ice import IceServers
from services.agent.legs.base import INPUT_RATE
from services.agent.legs.sip import SipSettings
from services.agent.legs.sip_workers.supervisor import SipWorkers
from services.agent.models import ModelError, ModelServices
from services.agent.persona_store.checks import ModelChecks
from services.agent.persona_store.drafts import Drafts
from services.agent.persona_store.startup import set_up_personas
from services.agent.personas import Persona, PersonaError, load_personas
from services.agent.phone_line import PhoneLineError, sip_settings
from services.agent.quality_rounds import tell_quality
from services.agent.recording.files import RecordingFormat
from services.agent.recording.recording import Recordings
from services.agent.returns import STOPPED, Returns
from services.agent.secrets import read_secret
from services.agent.settings import AgentSettings, split_address
from services.agent.state.address import StateError
from services.agent.state.agents import AgentCard, AgentDirectory, keep_announced
from services.agent.state.connection import AWAY, Connection
from services.agent.state.listeners import ListenerBook
from services.agent.state.personas import PersonaStore
from services.agent.state.recorder import Recorders
from services.agent.state.store import Store
from services.agent.state.tokens import ResumeTokens
from services.agent.state.undertaker import bury_lost
from services.agent.supervision.desk import ListeningDesk
from services.agent.switchboard import Switchboard
from services.agent.tidying import tidy_when_idle
from services.agent.transcript import measures
from services.agent.transcript.transcriber import Transcriber, TranscriptError
from services.agent.turns import TurnSettings
from services.agent.voice_activity import EndOfTurn, voice_model
from services.agent.voices.desk import VoiceDesk
from services.agent.voices.keeper import VoiceKeeper
from services.agent.voices.store import VoiceStore
from services.agent.watermark.code import PUBLIC_KEY, Code
from services.agent.web_calls import WebCalls
from services.common.errors import SetupError
from services.common.grpc_server import Server, Slots
from trunkline.v1 import calls_pb2_grpc

log = logging.getLogger(__name__)

GRACE_S = 2.0


class StartError(Exception):
    """The agent cannot start; the message says why in one line."""


async def run(settings: AgentSettings) -> str:
    """Serves until SIGTERM or SIGINT; returns what went wrong when it had to stop by itself, else nothing.

    Raises:
        StartError: something it needs is missing or taken.
    """
    stop, hurry = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, lambda: (hurry if stop.is_set() else stop).set())
    async with AsyncExitStack() as stack:
        try:
            running = await start(settings, stack)
        except (StateError, ModelError, PersonaError, PhoneLineError, SetupError, TranscriptError, OSError) as error:
            raise StartError(" ".join(str(error).split())) from error
        # What is there now stays. Left out of collections, these are short, which all calls would wait for, and come
        # soon after calls have ended: a collection waits until a quarter of what it looks at is new.
        gc.collect()
        gc.freeze()
        print(f"agent: serving on port {running.port}", flush=True)
        failed = running.failed
        if await _first(stop, failed):
            plan = DrainPlan(settings.drain_seconds, settings.drain_notice_seconds)
            hurried = asyncio.ensure_future(_first(hurry, failed))
            await drain(running.switchboard, plan, running.withdraw, hurried)
            hurried.cancel()
        log.info("stopping")
        return failed.result() if failed.done() else ""


async def _first(event: asyncio.Event, failed: "asyncio.Future[str]") -> bool:
    """Waits for the event, or for a part to fail for good; whether it was the event."""
    happened = asyncio.create_task(event.wait())
    try:
        endings: set[asyncio.Future[Any]] = {happened, failed}
        await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
        return happened.done()
    finally:
        happened.cancel()


@dataclass(frozen=True)
class Running:
    """An agent that serves.

    Attributes:
        port: of the Calls service.
        failed: resolves when a part fails for good, with what went wrong.
        withdraw: makes it known that new calls should go elsewhere.
    """

    port: int
    failed: "asyncio.Future[str]"
    switchboard: Switchboard
    withdraw: Callable[[], Awaitable[None]]


async def start(settings: AgentSettings, stack: AsyncExitStack) -> Running:
    """Starts everything, each part's stop pushed on the stack."""
    personas = load_personas(settings.personas, settings.persona)
    line = sip_settings(settings) if settings.sip_listen else None
    recordings = _recordings(settings, personas.values(), stack)
    ice = _ice_servers(settings)
    doors = _doors(settings)
    mark = _mark(settings)
    agent_id = settings.agent_id or f"{socket.gethostname()}-{os.getpid()}"
    connection = Connection.from_settings(settings)
    stack.push_async_callback(connection.close)
    await connection.connect()
    store = Store(connection, agent_id, settings.sealer(), settings.times())
    recorders = Recorders(store)
    stack.push_async_callback(recorders.close, GRACE_S)
    models = ModelServices(settings.tokenizer, settings.lm, settings.decoder)
    stack.push_async_callback(models.close)
    voice_store = VoiceStore(connection, store.sealer)
    voices = VoiceKeeper(voice_store, models.decoder)
    await voices.names()
    models.decoder.welcome = voices.welcome
    limits = await models.connect(settings.wait_for_models, INPUT_RATE)
    checks = ModelChecks(models, voices)
    book, persona_desk = await set_up_personas(settings, personas, connection, checks, agent_id)
    drafts = Drafts(connection, store.sealer)
    returns = Returns(store, PersonaStore(connection))
    voice_model()
    transcriber = await _transcriber(settings, stack)
    end_of_turn = EndOfTurn()
    stack.push_async_callback(end_of_turn.close)
    bus = EventBus()
    slots = Slots(settings.capacity, "calls")
    turns = TurnSettings(
        max_turn_s=min(TurnSettings.max_turn_s, limits.max_utterance_s - 1.0),
        pause_s=TurnSettings.pause_s if settings.speculative else 0.0,
    )
    webhooks = Webhooks()
    stack.push_async_callback(webhooks.close)
    around = Surroundings(
        models,
        store,
        returns,
        recorders,
        bus,
        end_of_turn,
        turns,
        settings.max_call_minutes * 60.0,
        webhooks,
        voices,
        recordings=recordings,
        admit_without_redis=settings.redis_away == "admit",
        without_echo_canceller=settings.legs_without_echo_canceller,
        transcriber=transcriber,
        mark=mark,
    )
    switchboard = Switchboard(agent_id, slots, book, around)
    metrics.observe(switchboard, models)
    agents = AgentDirectory(connection, store.times)
    call_desk = CallDesk(switchboard, agents, settings.ring_timeout)
    listening = ListeningDesk(call_desk, ListenerBook(connection, agent_id, store.times.keep_s))

    def register(server: grpc.aio.Server) -> None:
        calls_pb2_grpc.add_CallsServicer_to_server(CallsServicer(call_desk), server)

    calls = Server(SERVICE, register, settings.calls_listen, slots)
    web_calls = WebCalls(switchboard, ResumeTokens(store, switchboard.resume_with), ice, settings.resume_seconds)
    voice_desk = VoiceDesk(voice_store, voices, models, book, mark)
    desks = Desks(call_desk, listening, agents, voice_desk, persona_desk, drafts)
    web_app = make_app(
        switchboard,
        web_calls,
        Casting(book, drafts),
        doors,
        make_api(doors, desks),
        settings.allowed_origins,
        _desk(settings, switchboard),
        tls=settings.certificate is not None,
    )
    http = HttpServer(web_app, *split_address(settings.http_listen), settings.certificate)
    stack.push_async_callback(http.stop)
    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    sip: SipWorkers | None = None
    if line is not None:
        sip = _sip_workers(line, settings.sip_workers, switchboard)
        for worker in sip.settings:
            _require_free(worker)
        await sip.start()
        stack.push_async_callback(sip.close)
        switchboard.dialler = sip
        failed = sip.failed
    await http.start()  # whoever asks whether the agent is ready may send a phone call at once
    port = await calls.start()

    async def stop_serving() -> None:
        await switchboard.close(STOPPED)
        bus.close()
        await calls.drain(GRACE_S)

    async def withdraw() -> None:
        await calls.set_serving(False)
        if sip is not None:
            await sip.withdraw()

    stack.push_async_callback(stop_serving)
    _tell_kubernetes(settings, agent_id, slots, stack)
    undertaker = asyncio.create_task(bury_lost(store), name="undertaker")
    stack.callback(undertaker.cancel)
    quality = asyncio.create_task(tell_quality(switchboard), name="quality")
    stack.callback(quality.cancel)
    keeping = asyncio.create_task(voices.run(), name="voices")
    stack.callback(keeping.cancel)
    tidying = asyncio.create_task(tidy_when_idle(slots), name="tidying")
    stack.callback(tidying.cancel)
    _announce(settings, http.port, switchboard, agents, stack)
    return Running(port, failed, switchboard, withdraw)


def _announce(
    settings: AgentSettings, port: int, switchboard: Switchboard, agents: AgentDirectory, stack: AsyncExitStack
) -> None:
    """Other agents, and whoever asks them, know of this one while it runs."""
    slots, redis = switchboard.slots, switchboard.around.store.redis
    address, started = settings.reached_at(port, _own_address(redis.address.hosts)), time.time()

    def card(now: float) -> AgentCard:
        calls, capacity = slots.active, switchboard.capacity
        return AgentCard(switchboard.agent_id, address, calls, capacity, slots.draining, started, now)

    every_s = switchboard.around.store.times.renew_s
    announcing = asyncio.create_task(keep_announced(agents, card, every_s), name="announcement")

    async def withdraw() -> None:
        announcing.cancel()
        await asyncio.gather(announcing, return_exceptions=True)
        with contextlib.suppress(*AWAY, TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await agents.withdraw(switchboard.agent_id)

    stack.push_async_callback(withdraw)


def _own_address(peers: Sequence[tuple[str, int]]) -> str:
    """This machine's address on its way to the first of some peers that has one; its name where there is none."""
    for peer in peers:
        with contextlib.suppress(OSError):
            family, kind, _, _, target = socket.getaddrinfo(*peer, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, kind) as probe:
                probe.connect(target)  # sends nothing
                return str(probe.getsockname()[0])
    return socket.gethostname()


def _tell_kubernetes(settings: AgentSettings, agent_id: str, slots: Slots, stack: AsyncExitStack) -> None:
    if settings.kubernetes == "off" or not kube.is_pod(settings.kubernetes_account, os.environ):
        if settings.kubernetes == "on":
            raise StartError(f"--kubernetes on: no service account in {settings.kubernetes_account}")
        return
    if not kube.client_is_installed():
        if settings.kubernetes == "on":
            raise StartError("--kubernetes on: the Python package kubernetes is missing (the extra `kubernetes`)")
        log.warning("this is a pod, but the package kubernetes is missing: no deletion cost, no Lease")
        return
    name = os.environ.get("POD_NAME") or socket.gethostname()
    presence = kube.Presence(kube.Pod(settings.kubernetes_account, os.environ, name, agent_id), lambda: slots.active)
    task = asyncio.create_task(presence.run(), name="kubernetes")

    async def stop() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(stop)


def _desk(settings: AgentSettings, switchboard: Switchboard) -> CarrierDesk | None:
    try:
        carriers = CarrierSettings().carriers()
    except ValueError as error:
        raise StartError(str(error)) from error
    if not settings.public_url:
        if carriers:
            raise StartError(f"{carriers[0].name} is set up, but no --public-url is")
        return None
    media_url = settings.media_url or settings.public_url.replace("https://", "wss://", 1)
    return CarrierDesk(carriers, switchboard, settings.public_url, media_url)


def _recordings(settings: AgentSettings, personas: Iterable[Persona], stack: AsyncExitStack) -> Recordings | None:
    if not settings.recordings:
        for persona in personas:
            if persona.recording.enabled:
                raise PersonaError(f"persona {persona.name!r}: recording is enabled, but no --recordings is set")
        return None
    recordings = Recordings(Path(settings.recordings), RecordingFormat(settings.recording_format))
    stack.callback(recordings.close)
    return recordings


async def _transcriber(settings: AgentSettings, stack: AsyncExitStack) -> Transcriber | None:
    if settings.transcript_model is None:
        measures.observe(lambda: 0.0)  # a dashboard tells "nothing waits" from "no agent"
        return None
    transcriber = Transcriber(settings.transcript_model, settings.transcript_threads, settings.transcript_backlog)
    stack.push_async_callback(transcriber.close)
    await transcriber.start()
    measures.observe(lambda: transcriber.waiting_s)
    return transcriber


def _mark(settings: AgentSettings) -> Code | None:
    try:
        key = read_secret(settings.watermark_key, settings.watermark_key_file, "the watermark's key")
    except ValueError as error:
        raise StartError(str(error)) from error
    if not settings.watermark:
        log.warning("no watermark: what the bots say cannot be told from a person by machine")
        return None
    return Code.of(key.encode() or PUBLIC_KEY)


def _ice_servers(settings: AgentSettings) -> IceServers:
    try:
        secret = read_secret(settings.turn_secret, settings.turn_secret_file, "the TURN secret")
        return IceServers.parse(settings.ice_servers, settings.turn_username, secret, settings.turn_ttl)
    except ValueError as error:
        raise StartError(str(error)) from error


def _doors(settings: AgentSettings) -> Doors:
    try:
        keys = KeyRing.parse(read_secret(settings.api_keys, settings.api_keys_file, "the API keys"))
    except ValueError as error:
        raise StartError(f"API keys: {error}") from error
    try:
        page_key = read_secret(settings.page_key, settings.page_key_file, "the page key")
    except ValueError as error:
        raise StartError(str(error)) from error
    return Doors(keys, KeyRing.of_page(page_key), settings.api_rate, settings.stranger_rate, settings.page_rate)


def _require_free(line: SipSettings) -> None:
    """Says in one line what the SIP stack would say in three."""
    family = socket.AF_INET6 if ":" in line.host else socket.AF_INET
    for transport in line.transports:
        port = line.port + (transport == "tls")
        with socket.socket(family, socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(transport != "udp"))
            try:
                probe.bind((line.host, port))
            except OSError as error:
                reason = f"cannot listen for SIP on {line.host}:{port} ({transport}): {error.strerror}"
                raise StartError(reason) from error


def _sip_workers(line: SipSettings, count: int, switchboard: Switchboard) -> SipWorkers:
    try:
        return SipWorkers(line, count, switchboard)
    except ValueError as error:  # the last one's port, say
        raise StartError(str(error)) from error
