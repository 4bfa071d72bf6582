"""The tokenizer beside the reference's schedule: the whole turn after its end, one caller after another."""

import copy
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import soundfile
import torch
from rich.progress import track
from torch import Tensor

from benchmarks.report import Curve, Figure, Plot, Section
from services.tokenizer.features import LogMel
from services.tokenizer.streaming import Tokens, Utterance, encode
from services.tokenizer.weights import Checkpoint, load
from services.tokenizer.whole import tokenise

ROOT = Path(__file__).resolve().parent.parent
RATE = 16_000
RELEASED_BLOCK = 200  # frames, 4 s
LENGTHS = (1, 2, 4, 8, 16, 28)  # seconds
PHASES = 4  # turns of each length, which end at different points of an attention block
CALLERS = (1, 2, 4, 8, 16)
REPEATS = 5


def measure() -> Section:
    """Latency after the turn, callers encoded together, and what a stream's normalisation changes."""
    nano = load(ROOT / "weights/nano/tokenizer")
    released = with_blocks(nano, RELEASED_BLOCK)
    speech = turn(random.Random(1), seconds=40)
    tokenise(nano, [speech[: 4 * RATE]])  # lazy initialisation is nobody's latency
    figures: list[Figure] = []
    latency = after_the_turn(nano, released, speech, figures)
    together = many_callers(nano, released, speech, figures)
    figures += equal_tokens(nano)
    text = (
        "The reference encodes the whole turn when it has ended; here finished attention blocks were encoded while the "
        "caller spoke, and the open block is left. Blocks are nano's (0.64 s), and the released model's (4 s) with "
        "nano's weights. Turns end anywhere in a block; the mean is shown. On a CPU long blocks gain nothing from a "
        "batch, which is why its default budget of 256 frames leaves them alone."
    )
    return Section("Tokenizer", text, figures, [latency, *together])


def with_blocks(checkpoint: Checkpoint, frames: int) -> Checkpoint:
    """The same weights with another attention block."""
    encoder = copy.copy(checkpoint.encoder)
    encoder.config = replace(encoder.config, block_frames=frames)
    return replace(checkpoint, encoder=encoder)


def with_clip_maximum(checkpoint: Checkpoint) -> Checkpoint:
    """The same weights with Whisper's own normalisation, by the clip's maximum, as released checkpoints have it."""
    return replace(checkpoint, log_mel=LogMel(replace(checkpoint.log_mel.config, log_mel_max=None)))


def turn(chance: random.Random, seconds: float, noise: float = 1e-4) -> Tensor:
    """Sentences of samples/ in random order with pauses, up to 12 dB apart in level, (samples,); noise is added."""
    clips = [torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in sorted(ROOT.glob("samples/*.wav"))]
    parts: list[Tensor] = []
    while sum(part.shape[0] for part in parts) < seconds * RATE:
        parts.append(torch.zeros(int(chance.uniform(0.2, 1.0) * RATE)))
        parts.append(chance.choice(clips) * 10 ** (chance.uniform(-12, 0) / 20))
    speech = torch.cat(parts)[: int(seconds * RATE)]
    generator = torch.Generator().manual_seed(chance.randrange(2**31))
    return speech + torch.randn(speech.shape[0], generator=generator) * noise


def spoken(checkpoint: Checkpoint, samples: Tensor) -> tuple[Utterance, list[Tokens]]:
    """An utterance at the moment its speaker stops: finished blocks are encoded, the rest is due."""
    utterance = Utterance(checkpoint)
    results: list[Tokens] = []
    for chunk in torch.split(samples, RATE // 10):
        utterance.push(chunk)
        while utterance.due is not None:
            results += encode(checkpoint, [utterance])
    utterance.end()
    return utterance, results


def after_the_turn(nano: Checkpoint, released: Checkpoint, speech: Tensor, figures: list[Figure]) -> Plot:
    """Milliseconds from the end of a turn to its last token, by the turn's length."""
    whole = "whole turn after its end (reference), 4 s blocks"
    streamed = {"streamed, 4 s blocks": released, "streamed, 0.64 s blocks": nano}
    means: dict[str, list[float]] = {name: [] for name in (whole, *streamed)}
    for length in track(LENGTHS, description="latency after the turn"):
        taken: dict[str, list[float]] = {name: [] for name in means}
        for phase in range(PHASES):
            seconds = length * (1 + ((phase + 0.5) / PHASES - 0.5) * min(1.0, 4 / length))  # spread over one block
            samples = speech[phase * RATE :][: int(seconds * RATE)]
            ended = {name: spoken(checkpoint, samples)[0] for name, checkpoint in streamed.items()}
            runs: dict[str, list[float]] = {name: [] for name in means}
            for _ in range(REPEATS):  # in turn, so that what else the machine does falls on all alike
                runs[whole].append(whole_turn(released, samples))
                for name, checkpoint in streamed.items():
                    runs[name].append(last_tokens(checkpoint, [ended[name]], 1)[0])
            for name, values in runs.items():
                taken[name].append(min(values))
        for name, values in taken.items():
            means[name].append(sum(values) / len(values))
    for length in (2, 8, 28):
        at = LENGTHS.index(length)
        figures += [
            Figure(f"after a turn of {length} s: {name}", means[name][at], "ms", means[whole][at], note=whole)
            for name in streamed
        ]
    return Plot(
        "tokenizer-after-the-turn",
        "From the end of a turn to its last token",
        "length of the turn, s",
        "ms",
        [Curve(name, LENGTHS, values) for name, values in means.items()],
    )


def whole_turn(checkpoint: Checkpoint, samples: Tensor) -> float:
    """The time that a whole turn takes, in milliseconds."""
    start = time.perf_counter()
    tokenise(checkpoint, [samples])
    return (time.perf_counter() - start) * 1000


def many_callers(nano: Checkpoint, released: Checkpoint, speech: Tensor, figures: list[Figure]) -> list[Plot]:
    """Milliseconds until the last of several callers has tokens, encoded together and one by one.

    Raises:
        RuntimeError: a caller's tokens depend on who else is in the batch.
    """
    plots = []
    for name, what, checkpoint in (
        ("tokenizer-callers-short", "callers who stop speaking, blocks of 0.64 s", nano),
        ("tokenizer-callers-long", "callers who stop speaking, blocks of 4 s", released),
    ):
        together: list[float] = []
        alone: list[float] = []
        for count in track(CALLERS, description=what):
            clips = open_turns(random.Random(count), count, checkpoint, speech)
            ended = [spoken(checkpoint, clip)[0] for clip in clips]
            pairs = [(last_tokens(checkpoint, ended, count), last_tokens(checkpoint, ended, 1)) for _ in range(REPEATS)]
            if any(batched[1] != single[1] for batched, single in pairs):
                raise RuntimeError("a batch changed tokens")
            together.append(min(batched[0] for batched, _ in pairs))
            alone.append(min(single[0] for _, single in pairs))
        at = CALLERS.index(8)
        figures.append(Figure(f"8 {what}: all have tokens after", together[at], "ms", alone[at], note="one by one"))
        curves = [Curve("in one batch", CALLERS, together), Curve("one by one (reference)", CALLERS, alone)]
        plots.append(Plot(name, what[0].upper() + what[1:], "callers", "ms until the last has tokens", curves))
    return plots


def open_turns(chance: random.Random, count: int, checkpoint: Checkpoint, speech: Tensor) -> list[Tensor]:
    """Turns of up to three blocks that end at any point of the last one, with one encoder call left to do."""
    block = checkpoint.encoder.config.block_frames * RATE // 50
    lengths = [block * chance.randrange(3) + chance.randrange(RATE // 50, block) for _ in range(count)]
    return [speech[index * RATE // 2 :][:length] for index, length in enumerate(lengths)]


def last_tokens(checkpoint: Checkpoint, ended: Sequence[Utterance], batch: int) -> tuple[float, list[Tokens]]:
    """The time that what is left of these turns takes, `batch` turns at once, in milliseconds; and the tokens."""
    kept = {id(module): module for module in (checkpoint.encoder, checkpoint.log_mel)}
    utterances = [copy.deepcopy(utterance, kept) for utterance in ended]
    start = time.perf_counter()
    results: list[Tokens] = []
    for at in range(0, len(utterances), batch):
        together = utterances[at : at + batch]
        while together := [utterance for utterance in together if utterance.due is not None]:
            results += encode(checkpoint, together)
    return (time.perf_counter() - start) * 1000, results


def equal_tokens(nano: Checkpoint) -> list[Figure]:
    """The share of a stream's tokens that equal the whole utterance's, with Whisper's normalisation and a fixed one."""
    noises = {"quiet room, -80 dB": 1e-4, "telephone line, -50 dB": 3e-3}
    whisper = with_clip_maximum(nano)
    ways = (
        ("clip's maximum, 4 s blocks", with_blocks(whisper, RELEASED_BLOCK), "as with released checkpoints"),
        ("clip's maximum, 0.64 s blocks", whisper, "nano's weights, Whisper's normalisation"),
        ("fixed level", nano, "nano as it is"),
    )
    figures = []
    for name, noise in noises.items():
        turns = [turn(random.Random(seed), 20, noise) for seed in range(6)]
        for what, checkpoint, note in track(ways, description=f"equal tokens, {name}"):
            value = share(checkpoint, turns)
            figures.append(Figure(f"a stream's tokens equal to the whole turn's: {what}; {name}", value, "", note=note))
    return figures


def share(checkpoint: Checkpoint, turns: Sequence[Tensor]) -> float:
    """The share of a stream's tokens that equal those of the whole utterance."""
    equal = total = 0
    for samples in turns:
        utterance, results = spoken(checkpoint, samples)
        results += last_tokens(checkpoint, [utterance], 1)[1]
        streamed = [id_ for tokens in results for id_ in tokens.ids]
        (whole,) = tokenise(checkpoint, [samples])
        equal += sum(one == other for one, other in zip(streamed, whole, strict=True))
        total += len(whole)
    return equal / total
