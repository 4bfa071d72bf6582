"""The decoder: cost by position in the answer, batching over calls, first block, steps of the flow, joins."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from benchmarks import spoken
from benchmarks.decoder_driving import (
    OFFLINE,
    REFERENCE_BLOCKS,
    Timed,
    best_of,
    blocks,
    new_utterance,
    one_step,
    reference_blocks,
    sampling,
    together,
    until_done,
    wave_of,
)
from benchmarks.report import Curve, Figure, Plot, Section
from services.decoder import weights
from services.decoder.batcher import FRAME_BUDGET
from services.decoder.blocks import FIRST_BLOCK
from services.decoder.mel import log_mel
from services.decoder.synthesis import Job, Synthesizer
from services.decoder.utterance import Utterance
from services.decoder.weights import Checkpoint
from training.judge import error_rate, transcribe
from training.paths import REPLY_RATE, WEIGHTS

_ANSWER_S, _WINDOW_S = 60, 5
_STREAMS = (1, 2, 4, 8, 16)
_STREAM_TOKENS = 60
_CALLS_BESIDE = 8
_STEPS = (1, 2, 4, 10)
_JUDGED = 4  # sentences
_ONE_BY_ONE = 1  # a budget that no second block fits in
_RELEASED = {"start": 0.0, "temperature": 1.0, "cfg_rate": 0.7, "n_timesteps": 10}
_QUICK = 2  # steps where only ratios count, which hardly depend on their number

Waveform = npt.NDArray[np.float32]


def measure() -> Section:
    """About a minute and a half on one core; all times are processor time of one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        checkpoint = weights.load(WEIGHTS / "decoder")
        flow = sampling(checkpoint, **_RELEASED)
        figures: list[Figure] = []
        plots: list[Plot] = []
        parts = (_by_position, _streams, _first_block, _steps, _joins)
        for part in tqdm(parts, desc="decoder", unit="part"):
            found, drawn = part(checkpoint if part is _joins else flow)
            figures += found
            plots += drawn
    finally:
        torch.set_num_threads(threads)
    return Section(
        "Decoder",
        "The reference is the public demo's schedule over the same modules: blocks of "
        f"{'/'.join(map(str, REFERENCE_BLOCKS))} tokens, each with the whole history as its prompt, one call at a "
        "time. The flow is sampled from noise with guidance 0.7, as released; what the small weights say that way is "
        "hardly speech, but takes the time that it takes. Joins are measured as weights/nano is served.",
        figures,
        plots,
    )


def _by_position(checkpoint: Checkpoint) -> tuple[list[Figure], list[Plot]]:
    quick = checkpoint.sampled(flow_steps=_QUICK)
    rate = quick.config.flow.input_frame_rate
    passage = spoken.passage().codes
    # the answer goes on after what is measured, so that no short last block is in it
    codes = [passage[index % len(passage)] for index in range(int(1.5 * _ANSWER_S * rate))]
    ours = _by_window(quick, blocks(new_utterance(quick, codes)))
    reference = _by_window(quick, reference_blocks(quick, codes))
    middles = [(index + 0.5) * _WINDOW_S for index in range(len(ours))]
    growth, reference_growth = ours[-1] / ours[0], reference[-1] / reference[0]
    return [
        Figure(
            "cost of second 55-60 of an answer, second 0-5 being 1", growth, "", reference_growth, note="must be <= 1.2"
        ),
        Figure("cost of an answer of 60 s", sum(ours) / len(ours), "s per s", sum(reference) / len(reference)),
    ], [
        Plot(
            "decoder-cost-by-position",
            "What a second of the answer costs",
            "position in the answer, s",
            "processor seconds per second",
            [Curve("Trunkline", middles, ours), Curve("reference schedule", middles, reference)],
        )
    ]


def _by_window(checkpoint: Checkpoint, run: Iterable[Timed]) -> list[float]:
    """Cost per second of audio in each window: a block's cost is spread over its audio."""
    rate = checkpoint.config.sample_rate
    windows = np.zeros(_ANSWER_S // _WINDOW_S)
    end = 0.0
    for block in run:
        start, end = end, end + len(block.wave) / rate
        for index in range(len(windows)):
            shared = min(end, (index + 1) * _WINDOW_S) - max(start, index * _WINDOW_S)
            windows[index] += block.cost_s * max(0.0, shared) / (end - start)
        if end >= _ANSWER_S:
            break
    per_second: list[float] = (windows / _WINDOW_S).tolist()
    return per_second


def _streams(checkpoint: Checkpoint) -> tuple[list[Figure], list[Plot]]:
    quick = checkpoint.sampled(flow_steps=_QUICK)
    synthesizer = Synthesizer(quick)
    passage = spoken.passage().codes
    seconds = _STREAM_TOKENS / quick.config.flow.input_frame_rate

    def speed(count: int, budget: int) -> float:
        utterances = [
            new_utterance(quick, passage[7 * seed : 7 * seed + _STREAM_TOKENS], seed) for seed in range(count)
        ]
        return count * seconds / together(synthesizer, utterances, budget)

    speed(1, _ONE_BY_ONE)  # torch's own start
    batched = [speed(count, FRAME_BUDGET) for count in _STREAMS]
    single = [speed(count, _ONE_BY_ONE) for count in _STREAMS]
    return [
        Figure(
            f"streams in real time on one core, {count} at once, {_QUICK} steps",
            together_,
            "streams",
            alone,
            less_is_better=False,
            note="reference: one block at a time",
        )
        for count, together_, alone in zip(_STREAMS, batched, single, strict=True)
    ], [
        Plot(
            "decoder-streams",
            "Blocks of all calls in one batch, and one by one",
            "streams at once",
            "streams in real time on one core",
            [Curve("batched", _STREAMS, batched), Curve("one by one", _STREAMS, single)],
        )
    ]


def _first_block(checkpoint: Checkpoint) -> tuple[list[Figure], list[Plot]]:
    codes = spoken.passage().codes
    ours = best_of(2, lambda: next(blocks(new_utterance(checkpoint, codes))).cost_s)
    reference = best_of(2, lambda: next(reference_blocks(checkpoint, codes)).cost_s)
    synthesizer = Synthesizer(checkpoint)

    def beside_others(batched: bool) -> float:
        """A new call's first block becomes due just when the computing of blocks of others has begun."""
        jobs = []
        for seed in range(_CALLS_BESIDE):
            utterance = new_utterance(checkpoint, codes[seed:], seed)
            for _ in range(2):
                utterance.next_pcm()
            jobs.append(_next_job(utterance))
        first = _next_job(new_utterance(checkpoint, codes))
        if not batched:  # first come, first served, whole blocks
            return sum(until_done(synthesizer, [job], job, _ONE_BY_ONE) for job in [*jobs, first])
        begun = one_step(synthesizer, jobs, FRAME_BUDGET)
        return begun + until_done(synthesizer, [*jobs, first], first, FRAME_BUDGET)

    return [
        Figure("tokens before the first block", FIRST_BLOCK, "tokens", REFERENCE_BLOCKS[0]),
        Figure("computing the first block, 10 steps", 1000 * ours, "ms", 1000 * reference),
        Figure(
            f"the same when it becomes due after blocks of {_CALLS_BESIDE} other calls",
            1000 * beside_others(batched=True),
            "ms",
            1000 * beside_others(batched=False),
            note="reference: whole blocks, one at a time, in the order in which they became due",
        ),
    ], []


def _next_job(utterance: Utterance) -> Job:
    work = utterance.next_work()
    assert work is not None
    return Job(utterance, work)


def _steps(checkpoint: Checkpoint) -> tuple[list[Figure], list[Plot]]:
    judged = spoken.sentences()[:_JUDGED]
    said = {steps: _say(sampling(checkpoint, n_timesteps=steps), judged) for steps in _STEPS}
    most = said[_STEPS[-1]]
    distances = [_distance(said[steps], most) for steps in _STEPS]
    errors = [100 * _word_errors(said[steps], judged) for steps in _STEPS]
    served = weights.load(WEIGHTS / "decoder")
    figures = [
        Figure(
            f"{steps} Euler step{'s' if steps > 1 else ''} from noise: log-mel distance to {_STEPS[-1]}",
            distance,
            "nepers",
            note=f"judge: {error:.0f} % of the words wrong",
        )
        for steps, distance, error in zip(_STEPS, distances, errors, strict=True)
    ]
    settings = served.config.inference
    figures.append(
        Figure(
            "as weights/nano is served: words wrong by the judge",
            100 * _word_errors(_say(served, judged), judged),
            "%",
            note=f"start {settings.start:g}, {settings.n_timesteps} steps, temperature {settings.temperature:g}",
        )
    )
    return figures, [
        Plot(
            "decoder-steps",
            "What fewer Euler steps cost",
            "steps",
            f"log-mel distance to {_STEPS[-1]} steps",
            [Curve("from noise, guidance 0.7", _STEPS, distances)],
        )
    ]


def _joins(checkpoint: Checkpoint) -> tuple[list[Figure], list[Plot]]:
    codes = spoken.passage().codes[:200]
    waves = [block.wave for block in blocks(new_utterance(checkpoint, codes))]
    streamed = np.concatenate(waves)
    offline, other = (wave_of(new_utterance(checkpoint, codes, seed, OFFLINE)) for seed in (1, 2))
    jumps = np.abs(np.diff(streamed))
    joins = np.cumsum([len(wave) for wave in waves])[:-1] - 1
    share = float(jumps[joins].max() / np.delete(jumps, joins).max())
    return [
        Figure("largest step between samples at a join, the largest inside blocks being 1", share, ""),
        Figure(
            "log-mel distance of streamed and offline, the same 200 tokens",
            _distance([streamed], [offline]),
            "nepers",
            note=f"two offline decodes with different seeds: {_distance([offline], [other]):.2f}",
        ),
    ], []


def _say(checkpoint: Checkpoint, items: Iterable[spoken.Spoken]) -> list[Waveform]:
    return [wave_of(new_utterance(checkpoint, item.codes)) for item in items]


def _distance(ones: Sequence[Waveform], others: Sequence[Waveform]) -> float:
    """Mean absolute difference of log mel spectrograms, which for the same tokens have the same length."""
    differences = [
        log_mel(torch.from_numpy(one)[None]) - log_mel(torch.from_numpy(other)[None])
        for one, other in zip(ones, others, strict=True)
    ]
    return float(torch.cat([item.abs().flatten() for item in differences]).mean())


def _word_errors(waves: Sequence[Waveform], items: Sequence[spoken.Spoken]) -> float:
    heard = [transcribe(wave, REPLY_RATE) for wave in waves]
    return error_rate([item.text for item in items], heard)
