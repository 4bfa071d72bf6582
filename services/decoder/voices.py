"""Zero-shot voices: a reference recording and its speech tokens, put before every utterance as its beginning."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from services.common.errors import InvalidInputError, UnknownIdError
from services.decoder.flow.model import TokenToMel
from services.decoder.mel import log_mel

if TYPE_CHECKING:  # onnxruntime is loaded only where such a model is configured
    from services.decoder.speaker import SpeakerEncoder

MIN_SECONDS, MAX_SECONDS = 3.0, 30.0
_LONGEST_PROMPT = 60  # tokens; each block is computed with the prompt before it
_TOKEN_SLACK = 3  # a tokenizer may pad or cut at the end


@dataclass(frozen=True)
class Voice:
    """What an utterance sounds like.

    Attributes:
        codes: tokens of the reference; empty for the default voice.
        mel: (1, 80, frames), theirs.
        embedding: (192,) of the speaker; none stands for the default speaker's zeros.
    """

    codes: tuple[int, ...]
    mel: Tensor
    embedding: Tensor | None = None


def default_voice(mel_bins: int) -> Voice:
    """No prompt: the voice that the weights speak by themselves."""
    return Voice((), torch.zeros(1, mel_bins, 0))


class VoiceRegistry:
    """Voices by id; the least recently used one is dropped beyond `limit`. Used from one event loop.

    Args:
        flow: the model that will speak.
        sample_rate: of references, hertz.
        token_rate: tokens per second.
        codebook: how many codes there are.
        limit: voices kept.
        encoder: finds the speaker's embedding in a reference; none where no model for it is configured.
    """

    def __init__(
        self,
        flow: TokenToMel,
        sample_rate: int,
        token_rate: float,
        codebook: int,
        limit: int,
        encoder: "SpeakerEncoder | None" = None,
    ) -> None:
        self._flow = flow
        self._sample_rate = sample_rate
        self._token_rate = token_rate
        self._codebook = codebook
        self._limit = limit
        self._encoder = encoder
        self._default = default_voice(flow.mel_bins)
        self._voices: OrderedDict[str, Voice] = OrderedDict()

    @property
    def speaker_model(self) -> bool:
        """Voices get a speaker embedding of their own."""
        return self._encoder is not None

    @property
    def ids(self) -> list[str]:
        """Registered voices; the default one has the empty id and is not listed."""
        return list(self._voices)

    def get(self, voice_id: str) -> Voice:
        """The voice.

        Raises:
            UnknownIdError: it was never registered here, or was dropped since.
        """
        if not voice_id:
            return self._default
        if voice_id not in self._voices:
            raise UnknownIdError(f"no voice {voice_id!r} on this replica; register it (again) with RegisterVoice")
        self._voices.move_to_end(voice_id)
        return self._voices[voice_id]

    def prepare(self, pcm: bytes, codes: Sequence[int]) -> tuple[str, Voice]:
        """A voice and its id, which depends on the reference alone. Changes nothing: may run on another thread.

        Raises:
            InvalidInputError: the audio is not 3 to 30 s of whole 16-bit samples, or the codes do not fit it.
        """
        if not pcm:
            raise InvalidInputError(
                f"the reference is empty: send {MIN_SECONDS:g} to {MAX_SECONDS:g} s of 16-bit mono samples "
                f"at {self._sample_rate} Hz"
            )
        if len(pcm) % 2:
            raise InvalidInputError(f"pcm must be 16-bit samples, got {len(pcm)} bytes")
        seconds = len(pcm) / 2 / self._sample_rate
        if not MIN_SECONDS <= seconds <= MAX_SECONDS:
            raise InvalidInputError(
                f"reference audio must last {MIN_SECONDS:g} to {MAX_SECONDS:g} s at {self._sample_rate} Hz, "
                f"got {seconds:.2f} s"
            )
        check_codes(codes, self._codebook)
        expected = seconds * self._token_rate
        if abs(len(codes) - expected) > _TOKEN_SLACK:
            raise InvalidInputError(f"{seconds:.2f} s of audio has about {expected:.0f} codes, got {len(codes)}")
        digest = hashlib.sha256(pcm)
        digest.update(np.asarray(codes, "<u4").tobytes())
        voice_id = f"voice-{digest.hexdigest()[:16]}"
        return voice_id, self._prompt(pcm, codes)

    def add(self, voice_id: str, voice: Voice) -> None:
        """Keeps a prepared voice."""
        self._voices[voice_id] = voice
        self._voices.move_to_end(voice_id)
        while len(self._voices) > self._limit:
            self._voices.popitem(last=False)

    def forget(self, voice_id: str) -> None:
        """Drops a voice, if it is there. Utterances that speak with it go on."""
        self._voices.pop(voice_id, None)

    def _prompt(self, pcm: bytes, codes: Sequence[int]) -> Voice:
        samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768.0
        mel = log_mel(torch.from_numpy(samples)[None])
        # whole encoder blocks, so that the utterance's own blocks begin where they do without a prompt
        block = self._flow.encoder.block_size
        fitting = min(len(codes), _LONGEST_PROMPT, int(mel.shape[2] / self._flow.frames_per_token))
        count = max(block, fitting // block * block)
        embedding = None if self._encoder is None else self._encoder(samples, self._sample_rate)
        return Voice(tuple(codes[:count]), mel[:, :, : self._flow.frames(count)], embedding)


def check_codes(codes: Sequence[int], codebook: int) -> None:
    """Raises InvalidInputError naming the first code outside the codebook."""
    for index, code in enumerate(codes):
        if not 0 <= code < codebook:
            raise InvalidInputError(f"code {code} at position {index}: codes must be 0 to {codebook - 1}")
