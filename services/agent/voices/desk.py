"""What an operator does with voices: one implementation, under the HTTP API."""

import asyncio
import datetime
import logging
import re
import time
import uuid
from dataclasses import dataclass

import grpc
import numpy as np

from services.agent.listening import Utterance
from services.agent.models import ModelError, ModelServices
from services.agent.persona_store.book import PersonaBook
from services.agent.state.connection import AWAY
from services.agent.voices.clip import Clip, flac, wav
from services.agent.voices.keeper import VoiceKeeper
from services.agent.voices.saying import said
from services.agent.voices.store import Consent, Reference, Voice, VoiceStore
from services.agent.watermark.code import Code
from services.agent.watermark.embed import Marker
from services.common.errors import AtCapacityError, InvalidInputError, UnavailableError, UnknownIdError, WrongOrderError
from services.common.grpc_server import Slots

log = logging.getLogger(__name__)

DEFAULT = "default"  # what the decoder's own voice is called where a name is needed
NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
MAX_TEXT = 300
TRIED_AT_ONCE = 2
_REFUSED = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE)


@dataclass(frozen=True)
class Shown:
    """A voice, and how it stands.

    Attributes:
        used_by: names of personas that speak with it.
        ready: decoders that know it.
        serving: decoders that serve.
    """

    voice: Voice
    used_by: list[str]
    ready: int
    serving: int


class VoiceDesk:
    """Reads and changes the voices of all agents on one Redis; while it is away, all raise UnavailableError.

    Args:
        mark: the watermark of what is tried; None for none.
    """

    def __init__(
        self,
        store: VoiceStore,
        keeper: VoiceKeeper,
        models: ModelServices,
        personas: PersonaBook,
        mark: Code | None = None,
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._models = models
        self._personas = personas
        self._mark = mark
        self._tries = Slots(TRIED_AT_ONCE, "places to try voices")

    @property
    def why_not(self) -> str:
        """Why no voice can be registered now; empty when one can."""
        return self._keeper.why_not

    async def all(self) -> list[Shown]:
        """All voices by name."""
        return [await self._shown(voice) for voice in (await self._now()).values()]

    async def get(self, name: str) -> Shown:
        """One voice. Raises UnknownIdError."""
        return await self._shown(await self._voice(name))

    async def consent(self, name: str) -> Consent:
        """Who agreed to its use. Raises UnknownIdError."""
        try:
            return (await self._store.reference(name)).consent
        except AWAY as error:
            raise _away() from error

    async def create(self, name: str, consent: Consent, content: bytes, by: str) -> Shown:
        """A new voice from a WAV file, known to all decoders when this returns.

        Raises:
            InvalidInputError: the name, the consent or the clip cannot be used.
            WrongOrderError: the name is taken, there are too many, or the decoders cannot do it.
            AtCapacityError, UnavailableError: no tokenizer or decoder has room, or answers.
        """
        if not re.fullmatch(NAME, name) or name == DEFAULT:
            raise InvalidInputError(f"name: must be like {NAME} and not {DEFAULT!r}")
        _check(consent)
        clip = await asyncio.to_thread(Clip.read, content)
        if name in await self._now():
            raise WrongOrderError(f"there is a voice {name!r} already: delete it first")
        if why_not := self._keeper.why_not:
            raise (WrongOrderError if self._models.decoder.serving else UnavailableError)(why_not)
        rate = self._models.limits.pcm_rate
        pcm = await asyncio.to_thread(clip.pcm, rate)
        reference = Reference(await asyncio.to_thread(flac, pcm, rate), await self._codes(clip), consent)
        try:
            voice_id = await self._keeper.register(reference)
        except grpc.aio.AioRpcError as error:
            if error.code() in _REFUSED:
                raise InvalidInputError(f"clip: {error.details()}") from error
            raise UnavailableError("a decoder does not take the voice now") from error
        voice = Voice(name, voice_id, round(len(pcm) / 2 / rate, 2), time.time(), by)
        try:
            await self._store.add(voice, reference)
            await self._keeper.refresh()
        except AWAY as error:
            raise _away() from error
        log.info("a voice was registered", extra={"voice": name, "key": by})
        return await self._shown(voice)

    async def delete(self, name: str, by: str) -> None:
        """Deletes a voice everywhere.

        Raises:
            UnknownIdError: there is none.
            WrongOrderError: a persona speaks with it.
        """
        voice = await self._voice(name)
        if users := await self._personas.speaking_with(name):
            raise WrongOrderError(f"personas speak with it: {', '.join(users)}; give them another voice first")
        try:
            await self._store.delete(voice)
            await self._keeper.forget(voice.voice_id)
            await self._keeper.refresh()
        except AWAY as error:
            raise _away() from error
        log.info("a voice was deleted", extra={"voice": name, "key": by})

    async def hear(self, name: str, text: str) -> bytes:
        """A text in a voice, as a WAV file.

        Raises:
            UnknownIdError: no such voice.
            InvalidInputError: no text, or too much of it.
            AtCapacityError, UnavailableError: no room, or a service fails.
        """
        cleaned = " ".join(text.split())
        if not 1 <= len(cleaned) <= MAX_TEXT:
            raise InvalidInputError(f"text must have 1 to {MAX_TEXT} characters (given: {len(cleaned)})")
        voice_id = "" if name == DEFAULT else (await self._voice(name)).voice_id
        persona = (await self._personas.named("")).persona.model_copy(update={"voice": voice_id})
        with self._tries.take():
            try:
                pcm = await said(self._models, persona, cleaned)
            except ModelError as error:
                raise _of_models(error) from error
        return await asyncio.to_thread(self._wav, pcm)

    def _wav(self, pcm: bytes) -> bytes:
        rate = self._models.limits.pcm_rate
        if self._mark is not None:
            pcm = Marker(self._mark, rate).mark(np.frombuffer(pcm, np.int16), last=True).tobytes()
        return wav(pcm, rate)

    async def _codes(self, clip: Clip) -> list[int]:
        """The clip as speech tokens."""
        limits, name = self._models.limits, f"voice-{uuid.uuid4().hex}"
        place = self._models.reserve(name).tokenizer
        try:
            utterance = Utterance(place, name, limits, lambda codes: None)
            utterance.feed(await asyncio.to_thread(clip.pcm, limits.input_rate))
            return list(await utterance.end())
        except ModelError as error:
            raise _of_models(error) from error
        finally:
            await place.close()

    async def _now(self) -> dict[str, Voice]:
        try:
            await self._keeper.refresh()
        except AWAY as error:
            raise _away() from error
        return self._keeper.known

    async def _voice(self, name: str) -> Voice:
        voice = (await self._now()).get(name)
        if voice is None:
            raise UnknownIdError(f"no voice {name!r}")
        return voice

    async def _shown(self, voice: Voice) -> Shown:
        ready, serving = self._keeper.ready_at(voice)
        return Shown(voice, await self._personas.speaking_with(voice.name), ready, serving)


def _check(consent: Consent) -> None:
    for what, value, most in (("consent_who", consent.who, 200), ("consent_note", consent.note, 2000)):
        if not 1 <= len(value.strip()) <= most:
            raise InvalidInputError(f"{what}: must have 1 to {most} characters")
    try:
        day = datetime.date.fromisoformat(consent.when)
    except ValueError:
        raise InvalidInputError("consent_when: must be a day, YYYY-MM-DD") from None
    if day > datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1):  # it is tomorrow somewhere
        raise InvalidInputError("consent_when: must not be in the future")


def _of_models(error: ModelError) -> Exception:
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return AtCapacityError(f"the {error.stage} service has no room now")
    return UnavailableError(f"the {error.stage} service failed ({error.code.name})")


def _away() -> UnavailableError:
    return UnavailableError("Redis does not answer; a change may have been made or not: look again")
