"""`python -m benchmarks.watermark`: whether the watermark is found, nothing else is taken for it, and nobody hears it.

A hundred clips of five seconds of a bot's voice, and a hundred of anything else, go over each line of
`watermark_lines`. The words as a judge hears them and predicted opinion scores are compared with and without the mark.
"""

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import soxr
import typer
from tqdm import tqdm

from benchmarks.report import Curve, Figure, Plot, Section, write
from benchmarks.watermark_clips import Clip, Pcm, Waveform, bot_clips, other_clips
from benchmarks.watermark_lines import LINES
from services.agent.watermark.code import Code
from services.agent.watermark.detect import ALPHA, RATE, SHIFTS, WINDOW_S, detect, differences, p_value, scores
from services.agent.watermark.embed import STRENGTH_DB, Marker
from training.augment import mu_law
from training.judge import edit_distance, normalise, transcribe
from training.paths import REPLY_RATE
from training.quality import opinion

DOCS = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"
BLOCKS = (17_640, 35_280)  # samples: the decoder's first block, and the later ones
_SMALLEST_P = 1e-60  # of the plot
_RESAMPLES = 10_000


def marked(pcm: Pcm, code: Code) -> Pcm:
    """As a call marks it: in the decoder's blocks."""
    marker, start = Marker(code, REPLY_RATE), 0
    parts: list[Pcm] = []
    while start < len(pcm):
        size = BLOCKS[bool(parts)]
        parts.append(marker.mark(pcm[start : start + size]))
        start += size
    return np.concatenate([*parts, marker.mark(pcm[:0], last=True)])


def five_seconds(pcm: Pcm, dice: np.random.Generator) -> Waveform:
    """Five seconds from anywhere in it."""
    length = round(WINDOW_S * REPLY_RATE)
    start = int(dice.integers(0, len(pcm) - length + 1))
    return (pcm[start : start + length] / 32768).astype(np.float32)


def found(clips: Sequence[Clip], code: Code, seed: int, bar: "tqdm[None]") -> dict[str, list[float]]:
    """Each clip's p-value on each line."""
    values: dict[str, list[float]] = {name: [] for name in LINES}
    for number, clip in enumerate(clips):
        for name, line in LINES.items():
            dice = np.random.default_rng([seed, number])
            heard, rate = line(five_seconds(clip.pcm, dice), REPLY_RATE, dice)
            values[name].append(detect(heard, rate, code).p_value)
        bar.update()
    return values


def detection(bots: dict[str, list[float]], others: dict[str, list[float]]) -> Section:
    """How many were found, by line."""
    count, other_count = (len(next(iter(values.values()))) for values in (bots, others))
    figures = [
        Figure(
            name,
            sum(p <= ALPHA for p in bots[name]),
            f"of {count}",
            note=f"median p {np.median(bots[name]):.1g}, largest {max(bots[name]):.1g}; of {other_count} others "
            f"{sum(p <= ALPHA for p in others[name])} taken for the bot, smallest p {min(others[name]):.2g}",
        )
        for name in LINES
    ]
    shown = ("G.711 mu-law", "mu-law, white noise at 20 dB", "Opus 16 kbit/s")
    curves = [_curve(f"bot, {name}", bots[name]) for name in shown] + [_curve("others, mu-law", others[shown[0]])]
    threshold = -float(np.log10(ALPHA))
    curves.append(Curve("found from here on", (0.0, 100.0), (threshold, threshold)))
    text = (
        f"Clips of {WINDOW_S:g} s cut anywhere from longer answers; a mark of {STRENGTH_DB:g} dB; found: p at most "
        f"{ALPHA:g}, over all shifts. The others are recordings of a person, other synthetic voices, the bot's own "
        "voice without the mark, music and noise."
    )
    return Section(
        "Found",
        text,
        figures,
        [
            Plot(
                "watermark",
                "How surely the watermark is found in 5 s",
                "clips, %, least sure first",
                "-log10 p",
                curves,
            )
        ],
    )


def _curve(name: str, values: Sequence[float]) -> Curve:
    logs = -np.log10(np.maximum(sorted(values, reverse=True), _SMALLEST_P))
    return Curve(name, tuple(np.linspace(0, 100, len(logs))), tuple(map(float, logs)))


def chance(others: Sequence[Clip], keys: int, seed: int, bar: "tqdm[None]") -> Section:
    """P-values of others for keys that nobody used: none may be oftener below a level than the level says."""
    values = []
    for number, clip in enumerate(others):
        dice = np.random.default_rng([seed, number])
        heard = mu_law(np.asarray(soxr.resample(five_seconds(clip.pcm, dice), REPLY_RATE, RATE), np.float32))
        compared = differences(heard.astype(np.float64))
        codes = (Code.of(b"%d of %d" % (key, number)) for key in range(keys))
        values += [p_value(float(scores(compared, code).max()), SHIFTS) for code in codes]
        bar.update()
    drawn = np.array(values)
    figures = [
        Figure(
            f"share with p at most {level:g}", float((drawn <= level).mean()), "", note=f"at most {level:g} is right"
        )
        for level in (0.1, 0.01, 0.001)
    ]
    figures.append(Figure("smallest p", float(drawn.min()), "", note=f"of {len(drawn)}: about {1 / len(drawn):.1g}"))
    text = f"{len(others)} other clips over mu-law, each looked at with {keys} keys that marked nothing."
    return Section("Found by chance", text, figures)


def difference(with_mark: npt.NDArray[np.float64], without: npt.NDArray[np.float64], seed: int) -> tuple[float, float]:
    """95 % interval of the mean difference, by drawing pairs again (the paired bootstrap)."""
    pairs = with_mark - without
    drawn = np.random.default_rng(seed).integers(0, len(pairs), (_RESAMPLES, len(pairs)))
    low, high = np.percentile(pairs[drawn].mean(1), [2.5, 97.5])
    return float(low), float(high)


def words(bots: Sequence[Clip], code: Code, seed: int, bar: "tqdm[None]") -> Section:
    """Errors of a judge over mu-law, and predicted opinion scores as the bot said it, with and without the mark."""
    errors: dict[bool, list[float]] = {False: [], True: []}
    opinions: dict[bool, list[tuple[float, float, float]]] = {False: [], True: []}
    again: list[float] = []
    lengths = []
    for clip in bots:
        wanted = normalise(clip.text)
        lengths.append(len(wanted))
        for mark in (False, True):
            pcm = marked(clip.pcm, code) if mark else clip.pcm
            wave = (pcm / 32768).astype(np.float32)
            heard = mu_law(np.asarray(soxr.resample(wave, REPLY_RATE, 8000), np.float32))
            errors[mark].append(edit_distance(wanted, normalise(transcribe(heard, 8000))))
            score = opinion(wave, REPLY_RATE)
            opinions[mark].append((score.signal, score.background, score.overall))
        if clip.again is not None:
            again.append(opinion((clip.again / 32768).astype(np.float32), REPLY_RATE).overall)
        bar.update()
    mean_length = float(np.mean(lengths))
    shares = {mark: np.array(errors[mark]) / mean_length * 100 for mark in errors}
    figures = [_compared("word errors", "%", shares, seed)]
    for column, name in enumerate(("signal", "background", "overall")):
        of_one = {mark: np.array(opinions[mark])[:, column] for mark in opinions}
        figures.append(_compared(f"opinion score, {name}", "of 5", of_one, seed))
    noise = np.array(again) - np.array(opinions[False])[: len(again), 2]
    low, high = difference(noise, np.zeros(len(noise)), seed)
    note = (
        f"mean difference {noise.mean():+.3f}, 95 % interval {low:+.3f} to {high:+.3f}: what noise in the decoder does"
    )
    figures.append(Figure("opinion score, overall: deviation between two takes", float(noise.std()), "of 5", note=note))
    text = (
        f"{len(bots)} whole answers, {sum(lengths)} words. Word errors: Whisper tiny.en over mu-law against the text. "
        "Opinion scores: DNSMOS P.835, as the bot said it. The reference is the same audio without the mark; the "
        "interval is of the mean difference (paired bootstrap). Two takes: the same tokens, other noise in the decoder."
    )
    return Section("Not heard", text, figures)


def _compared(what: str, unit: str, by_mark: dict[bool, npt.NDArray[np.float64]], seed: int) -> Figure:
    low, high = difference(by_mark[True], by_mark[False], seed)
    with_mark, without = (float(by_mark[mark].mean()) for mark in (True, False))
    note = f"difference {with_mark - without:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}"
    return Figure(what, with_mark, unit, without, unit == "%", note)


def cost(clips: Sequence[Clip], code: Code, rounds: int = 5) -> Section:
    """What marking takes of a processor."""
    seconds = sum(len(clip.pcm) for clip in clips) / REPLY_RATE
    taken = []
    for _ in range(rounds):
        started = time.process_time()
        for clip in clips:
            marked(clip.pcm, code)
        taken.append((time.process_time() - started) * 1000 / seconds)
    first = []
    for clip in clips:
        started = time.perf_counter()
        Marker(code, REPLY_RATE).mark(clip.pcm[: BLOCKS[0]])
        first.append((time.perf_counter() - started) * 1000)
    heard = np.asarray(clips[0].pcm[: round(WINDOW_S * REPLY_RATE)] / 32768)
    started = time.process_time()
    detect(heard, REPLY_RATE, code)
    looking = (time.process_time() - started) * 1000
    figures = [
        Figure(
            "marking", float(np.median(taken)), "ms", note="of one core, a second of speech, in the decoder's blocks"
        ),
        Figure(
            "first audio", float(np.median(first)), "ms", note="later: the time that the first block of 0.8 s takes"
        ),
        Figure("looking", looking, "ms", note="of a core, for five seconds"),
    ]
    return Section("Cost", "Nothing is delayed; the latest 6 to 12 ms of a block wait for the next block.", figures)


def _bar(what: str, total: int) -> "tqdm[None]":
    return tqdm(desc=what, total=total, unit="clip")


def main(
    clips: Annotated[int, typer.Option(help="of the bot, and as many others", min=10)] = 100,
    keys: Annotated[int, typer.Option(help="keys that each other clip is looked at with", min=10)] = 200,
    seed: Annotated[int, typer.Option(help="of texts, places and noise")] = 22,
    out: Annotated[Path, typer.Option(help="directory of watermark.md, watermark.json and the plot")] = DOCS,
) -> None:
    """Measures the watermark and writes the report; about a quarter of an hour."""
    code = Code.of()
    with _bar("the bot's clips", clips) as bar:
        bots = bot_clips(clips, seed, lambda _: bar.update())
    others = other_clips(clips, seed, bots)
    marks = [Clip(clip.kind, marked(clip.pcm, code), clip.text) for clip in bots]
    with _bar("bot over lines", len(marks)) as bar:
        on_lines = found(marks, code, seed, bar)
    with _bar("others over lines", len(others)) as bar:
        of_others = found(others, code, seed, bar)
    circumstances = (
        f"weights/nano's decoder on {os.cpu_count()} cores ({platform.machine()}), "
        f"{time.strftime('%d %B %Y', time.gmtime())}: {len(bots)} clips of the bot, {len(others)} others. "
        "How the mark works: [watermark.md](../watermark.md). Made by `python -m benchmarks.watermark`."
    )
    sections = [detection(on_lines, of_others), cost(bots[:20], code)]
    write(out, "watermark", "Watermark", circumstances, sections)
    with _bar("keys by chance", len(others)) as bar:
        sections.append(chance(others, keys, seed, bar))
    write(out, "watermark", "Watermark", circumstances, sections)
    with _bar("words and opinions", len(bots)) as bar:
        sections.append(words(bots, code, seed, bar))
    typer.echo(f"written: {write(out, 'watermark', 'Watermark', circumstances, sections)}")


if __name__ == "__main__":
    typer.run(main)
