"""The engine's interface over a decoder that runs at Triton."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.common.triton import TritonModel, TritonSession
from services.common.triton_wire import REVISION, Parameters, Tensors, raw, read_text
from services.decoder.utterance import Pcm

MODEL = "speech_decoder"


@dataclass
class TritonVoices:
    """Voices at Triton when it was last asked."""

    ids: list[str]
    speaker_model: bool


class TritonDecoderBackend:
    """Opens utterances at Triton.

    Args:
        model: where the sessions are.
        info: what it said of itself.
    """

    def __init__(self, model: TritonModel, info: dict[str, Any]) -> None:
        self._model = model
        self.sample_rate = int(info["sample_rate"])
        self.codebook_size = int(info["codebook_size"])
        self.token_rate = float(info["token_rate"])
        self.revision = str(info["revision"])
        self.voices = TritonVoices(list(info["voices"]), bool(info["speaker_model"]))

    @classmethod
    async def connect(cls, model: TritonModel) -> "TritonDecoderBackend":
        """Asks Triton for the limits. Errors: see `TritonModel.ask`."""
        return cls(model, await model.info())

    async def check(self) -> None:
        """Asks for the voices anew.

        Raises:
            UnavailableError: Triton does not answer, or has other weights than at the start.
        """
        info = await self._model.info()
        self._model.check_revision(info, self.revision)
        self.voices.ids = list(info["voices"])

    def open(self, seed: int, voice_id: str) -> "TritonSynthesisStream":
        """A new utterance; close it. An unknown voice is told by its first `push` or `finish`."""
        parameters = {"seed": str(seed), "voice_id": voice_id, REVISION: self.revision}
        return TritonSynthesisStream(self._model.session(), parameters)

    async def register_voice(self, pcm: bytes, codes: Sequence[int]) -> str:
        """See `DecoderEngine.register_voice`; also raises UnavailableError."""
        answer = await self._model.ask("register", {"PCM": raw(pcm), "CODES": np.array(codes, np.uint32)})
        return read_text(answer["VOICE_ID"])

    async def forget_voice(self, voice_id: str) -> None:
        """See `DecoderEngine.forget_voice`; also raises UnavailableError."""
        await self._model.ask("forget", voice_id=voice_id)


class TritonSynthesisStream:
    """One utterance."""

    def __init__(self, session: TritonSession, parameters: Parameters) -> None:
        self._session = session
        self._parameters = parameters
        self._opened = False

    async def push(self, codes: Sequence[int]) -> AsyncIterator[Pcm]:
        """See `SynthesisStream.push`; also raises UnknownIdError and UnavailableError."""
        async for pcm in self._command("push", {"CODES": np.array(codes, np.uint32)}):
            yield pcm

    async def finish(self) -> AsyncIterator[Pcm]:
        """See `SynthesisStream.finish`; also raises UnknownIdError and UnavailableError."""
        async for pcm in self._command("finish", {}):
            yield pcm

    def close(self) -> None:
        """Ends the utterance at Triton."""
        self._session.close()

    async def _command(self, command: str, inputs: Tensors) -> AsyncIterator[Pcm]:
        if not self._opened:
            self._opened = True
            await self._session.open(self._parameters)
        async for outputs in self._session.request(command, inputs):
            yield Pcm(outputs["PCM"].tobytes(), int(outputs["TOKENS_DONE"][0]))
