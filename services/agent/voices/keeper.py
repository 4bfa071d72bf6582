"""Has every decoder replica know every voice, whenever it comes up, and forget those that were deleted."""

import asyncio
import logging
from typing import Any, TypeAlias

import grpc

from services.agent.personas import Persona
from services.agent.replicas.pool import Pool
from services.agent.replicas.replica import Replica
from services.agent.state.address import StateError
from services.agent.state.connection import AWAY
from services.agent.voices.clip import from_flac
from services.agent.voices.store import Reference, Voice, VoiceStore
from services.common.errors import UnknownIdError
from trunkline.v1 import decoder_pb2, decoder_pb2_grpc

log = logging.getLogger(__name__)

EVERY_S = 5.0
WELCOME_S = 3.0  # a replica that comes up waits so long for its voices at most; it gets the rest while it serves
REGISTER_S = 30.0
LOOK_S = 2.0

Decoder: TypeAlias = "Replica[decoder_pb2_grpc.SpeechDecoderAsyncStub]"


class VoiceKeeper:
    """The voices as this agent last read them, and the decoders that are to know them."""

    def __init__(self, store: VoiceStore, decoders: "Pool[decoder_pb2_grpc.SpeechDecoderAsyncStub]") -> None:
        self._store = store
        self._decoders = decoders
        self._known: dict[str, Voice] = {}
        self._gone: set[str] = set()
        self._unreadable: set[str] = set()

    @property
    def known(self) -> dict[str, Voice]:
        """By name."""
        return self._known

    @property
    def why_not(self) -> str:
        """Why no voice can be registered now; empty when one can."""
        serving = self._decoders.serving
        if not serving:
            return "no decoder serves now"
        if not all(replica.info.speaker_model for replica in serving):
            return "a decoder has no speaker model: start all of them with --speaker-model FILE (docs/voices.md)"
        return ""

    def ready_at(self, voice: Voice) -> tuple[int, int]:
        """How many serving replicas know a voice, and how many serve."""
        serving = self._decoders.serving
        return sum(voice.voice_id in replica.info.voices for replica in serving), len(serving)

    async def refresh(self) -> None:
        """Reads what there is. Raises RedisError or OSError while Redis is away."""
        self._known, self._gone = await self._store.all(), await self._store.gone()

    async def names(self) -> set[str]:
        """Of all voices now, or as they were last known."""
        await self._look()
        return set(self._known)

    async def spoken_by(self, persona: Persona) -> Persona:
        """The persona with its voice by the decoders' id; as it is, where its voice is none of ours."""
        if persona.voice and persona.voice not in self._known:
            await self._look()
        voice = self._known.get(persona.voice)
        return persona.model_copy(update={"voice": voice.voice_id}) if voice is not None else persona

    async def welcome(self, replica: Decoder) -> None:
        """Before a replica is used; see `Pool.welcome`. What fails is tried again while it serves."""
        try:
            async with asyncio.timeout(WELCOME_S):
                await self._tell(replica)
        except (TimeoutError, grpc.aio.AioRpcError, *AWAY) as error:
            log.warning("a decoder does not know all voices yet", extra={"error": type(error).__name__})

    async def register(self, reference: Reference) -> str:
        """Makes a voice known to all decoders that serve; returns its id.

        Raises:
            grpc.aio.AioRpcError: one refused it, or does not answer.
        """
        ids = await asyncio.gather(*(self._register(replica, reference) for replica in self._decoders.serving))
        return str(ids[0])

    async def forget(self, voice_id: str) -> None:
        """Has all decoders that can be reached forget a voice; the others are told when they can."""
        self._gone.add(voice_id)
        asked = (self._forget(replica, voice_id) for replica in self._decoders.serving)
        await asyncio.gather(*asked, return_exceptions=True)

    async def run(self) -> None:
        """Looks again and again, for as long as it runs."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.refresh()
            except AWAY as error:
                log.debug("Redis does not answer", extra={"error": type(error).__name__})
                continue
            for replica in self._decoders.serving:
                try:
                    await self._tell(replica)
                except (grpc.aio.AioRpcError, *AWAY) as error:
                    log.warning("a decoder could not be told of voices", extra={"error": type(error).__name__})

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(LOOK_S):
                await self.refresh()
        except (TimeoutError, *AWAY):
            log.debug("the last known voices serve")

    async def _tell(self, replica: Decoder) -> None:
        there = set(replica.info.voices)
        for voice_id in self._gone & there:
            await self._forget(replica, voice_id)
        for voice in list(self._known.values()):
            if voice.voice_id not in there:
                await self._bring(replica, voice)

    async def _bring(self, replica: Decoder, voice: Voice) -> None:
        try:
            reference = await self._store.reference(voice.name)
        except UnknownIdError:
            return  # deleted meanwhile
        except StateError as error:
            if voice.name not in self._unreadable:
                self._unreadable.add(voice.name)
                log.error("a voice cannot be read", extra={"error": str(error)})
            return
        voice_id = await self._register(replica, reference)
        if voice_id != voice.voice_id:
            log.error("a decoder gives a voice another id", extra={"address": replica.address})

    async def _register(self, replica: Decoder, reference: Reference) -> str:
        pcm = await asyncio.to_thread(from_flac, reference.flac)
        request = decoder_pb2.RegisterVoiceRequest(pcm=pcm, codes=reference.codes)
        answer: Any = await replica.stub.RegisterVoice(request, timeout=REGISTER_S)
        return str(answer.voice_id)

    async def _forget(self, replica: Decoder, voice_id: str) -> None:
        await replica.stub.ForgetVoice(decoder_pb2.ForgetVoiceRequest(voice_id=voice_id), timeout=REGISTER_S)
