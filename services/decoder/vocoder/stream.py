"""The vocoder over streams of mel blocks: joins that are not heard; blocks of many streams in one batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from services.decoder.vocoder.hift import HiFTGenerator
from services.decoder.vocoder.layers import length_mask

CONTEXT = 32  # mel frames before a block; more than the networks look back
_FADE = 1  # mel frames of audio that are rendered twice and cross-faded at a join


@dataclass(frozen=True)
class MelBlock:
    """What a stream renders next.

    Attributes:
        mel: (1, 80, n) final frames, n > 0.
        after: (1, 80, m) provisional frames that follow; m may be 0.
        last: nothing follows.
    """

    mel: Tensor
    after: Tensor
    last: bool


class VocoderStream:
    """One utterance's vocoder.

    Each block is rendered with `CONTEXT` frames before it, whose source samples are kept, not made anew, and with the
    provisional frames after it. The last frame of a block is held back, rendered again with the next block, and
    cross-faded; so the audio lags one frame behind the mel until the last block.
    """

    def __init__(self, vocoder: HiFTGenerator, seed: int) -> None:
        self.state = vocoder.new_source(seed)
        self._vocoder = vocoder
        self._mel: Tensor | None = None  # (1, 80, <= CONTEXT) frames before the next block
        self._source: Tensor | None = None  # (channels, samples), theirs
        self._held: Tensor | None = None  # (_FADE * hop,) audio not yet given out

    def push(self, mel: Tensor, after: Tensor, last: bool) -> Tensor:
        """Audio (samples,) of a block that may be played now; see `MelBlock`."""
        return render(self._vocoder, [(self, MelBlock(mel, after, last))])[0]

    @property
    def frames_before(self) -> int:
        """Frames of the stream's past with which its next block is rendered."""
        return 0 if self._mel is None else self._mel.shape[2]

    def with_past(self, block: MelBlock) -> Tensor:
        """(1, 80, frames) the past, the block, what follows."""
        past = [] if self._mel is None else [self._mel]
        return torch.cat([*past, block.mel, block.after], dim=2)

    def source(self, fresh: Tensor) -> Tensor:
        """(channels, samples): the past's source and, behind it, the block's own."""
        return fresh if self._source is None else torch.cat([self._source, fresh], dim=1)

    def take(self, block: MelBlock, whole: Tensor, source: Tensor, f0: Tensor, audio: Tensor) -> Tensor:
        """Moves on by a rendered block and returns what of its audio may be played.

        Args:
            block: what was rendered.
            whole, source: of `with_past` and `source`.
            f0: (frames,) of the block on the CPU.
            audio: (samples,) of `whole`.
        """
        hop = self._vocoder.hop
        before, count = self.frames_before, block.mel.shape[2]
        stop = before + count
        self.state.advance(f0[:count], hop, self._vocoder.config.sampling_rate)
        self._mel = whole[:, :, max(0, stop - CONTEXT) : stop].clone()
        self._source = source[:, max(0, stop - CONTEXT) * hop : stop * hop].clone()
        start = before if self._held is None else before - _FADE
        audio = audio[start * hop : stop * hop]
        if self._held is not None:
            ramp = torch.arange(1, _FADE * hop + 1, device=audio.device) / (_FADE * hop + 1)
            joined = self._held * (1 - ramp) + audio[: _FADE * hop] * ramp
            audio = torch.cat([joined, audio[_FADE * hop :]])
        if block.last:
            self._held = None
            return audio
        self._held = audio[-_FADE * hop :].clone()
        return audio[: -_FADE * hop]


def render(vocoder: HiFTGenerator, jobs: Sequence[tuple[VocoderStream, MelBlock]]) -> list[Tensor]:
    """Audio (samples,) of one block of each stream, all in one batch; each gets what it would get alone."""
    hop = vocoder.hop
    wholes = [stream.with_past(block) for stream, block in jobs]
    frames = [whole.shape[2] for whole in wholes]
    longest = max(frames)
    mel = torch.cat([F.pad(whole, (0, longest - whole.shape[2])) for whole in wholes])
    predicted = vocoder.f0_predictor(mel, length_mask(frames, mel))
    # the source is made for the new frames only: from each stream's own position on
    fresh = [count - stream.frames_before for count, (stream, _) in zip(frames, jobs, strict=True)]
    f0 = torch.zeros(len(jobs), max(fresh), device=mel.device)
    for row, (count, total) in enumerate(zip(fresh, frames, strict=True)):
        f0[row, :count] = predicted[row, total - count : total]
    made = vocoder.m_source(f0, [stream.state for stream, _ in jobs])
    sources = [
        stream.source(made[row, :, : count * hop])
        for row, ((stream, _), count) in enumerate(zip(jobs, fresh, strict=True))
    ]
    source = torch.stack([F.pad(item, (0, longest * hop - item.shape[1])) for item in sources])
    audio = vocoder.decode(mel, source, frames)
    heard = f0.cpu()
    return [
        stream.take(block, wholes[row], sources[row], heard[row, : fresh[row]], audio[row, : frames[row] * hop])
        for row, (stream, block) in enumerate(jobs)
    ]
