"""The lines that a bot's marked voice goes over before someone looks for the mark. Randomness is passed in."""

import fractions
from collections.abc import Callable, Mapping

import av
import numpy as np
import numpy.typing as npt
import soxr
from numpy.random import Generator

from services.agent.legs.opus import OpusDecoder
from training.augment import a_law, mu_law

Waveform = npt.NDArray[np.float32]
Heard = tuple[Waveform, int]
Line = Callable[[Waveform, int, Generator], Heard]

_OPUS_RATE, _OPUS_PACKET = 48_000, 960


def _at(wave: Waveform, rate: int, wanted: int) -> Waveform:
    return np.asarray(soxr.resample(wave, rate, wanted), np.float32)


def _telephone(law: Callable[[Waveform], Waveform], gain_db: float = 0.0) -> Line:
    def line(wave: Waveform, rate: int, dice: Generator) -> Heard:
        return law(_at(wave, rate, 8000) * np.float32(10 ** (gain_db / 20))), 8000

    return line


def _resampled(wanted: int) -> Line:
    """G.711, and then as a recorder stores it."""

    def line(wave: Waveform, rate: int, dice: Generator) -> Heard:
        return _at(mu_law(_at(wave, rate, 8000)), 8000, wanted), wanted

    return line


def _opus(bit_rate: int, loss: float = 0.0) -> Line:
    def line(wave: Waveform, rate: int, dice: Generator) -> Heard:
        return through_opus(_at(wave, rate, _OPUS_RATE), bit_rate, loss, dice), _OPUS_RATE

    return line


def through_opus(wave: Waveform, bit_rate: int, loss: float, dice: Generator) -> Waveform:
    """Encoded and decoded at 48 kHz, packets of 20 ms; lost ones are concealed by libopus."""
    encoder = av.AudioCodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format, encoder.bit_rate = _OPUS_RATE, "mono", "s16", bit_rate
    encoder.time_base = fractions.Fraction(1, _OPUS_RATE)
    encoder.options = {"application": "voip", "frame_duration": "20"}
    decoder = OpusDecoder(_OPUS_RATE)
    pcm = np.asarray(np.rint(wave * 32767).clip(-32768, 32767), np.int16)
    heard = []
    for start in range(0, len(pcm) - _OPUS_PACKET + 1, _OPUS_PACKET):
        frame = av.AudioFrame.from_ndarray(pcm[None, start : start + _OPUS_PACKET], format="s16", layout="mono")
        frame.sample_rate, frame.pts = _OPUS_RATE, start
        for packet in encoder.encode(frame):
            lost = dice.random() < loss
            heard.append(decoder.conceal(_OPUS_PACKET) if lost else decoder.decode(bytes(packet)))
    return (np.concatenate(heard) / 32768).astype(np.float32)


def _noisy(snr_db: float, slope: float) -> Line:
    """Steady noise, white or pink, below the speech's mean power; then mu-law."""

    def line(wave: Waveform, rate: int, dice: Generator) -> Heard:
        narrow = _at(wave, rate, 8000)
        spectrum = np.fft.rfft(dice.standard_normal(len(narrow)))
        noise = np.fft.irfft(spectrum * np.arange(1, len(spectrum) + 1) ** -slope, len(narrow))
        noise *= np.sqrt((narrow**2).mean() / (noise**2).mean()) * 10 ** (-snr_db / 20)
        return mu_law((narrow + noise).astype(np.float32)), 8000

    return line


def _lossy(loss: float) -> Line:
    """mu-law; a lost packet of 20 ms is the one before it, half as loud."""

    def line(wave: Waveform, rate: int, dice: Generator) -> Heard:
        narrow = mu_law(_at(wave, rate, 8000))
        for start in range(160, len(narrow) - 159, 160):
            if dice.random() < loss:
                narrow[start : start + 160] = narrow[start - 160 : start] / 2
        return narrow, 8000

    return line


def _fast(wave: Waveform, rate: int, dice: Generator) -> Heard:
    """mu-law, played by a clock that is 0.1 % off."""
    return mu_law(_at(wave, rate, 8008)), 8000


LINES: Mapping[str, Line] = {
    "as the bot said it": lambda wave, rate, dice: (wave, rate),
    "G.711 mu-law": _telephone(mu_law),
    "G.711 A-law": _telephone(a_law),
    "G.711 A-law, 24 dB quieter": _telephone(a_law, -24.0),
    "mu-law, then 16 kHz": _resampled(16_000),
    "mu-law, then 22.05 kHz": _resampled(22_050),
    "mu-law, then 24 kHz": _resampled(24_000),
    "mu-law, then 48 kHz": _resampled(48_000),
    "mu-law, 1 % of packets lost": _lossy(0.01),
    "mu-law, a clock 0.1 % off": _fast,
    "mu-law, pink noise at 20 dB": _noisy(20.0, 0.5),
    "mu-law, white noise at 20 dB": _noisy(20.0, 0.0),
    "Opus 24 kbit/s": _opus(24_000),
    "Opus 16 kbit/s": _opus(16_000),
    "Opus 16 kbit/s, 1 % of packets lost": _opus(16_000, 0.01),
}
