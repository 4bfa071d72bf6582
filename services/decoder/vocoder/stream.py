"""The vocoder over a stream of mel blocks: joins that are not heard."""

import torch
from torch import Tensor

from services.decoder.vocoder.hift import HiFTGenerator

CONTEXT = 32  # mel frames before a block; more than the networks look back
_FADE = 1  # mel frames of audio that are rendered twice and cross-faded at a join


class VocoderStream:
    """One utterance's vocoder.

    Each block is rendered with `CONTEXT` frames before it, whose source samples are kept, not made anew, and with the
    provisional frames after it. The last frame of a block is held back, rendered again with the next block, and
    cross-faded; so the audio lags one frame behind the mel until the last block.
    """

    def __init__(self, vocoder: HiFTGenerator, seed: int) -> None:
        self._vocoder = vocoder
        self._state = vocoder.new_source(seed)
        self._mel: Tensor | None = None  # (1, 80, <= CONTEXT) frames before the next block
        self._source: Tensor | None = None  # their source
        self._held: Tensor | None = None  # (_FADE * hop,) audio not yet given out

    def push(self, mel: Tensor, after: Tensor, last: bool) -> Tensor:
        """Audio of a block.

        Args:
            mel: (1, 80, n) final frames, n > 0.
            after: (1, 80, m) provisional frames that follow; m may be 0.
            last: nothing follows.

        Returns:
            (samples,) that may be played now.
        """
        hop, rate = self._vocoder.hop, self._vocoder.config.sampling_rate
        before = 0 if self._mel is None else self._mel.shape[2]
        whole = torch.cat([*([] if self._mel is None else [self._mel]), mel, after], dim=2)
        f0 = self._vocoder.f0_predictor(whole)[0, before:]
        fresh = self._vocoder.m_source(f0, self._state)
        source = fresh if self._source is None else torch.cat([self._source, fresh], dim=2)
        audio = self._vocoder.decode(whole, source)[0]
        stop = before + mel.shape[2]
        self._state.advance(f0, mel.shape[2], hop, rate)
        self._mel = whole[:, :, max(0, stop - CONTEXT) : stop]
        self._source = source[:, :, max(0, stop - CONTEXT) * hop : stop * hop]

        start = before if self._held is None else before - _FADE
        audio = audio[start * hop : stop * hop]
        if self._held is not None:
            ramp = torch.arange(1, _FADE * hop + 1, device=audio.device) / (_FADE * hop + 1)
            joined = self._held * (1 - ramp) + audio[: _FADE * hop] * ramp
            audio = torch.cat([joined, audio[_FADE * hop :]])
        if last:
            self._held = None
            return audio
        self._held = audio[-_FADE * hop :]
        return audio[: -_FADE * hop]
