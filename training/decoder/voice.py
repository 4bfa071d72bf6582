"""Speech tokens as the decoder's service makes them audible."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from services.decoder.utterance import Utterance
from services.decoder.voices import Voice, default_voice
from services.decoder.weights import Checkpoint

Waveform = npt.NDArray[np.float32]


def speak(checkpoint: Checkpoint, codes: Sequence[int], seed: int, voice: Voice | None = None) -> Waveform:
    """The whole utterance, block by block as it is served, at the checkpoint's rate; at least one token."""
    utterance = Utterance(checkpoint, seed, voice or default_voice(checkpoint.flow.mel_bins))
    utterance.push(codes)
    utterance.finish()
    blocks = []
    while (pcm := utterance.next_pcm()) is not None:
        blocks.append(pcm.data)
    return np.frombuffer(b"".join(blocks), "<i2").astype(np.float32) / 32768.0
