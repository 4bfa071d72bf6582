"""What a telephone line, a room and a handset do to speech. All at 16 kHz, float32, mono; randomness is passed in."""

import numpy as np
import numpy.typing as npt
import soxr
from numpy.random import Generator

Waveform = npt.NDArray[np.float32]

RATE = 16_000
_MU = 255.0
_A = 87.6


def mu_law(wave: Waveform) -> Waveform:
    """Through 8-bit mu-law steps and back (ITU-T G.711, continuous form of the law)."""
    squeezed = np.sign(wave) * np.log1p(_MU * np.abs(np.clip(wave, -1, 1))) / np.log1p(_MU)
    steps = np.round(squeezed * 127.5 + 0.5) - 0.5
    steps /= 127.5
    opened: Waveform = (np.sign(steps) * np.expm1(np.abs(steps) * np.log1p(_MU)) / _MU).astype(np.float32)
    return opened


def a_law(wave: Waveform) -> Waveform:
    """Through 8-bit A-law steps and back (ITU-T G.711, continuous form of the law)."""
    size = np.abs(np.clip(wave, -1, 1))
    scale = 1.0 + np.log(_A)
    squeezed = np.where(size < 1 / _A, _A * size / scale, (1.0 + np.log(np.maximum(size, 1e-9) * _A)) / scale)
    steps = (np.round(squeezed * 127.5 + 0.5) - 0.5) / 127.5
    opened = np.where(steps < 1.0 / scale, steps * scale / _A, np.exp(steps * scale - 1.0) / _A)
    out: Waveform = (np.sign(wave) * opened).astype(np.float32)
    return out


def g711(wave: Waveform, law: str = "mu") -> Waveform:
    """A G.711 call: 8 kHz and companded, brought back to 16 kHz. Same length (the end is padded or cut)."""
    narrow = soxr.resample(wave, RATE, RATE // 2)
    coded = mu_law(narrow) if law == "mu" else a_law(narrow)
    wide = soxr.resample(coded, RATE // 2, RATE).astype(np.float32)
    return np.pad(wide, (0, max(0, len(wave) - len(wide))))[: len(wave)]


def reverberate(wave: Waveform, rng: Generator) -> Waveform:
    """A small room: a direct path and an exponentially decaying tail 8 to 25 dB below it. Same length."""
    length = int(RATE * rng.uniform(0.06, 0.3))
    tail = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    tail[: int(0.002 * RATE)] = 0.0
    level = 10 ** (-rng.uniform(8, 25) / 20)
    tail *= level / np.sqrt((tail**2).sum())
    size = 1 << int(np.ceil(np.log2(len(wave) + length)))
    echo = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(tail, size), size)[: len(wave)]
    return (wave + echo).astype(np.float32)


def colour(wave: Waveform, rng: Generator) -> Waveform:
    """A microphone's colour: a smooth random gain curve over frequency of up to 8 dB, perhaps without the lows."""
    spectrum = np.fft.rfft(wave)
    octaves = np.log2(np.linspace(1.0, RATE / 2, len(spectrum)) / 60.0)
    knots = np.linspace(-6, 7.2, 9)
    gain = np.interp(octaves, knots, rng.uniform(-8, 8, len(knots)) * rng.uniform(0, 1))
    if rng.random() < 0.3:
        gain -= np.maximum(0.0, np.log2(rng.uniform(150, 400) / 60.0) - octaves) * 12.0
    return np.fft.irfft(spectrum * 10 ** (gain / 20), len(wave)).astype(np.float32)


def noise(length: int, rng: Generator) -> Waveform:
    """Unit-power noise: white to brown, now and then with mains hum."""
    spectrum = np.fft.rfft(rng.standard_normal(length).astype(np.float32))
    slope = rng.uniform(0.0, 1.0)
    spectrum *= (np.arange(len(spectrum)) + length * 40.0 / RATE) ** -slope
    wave = np.fft.irfft(spectrum, length)
    wave /= np.sqrt((wave**2).mean()) + 1e-9
    if rng.random() < 0.15:
        hertz = rng.choice([50.0, 60.0])
        wave += sum(np.sin(2 * np.pi * hertz * k * np.arange(length) / RATE) / k for k in (1, 2, 3))
        wave /= np.sqrt((wave**2).mean()) + 1e-9
    return wave.astype(np.float32)


def add_noise(wave: Waveform, snr: float, rng: Generator) -> Waveform:
    """Noise at `snr` dB below the mean power of the loud half of the speech."""
    power = float(np.sort(wave**2)[len(wave) // 2 :].mean()) + 1e-10
    noisy: Waveform = (wave + noise(len(wave), rng) * np.sqrt(power) * 10 ** (-snr / 20)).astype(np.float32)
    return noisy


def lose_packets(wave: Waveform, rng: Generator) -> Waveform:
    """One to three packets of 20 ms replaced by silence."""
    wave = wave.copy()
    for start in rng.integers(0, max(1, len(wave) - 320), rng.integers(1, 4)):
        wave[start : start + 320] = 0.0
    return wave


def framed(wave: Waveform) -> Waveform:
    """With the silence around it that a turn detector leaves."""
    return np.concatenate([np.zeros(RATE // 5, np.float32), wave, np.zeros(RATE // 4, np.float32)])


def place(wave: Waveform, rng: Generator) -> Waveform:
    """Silence before and after, as a turn detector leaves it: up to 0.6 s and 0.9 s."""
    before, after = int(rng.uniform(0.0, 0.6) * RATE), int(rng.uniform(0.05, 0.9) * RATE)
    return np.concatenate([np.zeros(before, np.float32), wave, np.zeros(after, np.float32)])


def another_voice(wave: Waveform, rng: Generator) -> Waveform:
    """Half of the time pitch, formants and speed moved together by up to a tenth, as a tape played too fast."""
    if rng.random() < 0.5:
        return wave
    moved: Waveform = soxr.resample(wave, RATE * rng.uniform(0.9, 1.1), RATE, quality="MQ").astype(np.float32)
    return moved


def degrade(wave: Waveform, rng: Generator) -> Waveform:
    """One random line. The length stays, so that clean and degraded speech have the same timing."""
    if rng.random() < 0.5:
        wave = colour(wave, rng)
    if rng.random() < 0.3:
        wave = reverberate(wave, rng)
    if rng.random() < 0.6:
        wave = add_noise(wave, rng.uniform(8, 40), rng)
    wave = (wave * 10 ** (rng.uniform(-18, 4) / 20)).astype(np.float32)
    if rng.random() < 0.6:
        wave = g711(wave, "mu" if rng.random() < 0.6 else "a")
    if rng.random() < 0.08:
        wave = lose_packets(wave, rng)
    return np.clip(wave, -1.0, 1.0).astype(np.float32)
