"""What the watermark is measured on: a bot's voice, and a hundred other sounds. Kept in the cache once made."""

import functools
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from benchmarks.decoder_driving import new_utterance, wave_of
from services.decoder import weights
from services.decoder.weights import Checkpoint
from services.tokenizer import weights as tokenizer_weights
from services.tokenizer.weights import Checkpoint as TokenizerCheckpoint
from training import human, voices
from training.domain.answers import answers
from training.paths import CACHE, REPLY_RATE, SPEECH_RATE, WEIGHTS
from training.tokenizer.encode import encode_waves

Waveform = npt.NDArray[np.float32]
Pcm = npt.NDArray[np.int16]

SHORTEST_S = 5.3  # a clip of 5 s, from somewhere in it
FOLDER = CACHE / "watermark"
_FULL_SCALE = 32767.0
_SEEDS = (1, 2)  # of the decoder's noise


@dataclass(frozen=True)
class Clip:
    """A recording at `REPLY_RATE`.

    Attributes:
        kind: of what.
        text: its words, when they are known.
        again: the same words and tokens with other noise in the decoder; none unless of the bot.
    """

    kind: str
    pcm: Pcm
    text: str = ""
    again: Pcm | None = None


def bot_clips(count: int, seed: int, said: Callable[[int], object] = lambda _: None) -> list[Clip]:
    """Answers of a parcel company's line, spoken by weights/nano's decoder; without the mark.

    Args:
        said: told how many are there.
    """
    clips: list[Clip] = []
    for text in _texts(seed):
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        paths = [FOLDER / f"{name}-{seed}.wav" for seed in _SEEDS]
        if not all(path.is_file() for path in paths):
            FOLDER.mkdir(parents=True, exist_ok=True)
            for path, pcm in zip(paths, _spoken(text), strict=True):
                soundfile.write(path, pcm, REPLY_RATE, subtype="PCM_16")
        pcm, again = (soundfile.read(path, dtype="int16")[0] for path in paths)
        if len(pcm) >= SHORTEST_S * REPLY_RATE:
            clips.append(Clip("bot", pcm, text, again))
            said(len(clips))
        if len(clips) == count:
            break
    return clips


@functools.cache
def _models() -> tuple[TokenizerCheckpoint, Checkpoint]:
    return tokenizer_weights.load(WEIGHTS / "tokenizer", "cpu"), weights.load(WEIGHTS / "decoder", "cpu")


def _spoken(text: str) -> list[Pcm]:
    """By the decoder, with each of `_SEEDS`."""
    tokenizer, decoder = _models()
    heard = voices.say(text, voices.Speaker(voices.AGENT), SPEECH_RATE)
    codes = encode_waves(tokenizer, [heard])[0].tolist()
    return [_pcm(wave_of(new_utterance(decoder, codes, seed))) for seed in _SEEDS]


def other_clips(count: int, seed: int, unmarked: list[Clip]) -> list[Clip]:
    """What bears no mark: two fifths a person's recordings, a quarter other synthetic voices, the rest music, noise and
    the bot's own voice without it."""
    dice = Random(seed)
    people = [Clip("person", pcm) for pcm in islice(_joined(human.prompts()), count * 2 // 5)]
    synthetic = [Clip("other voice", _stranger(number, dice)) for number in range(count // 4)]
    bots = [Clip("bot, unmarked", clip.pcm) for clip in unmarked[: count // 5]]
    rest = count - len(people) - len(synthetic) - len(bots)
    sounds = [Clip(*_sound(number, np.random.default_rng([seed, number]))) for number in range(rest)]
    return [*people, *synthetic, *bots, *sounds]


def _texts(seed: int) -> Iterator[str]:
    """Two answers or more in one, long enough to be looked at for five seconds, and short enough for the judge."""
    text = ""
    for answer in answers(Random(seed), "test"):
        text = f"{text} {answer}".strip()
        if len(text) > 160:
            text = ""
        elif len(text) > 85:
            yield text
            text = ""


def _joined(said: list[human.Said]) -> Iterator[Pcm]:
    parts: list[Waveform] = []
    for _, wave in said:
        parts += [wave, np.zeros(SPEECH_RATE // 5, np.float32)]
        if sum(map(len, parts)) >= SHORTEST_S * SPEECH_RATE:
            yield _pcm(np.asarray(soxr.resample(np.concatenate(parts), SPEECH_RATE, REPLY_RATE), np.float32))
            parts = []


def _stranger(number: int, dice: Random) -> Pcm:
    """espeak-ng in some voice, or flite; neither has anything to do with the bot's.

    Raises:
        RuntimeError: flite is missing.
    """
    text = "The quick brown fox jumps over the lazy dog, and nobody on the line has said why. " * 2
    if number % 4:
        speaker = voices.random_speaker(dice, joe_share=0.0)
        while speaker.engine != "espeak":
            speaker = voices.random_speaker(dice, joe_share=0.0)
        return _pcm(voices.say(text, speaker, REPLY_RATE))
    if shutil.which("flite") is None:
        raise RuntimeError("flite is missing: apt-get install flite")
    path = FOLDER / f"flite-{number}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    voice = ("slt", "rms", "awb", "kal16")[number // 4 % 4]
    subprocess.run(["flite", "-voice", voice, "-t", text, str(path)], check=True, capture_output=True)  # noqa: S603, S607
    wave, rate = soundfile.read(path, dtype="float32")
    return _pcm(np.asarray(soxr.resample(wave, rate, REPLY_RATE), np.float32))


def _sound(number: int, dice: np.random.Generator) -> tuple[str, Pcm]:
    length = round(6 * REPLY_RATE)
    t = np.arange(length) / REPLY_RATE
    if number % 3 == 0:  # held music: chords of plucked strings, four a second
        wave = np.zeros(length)
        for start in np.arange(0, 6, 0.25):
            since = np.maximum(0, t - start)
            for hertz in 220 * 2 ** (dice.choice([0, 3, 5, 7, 10, 12, 15], 3) / 12):
                for k in range(1, 8):
                    wave += (t >= start) * np.exp(-4 * since * k**0.5) * np.sin(2 * np.pi * hertz * k * since) / k
        return "music", _pcm(np.asarray(0.5 * wave / np.abs(wave).max(), np.float32))
    spectrum = np.fft.rfft(dice.standard_normal(length)) * np.arange(1, length // 2 + 2) ** -(0.5 * (number % 3 - 1))
    wave = np.fft.irfft(spectrum, length)
    return "noise", _pcm(np.asarray(0.4 * wave / np.abs(wave).max(), np.float32))


def _pcm(wave: Waveform) -> Pcm:
    return np.asarray(np.rint(wave * _FULL_SCALE).clip(-_FULL_SCALE, _FULL_SCALE), np.int16)
