"""What is not in the words: predicted opinion scores, and whether two recordings are of one voice.

Both models come with packages whose code asks for more than is used here, so only their weights are taken: DNSMOS
P.835 (Reddy et al. 2022) from speechmos, the GE2E encoder (Wan et al. 2018) from Resemblyzer.
"""

import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr
import torch
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from training.prosody import pitch_of

Waveform = npt.NDArray[np.float32]

RATE = 16_000
_MOS_SAMPLES = 144_160  # 9.01 s
_MOS_FITS = ((-0.08397278, 1.22083953, 0.0052439), (-0.13166888, 1.60915514, -0.39604546))  # signal, background
_MOS_OVERALL = (-0.06766283, 1.11546468, 0.04602535)
_WINDOW, _HOP, _MELS, _PARTIAL = 400, 160, 40, 160
_LEVEL_DB = -30.0


def _package(name: str) -> Path:
    """Where an installed package lies, without running its code.

    Raises:
        RuntimeError: it is not installed.
    """
    found = importlib.util.find_spec(name)
    if found is None or not found.origin:
        raise RuntimeError(f"{name} is not installed: `make setup-training`")
    return Path(found.origin).parent


def _at_16_khz(wave: Waveform, rate: int) -> Waveform:
    return wave if rate == RATE else np.asarray(soxr.resample(wave, rate, RATE), np.float32)


@functools.cache
def _dnsmos() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = _package("speechmos") / "dnsmos_models" / "sig_bak_ovr.onnx"
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Opinion:
    """Predicted mean opinion scores, 1 to 5."""

    signal: float
    background: float
    overall: float


def opinion(wave: Waveform, rate: int) -> Opinion:
    """Of the first nine seconds; what is shorter is repeated, as the published code does."""
    heard = np.resize(_at_16_khz(wave, rate), _MOS_SAMPLES).astype(np.float32)
    raw = _dnsmos().run(None, {"input_1": heard[None]})[0][0]
    fits = (*_MOS_FITS, _MOS_OVERALL)
    return Opinion(*(float(np.polyval(fit, value)) for fit, value in zip(fits, raw, strict=True)))


class _VoiceEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_MELS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        bank = mel_filter_bank(_WINDOW // 2 + 1, _MELS, 0.0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
        self.bank = torch.from_numpy(np.asarray(bank, np.float32))

    def mel(self, wave: Waveform) -> Tensor:
        """(frames, 40) of power, not of its logarithm."""
        spectrum = torch.stft(
            torch.from_numpy(wave), _WINDOW, _HOP, window=torch.hann_window(_WINDOW), pad_mode="constant",
            return_complex=True,
        )  # fmt: skip
        power: Tensor = spectrum.abs().square().T
        return power @ self.bank

    @torch.inference_mode()
    def forward(self, wave: Waveform) -> Tensor:
        """(256,), of length 1: the mean over windows of 1.6 s, each half over the one before."""
        level = 10 * np.log10(float((wave**2).mean()) + 1e-12)
        mel = self.mel((wave * 10 ** ((_LEVEL_DB - level) / 20)).astype(np.float32))
        if len(mel) < _PARTIAL:
            mel = mel.repeat(-(-_PARTIAL // len(mel)), 1)
        windows = mel.unfold(0, _PARTIAL, _PARTIAL // 2).transpose(1, 2)
        _, (hidden, _) = self.lstm(windows)
        each = torch.relu(self.linear(hidden[-1]))
        mean: Tensor = (each / each.norm(dim=1, keepdim=True)).mean(0)
        length: Tensor = mean.norm()
        return mean.div(length)


@functools.cache
def _voices() -> _VoiceEncoder:
    state = torch.load(_package("resemblyzer") / "pretrained.pt", map_location="cpu", weights_only=False)["model_state"]
    model = _VoiceEncoder()
    model.load_state_dict({name: tensor for name, tensor in state.items() if name.startswith(("lstm", "linear"))})
    return model.eval()


def voice_vector(wave: Waveform, rate: int) -> Tensor:
    """(256,) of length 1; the scalar product of two says how alike the voices are."""
    vector: Tensor = _voices()(_at_16_khz(wave, rate))
    return vector


def alike(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Mean similarity of all pairs of two sets of vectors; of a set with itself without a vector's own pair."""
    pairs = torch.stack(list(one)) @ torch.stack(list(other)).T
    if one is other:
        n = len(pairs)
        return float((pairs.sum() - pairs.trace()) / (n * (n - 1)))
    return float(pairs.mean())


@dataclass(frozen=True)
class Prosody:
    """How something is spoken.

    Attributes:
        seconds: from the first loud sample to the last.
        pitch: geometric mean of F0, hertz.
        span: standard deviation of F0, in semitones.
        level: root mean square over voiced stretches, dB of full scale.
    """

    seconds: float
    pitch: float
    span: float
    level: float


def prosody(wave: Waveform, rate: int) -> Prosody | None:
    """None where nothing is voiced."""
    f0 = pitch_of(wave, rate)
    semitones = 12 * np.log2(f0[f0 > 0])
    loud = np.flatnonzero(np.abs(wave) > 0.03 * np.abs(wave).max(initial=1e-6))
    if not len(semitones) or not len(loud):
        return None
    voiced = wave[np.minimum((np.flatnonzero(f0 > 0) * 0.005 * rate).astype(int), len(wave) - 1)]
    # Octave errors of the tracker would count for more than any style: the middle 90 % are taken.
    low, high = np.percentile(semitones, [5, 95])
    kept = semitones[(semitones >= low) & (semitones <= high)]
    return Prosody(
        (loud[-1] - loud[0]) / rate,
        float(2 ** (semitones.mean() / 12)),
        float(kept.std()),
        float(10 * np.log10((voiced.astype(np.float64) ** 2).mean() + 1e-12)),
    )
