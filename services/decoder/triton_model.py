"""The decoder engine as a model of the Triton repository."""

import json
from collections.abc import AsyncIterator

from services.common.errors import InvalidInputError
from services.common.triton_host import Command
from services.common.triton_metrics import Watched
from services.common.triton_python import HostSettings
from services.common.triton_reply import Reply
from services.common.triton_wire import Tensors, number, raw, text
from services.decoder.build import Settings, build
from services.decoder.engine import DecoderEngine, SynthesisStream
from services.decoder.utterance import Pcm


class TritonSettings(HostSettings, Settings):
    """The service's settings, and what Triton adds."""


class TritonDecoder:
    """Implements `HostedModel`: a session is an utterance."""

    def __init__(self, engine: DecoderEngine) -> None:
        self._engine = engine
        self.revision = engine.revision

    @classmethod
    def load(cls, settings: TritonSettings) -> "TritonDecoder":
        """Loads the weights. Errors: see `build`."""
        return cls(build(settings))

    @property
    def watched(self) -> Watched:
        """See `HostedModel.watched`."""
        return Watched("decoder", lambda: self._engine.pending_blocks, self._engine.meter)

    async def start(self) -> None:
        """See `HostedModel.start`."""
        await self._engine.warm_up()

    def describe(self) -> str:
        """Limits and voices."""
        engine = self._engine
        described = {
            "sample_rate": engine.sample_rate,
            "codebook_size": engine.codebook_size,
            "token_rate": engine.token_rate,
            "revision": engine.revision,
            "voices": engine.voices.ids,
            "speaker_model": engine.voices.speaker_model,
        }
        return json.dumps(described)

    async def open(self, command: Command, hold: Reply) -> "TritonUtterance":
        """Parameters: `seed` (a text: Triton's integers are signed) and `voice_id`."""
        seed, voice_id = int(command.parameters.get("seed", 0)), str(command.parameters.get("voice_id", ""))
        return TritonUtterance(self._engine.open(seed, voice_id))

    async def ask(self, command: Command) -> Tensors:
        """`register`: PCM and CODES of a reference, for a VOICE_ID. `forget`: the parameter `voice_id`."""
        if command.name == "forget":
            voice_id = str(command.parameters.get("voice_id", ""))
            await self._engine.forget_voice(voice_id)
            return {"VOICE_ID": text(voice_id)}
        if command.name != "register":
            raise InvalidInputError(
                f"command {command.name!r} outside a session; there are info, register, forget, open"
            )
        voice_id = await self._engine.register_voice(command.bytes("PCM"), command.list("CODES"))
        return {"VOICE_ID": text(voice_id)}

    def stop(self) -> None:
        """See `HostedModel.stop`."""
        self._engine.close()


class TritonUtterance:
    """Implements `ModelSession`: push codes, then finish."""

    def __init__(self, stream: SynthesisStream) -> None:
        self._stream = stream

    async def execute(self, command: Command, reply: Reply) -> None:
        """See `ModelSession.execute`."""
        found: AsyncIterator[Pcm]
        if command.name == "push":
            found = self._stream.push(command.list("CODES"))
        elif command.name == "finish":
            found = self._stream.finish()
        else:
            raise InvalidInputError(f"command {command.name!r}; there are push, finish and close")
        async for pcm in found:
            reply.send({"PCM": raw(pcm.data), "TOKENS_DONE": number(pcm.tokens_done)})
        reply.finish()

    def close(self) -> None:
        """See `ModelSession.close`."""
        self._stream.close()
