"""A text said outside any call: as a greeting is, by the language model and the decoder, but into a file."""

import uuid

from services.agent.floor import seed_of
from services.agent.lm_session import LmSession, Sampling
from services.agent.models import ModelServices
from services.agent.personas import Persona
from services.agent.speaking import Speaker


class _Kept:
    """An `AnswerSink` that keeps the sound."""

    def __init__(self) -> None:
        self.sound = bytearray()

    def text(self, piece: str) -> None:
        """See `AnswerSink`."""

    def text_complete(self) -> None:
        """See `AnswerSink`."""

    def stage(self, name: str) -> None:
        """See `AnswerSink`."""

    def pcm(self, pcm: bytes, tokens_done: int) -> None:
        """See `AnswerSink`."""
        self.sound += pcm


async def said(models: ModelServices, persona: Persona, text: str) -> bytes:
    """A text in a persona's voice, by the decoders' id: 16-bit mono PCM at `models.limits.pcm_rate`.

    It takes a place on every stage meanwhile, as a call does.

    Raises:
        ModelError: a service has no room, or fails.
    """
    name = f"try-{uuid.uuid4().hex}"
    kept = _Kept()
    async with models.reserve(name) as places:
        session = LmSession(places.lm, name)
        try:
            await session.open()
            await session.appended(session.append_system(persona.system_prompt))
            limits = models.limits
            speaker = Speaker(
                places.decoder, limits.block_sizes, session, kept, name, persona.voice, seed_of(persona.name, 0)
            )
            room = limits.context_length - len(session.ids)
            tokens = min(persona.max_new_tokens, room)
            await speaker.run(Sampling(persona.temperature, persona.top_p, tokens, seed_of(persona.name, 0)), text)
        finally:
            await session.close()
    return bytes(kept.sound)
