"""One utterance: tokens in, audio out, block by block, with the state that is carried between blocks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from services.decoder.blocks import Block, BlockSchedule
from services.decoder.noise import PositionalNoise
from services.decoder.vocoder.stream import VocoderStream
from services.decoder.voices import Voice
from services.decoder.weights import Checkpoint

OVERLAP_TOKENS = 5
HISTORY_TOKENS = 50  # what a block sees of the utterance before it: bounded, so cost grows with length, not its square


class StoppedError(Exception):
    """The caller does not want the rest."""


@dataclass(frozen=True)
class Pcm:
    """Audio, 16-bit little endian, and how many tokens of the utterance it completes."""

    data: bytes
    tokens_done: int


class Utterance:
    """Synthesis of one utterance. Not thread-safe: one call at a time.

    Each block is generated after a prompt: the voice, then up to `HISTORY_TOKENS` tokens of the utterance with the mel
    that was given out for them. The last `OVERLAP_TOKENS` of a block are held back; the next block generates them
    again, with the same noise, and the two are cross-faded. n tokens give exactly floor(n * 441 / 64) mel frames of
    256 samples (at 12.5 tokens and 22050 samples a second).

    Args:
        checkpoint: the models, shared by all utterances; nothing in them changes.
        seed: of all noise.
        voice: what the utterance sounds like.
    """

    def __init__(self, checkpoint: Checkpoint, seed: int, voice: Voice) -> None:
        self._checkpoint = checkpoint
        self._flow = checkpoint.flow
        self._device = checkpoint.flow.input_embedding.weight.device
        self._voice = voice
        self._schedule = BlockSchedule()
        self._noise = PositionalNoise(seed, "mel", (self._flow.mel_bins,))
        self._voice_noise = PositionalNoise(seed, "voice", (self._flow.mel_bins,))
        self._vocoder = VocoderStream(checkpoint.vocoder, seed)
        self._codes: list[int] = []
        self._first_code = 0  # position of _codes[0] in the utterance
        self._mel = torch.zeros(1, self._flow.mel_bins, 0, device=self._device)
        self._first_frame = 0  # position of _mel[:, :, 0]
        self._overlap: Tensor | None = None
        self._samples = 0
        self._stopped = False

    @property
    def received(self) -> int:
        """Tokens so far."""
        return self._schedule.received

    def push(self, codes: Sequence[int]) -> None:
        """More tokens, all within the codebook."""
        self._codes.extend(codes)
        self._schedule.push(len(codes))

    def finish(self) -> None:
        """No more tokens."""
        self._schedule.finish()

    def stop(self) -> None:
        """Makes the block being computed, and any later one, raise `StoppedError`. May be called from any thread."""
        self._stopped = True

    @torch.inference_mode()
    def next_pcm(self) -> Pcm | None:
        """Computes the next block's audio; none when more tokens are needed or all is done.

        Raises:
            StoppedError: `stop` was called.
        """
        block = self._schedule.next()
        if block is None:
            return None
        mel, after = self._next_mel(block, self._check_stopped)
        audio = self._vocoder.push(mel, after, block.last)
        self._samples += len(audio)
        tokens = self.received if block.last else self._tokens_within(self._samples // self._checkpoint.vocoder.hop)
        samples = np.round(audio.clamp(-1, 1).cpu().numpy() * 32767.0).astype("<i2")
        return Pcm(samples.tobytes(), tokens)

    def _check_stopped(self) -> None:
        if self._stopped:
            raise StoppedError

    def _next_mel(self, block: Block, check: Callable[[], None]) -> tuple[Tensor, Tensor]:
        """Frames that are final now, and the provisional ones after them."""
        if block.start == block.stop:
            assert self._overlap is not None
            made = self._overlap
        else:
            made = self._generate(block, check)
            if self._overlap is not None:
                made = _cross_fade(self._overlap, made)
        held = 0 if block.last else self._flow.frames(OVERLAP_TOKENS)
        mel, after = made[:, :, : made.shape[2] - held], made[:, :, made.shape[2] - held :]
        self._overlap = after
        self._mel = torch.cat([self._mel, mel], dim=2)
        return mel, after

    def _generate(self, block: Block, check: Callable[[], None]) -> Tensor:
        """Mel (1, 80, frames) from the first frame not yet final to the end of the block."""
        flow, inference = self._flow, self._checkpoint.config.inference
        self._forget_before(block.start - HISTORY_TOKENS)
        stop_frame = flow.frames(block.stop)
        codes = [*self._voice.codes, *self._codes[: block.stop - self._first_code]]
        prompt = torch.cat([self._voice.mel.to(self._device), self._mel], dim=2)
        noise = torch.cat(
            [
                self._voice_noise.frames(0, self._voice.mel.shape[2]),
                self._noise.frames(self._first_frame, stop_frame),
            ]
        )
        return flow.generate(
            torch.tensor([codes], device=self._device),
            noise.T[None].to(self._device) * inference.temperature,
            prompt,
            torch.zeros(1, flow.spk_embed_affine_layer.in_features, device=self._device),
            steps=inference.n_timesteps,
            guidance=self._checkpoint.config.guidance,
            start=inference.start,
            before_step=check,
        )

    def _forget_before(self, token: int) -> None:
        """Drops history before `token`, at the start of an encoder block."""
        size = self._flow.encoder.block_size
        start = max(0, token) // size * size
        if start <= self._first_code:
            return
        frame = self._flow.frames(start)
        self._codes = self._codes[start - self._first_code :]
        self._mel = self._mel[:, :, frame - self._first_frame :]
        self._first_code, self._first_frame = start, frame

    def _tokens_within(self, frames: int) -> int:
        """The most tokens whose frames are all among the first `frames`."""
        tokens = int(frames / self._flow.frames_per_token)
        return tokens + 1 if self._flow.frames(tokens + 1) <= frames else tokens


def _cross_fade(old: Tensor, new: Tensor) -> Tensor:
    """`new`, whose first frames (as many as `old` has) change over from `old` along a Hamming window."""
    count = old.shape[2]
    window = torch.hamming_window(2 * count, periodic=False, device=old.device)
    rising, falling = window[:count], window[count:]
    weight = rising / (rising + falling)  # the bare window's halves sum to 1.08, which would make the join louder
    joined = old * (1 - weight) + new[:, :, :count] * weight
    return torch.cat([joined, new[:, :, count:]], dim=2)
