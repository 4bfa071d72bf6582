"""One utterance: tokens in, audio out, block by block, with the state that is carried between blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from services.decoder.blocks import FIRST_BLOCK, NEXT_BLOCKS, Block, BlockSchedule, history_start
from services.decoder.flow.solving import FlowBlock, FlowSolver
from services.decoder.noise import PositionalNoise
from services.decoder.vocoder.stream import MelBlock, VocoderStream
from services.decoder.voices import Voice
from services.decoder.weights import Checkpoint

OVERLAP_TOKENS = 5


class StoppedError(Exception):
    """The caller does not want the rest."""


@dataclass(frozen=True)
class Pcm:
    """Audio, 16-bit little endian, and how many tokens of the utterance it completes."""

    data: bytes
    tokens_done: int


@dataclass(eq=False)
class BlockWork:
    """A block that is due.

    Attributes:
        frames: mel frames to compute, those of the prompt included; 0 when only what was held back is due.
        flow: the block at the flow, from `Utterance.prepare` on.
    """

    block: Block
    frames: int
    flow: FlowBlock | None = None


class Utterance:
    """Synthesis of one utterance. Not thread-safe: one call at a time.

    `next_work` gives what is to be computed next, `mel_of` and `pcm_of` take what was computed; who computes, and
    together with what, is not known here.

    Each block is generated after a prompt: the voice, then up to `HISTORY_TOKENS` tokens of the utterance with the mel
    that was given out for them. The last `OVERLAP_TOKENS` of a block are held back; the next block generates them
    again, with the same noise, and the two are cross-faded. n tokens give exactly floor(n * 441 / 64) mel frames of
    256 samples (at 12.5 tokens and 22050 samples a second).

    Args:
        checkpoint: the models, shared by all utterances; nothing in them changes.
        seed: of all noise.
        voice: what the utterance sounds like.
        block_sizes: tokens of the first block, the second and so on; the last size repeats.
    """

    def __init__(
        self, checkpoint: Checkpoint, seed: int, voice: Voice, block_sizes: Sequence[int] = (FIRST_BLOCK, *NEXT_BLOCKS)
    ) -> None:
        self._checkpoint = checkpoint
        self._flow = checkpoint.flow
        self._device = checkpoint.flow.input_embedding.weight.device
        self._voice = voice
        silent = torch.zeros(self._flow.spk_embed_affine_layer.in_features)
        self._embedding = (silent if voice.embedding is None else voice.embedding).to(self._device)
        self._schedule = BlockSchedule(block_sizes)
        self._noise = PositionalNoise(seed, "mel", (self._flow.mel_bins,))
        self._voice_noise = PositionalNoise(seed, "voice", (self._flow.mel_bins,))
        self.vocoder = VocoderStream(checkpoint.vocoder, seed)
        self._codes: list[int] = []
        self._first_code = 0  # position of _codes[0] in the utterance
        self._mel = torch.zeros(1, self._flow.mel_bins, 0, device=self._device)
        self._first_frame = 0  # position of _mel[:, :, 0]
        self._overlap: Tensor | None = None
        self._samples = 0
        self.stopped = False

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
        """No more audio is wanted: work on it ends at its next step. May be called from any thread."""
        self.stopped = True

    @property
    def seconds(self) -> float:
        """Audio given out so far."""
        return self._samples / self._checkpoint.config.sample_rate

    @torch.inference_mode()
    def next_pcm(self) -> Pcm | None:
        """Computes the next block's audio, alone; none when more tokens are needed or all is done.

        Raises:
            StoppedError: `stop` was called.
        """
        work = self.next_work()
        if work is None:
            return None
        solver = FlowSolver(self._flow, self._checkpoint.config)
        self.prepare(work)
        while work.flow is not None and not solver.is_done(work.flow):
            if self.stopped:
                raise StoppedError
            solver.advance([work.flow])
        mel = self.mel_of(work)
        return self.pcm_of(work, self.vocoder.push(mel.mel, mel.after, mel.last))

    def next_work(self) -> BlockWork | None:
        """The next block; none when more tokens are needed or all is done. Finish one before asking for the next."""
        block = self._schedule.next()
        if block is None:
            return None
        if block.start == block.stop:
            return BlockWork(block, 0)
        self._forget_before(history_start(block.start, self._flow.encoder.block_size))
        return BlockWork(block, self._voice.mel.shape[2] + self._flow.frames(block.stop) - self._first_frame)

    def prepare(self, work: BlockWork) -> None:
        """Draws the noise of a block and puts its prompt together, once."""
        if work.frames and work.flow is None:
            work.flow = self._flow_block(work.block)

    def mel_of(self, work: BlockWork) -> MelBlock:
        """Takes the mel of a block whose flow is done: frames that are final now, provisional ones after them."""
        made = self._overlap if work.flow is None else work.flow.mel
        assert made is not None
        if work.flow is not None and self._overlap is not None:
            made = _cross_fade(self._overlap, made)
        held = 0 if work.block.last else self._flow.frames(OVERLAP_TOKENS)
        mel, after = made[:, :, : made.shape[2] - held], made[:, :, made.shape[2] - held :].clone()
        self._overlap = after
        self._mel = torch.cat([self._mel, mel], dim=2)
        return MelBlock(mel, after, work.block.last)

    def pcm_of(self, work: BlockWork, audio: Tensor) -> Pcm:
        """Takes a block's audio (samples,)."""
        self._samples += len(audio)
        frames = self._samples // self._checkpoint.vocoder.hop
        tokens = self.received if work.block.last else self._tokens_within(frames)
        samples = np.round(audio.clamp(-1, 1).cpu().numpy() * 32767.0).astype("<i2")
        return Pcm(samples.tobytes(), tokens)

    def _flow_block(self, block: Block) -> FlowBlock:
        """The block with its prompt before it: from the first frame not yet final to the end of the block."""
        flow = self._flow
        codes = [*self._voice.codes, *self._codes[: block.stop - self._first_code]]
        noise = torch.cat(
            [
                self._voice_noise.frames(0, self._voice.mel.shape[2]),
                self._noise.frames(self._first_frame, flow.frames(block.stop)),
            ]
        )
        return FlowBlock(
            codes,
            noise.T.to(self._device) * self._checkpoint.config.inference.temperature,
            torch.cat([self._voice.mel.to(self._device), self._mel], dim=2)[0],
            self._embedding,
        )

    def _forget_before(self, start: int) -> None:
        """Drops history before token `start`, which an encoder block begins with."""
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
