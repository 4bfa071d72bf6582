"""The parts of the agent's benchmark that decide something: slopes, gaps, verdicts, and models that echo."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.agent import findings, soak_report
from benchmarks.agent.echo_models import (
    BLOCK_TOKENS,
    HEARD_RATE,
    SAID_RATE,
    EchoDecoder,
    EchoEngine,
    EchoTokenizer,
    Memory,
)
from benchmarks.agent.hearing import Hearing
from benchmarks.agent.measuring import Sample as Cost
from benchmarks.agent.processes import Held
from benchmarks.agent.slope import slope
from benchmarks.agent.soak import Sample, Soaked, errors_of
from services.lm.engine import Added, Event, Finished, GenerationSettings
from services.lm.prompt import ChatTemplate
from tests.integration.stack import nano_weights


def test_a_slope_is_found_in_noise_and_its_bounds_hold_it() -> None:
    dice = np.random.default_rng(3)
    x = np.arange(200.0)
    found = slope(x, 5 + 0.7 * x + dice.normal(0, 20, 200))
    assert found.low < 0.7 < found.high
    flat = slope(x, 100 + dice.normal(0, 20, 200))
    assert flat.low < 0 < flat.high


def test_neighbours_that_resemble_each_other_widen_the_bounds() -> None:
    steps = np.random.default_rng(4).normal(0, 1, 200)
    drift = np.convolve(steps, np.ones(10), "full")[:200]
    found, shuffled = (
        slope(np.arange(200.0), drift),
        slope(np.arange(200.0), np.random.default_rng(5).permutation(drift)),
    )
    assert found.high - found.low > 1.5 * (shuffled.high - shuffled.low)


def test_no_slope_without_points() -> None:
    with pytest.raises(ValueError, match="three points"):
        slope([1, 2], [3, 4])
    with pytest.raises(ValueError, match="two places"):
        slope([1, 1, 1], [3, 4, 5])


def test_only_gaps_within_sound_count() -> None:
    hearing = Hearing()
    for at, sound in ((0.0, True), (0.02, True), (0.12, True), (0.5, False), (0.9, True), (0.92, True)):
        hearing.packet(at, at, sound)
    assert hearing.gaps_s() == pytest.approx([0.0, 0.08, 0.0])
    assert hearing.late_share == pytest.approx(1 / 3)
    assert hearing.between(0.1, 0.6).sound_packets == 1


async def test_what_is_heard_is_said() -> None:
    template = ChatTemplate.load(nano_weights()["lm"])
    vocabulary = template.vocabulary
    memory = Memory(vocabulary.codebook_size)
    wave = (8000 * np.sin(2 * np.pi * 440 * np.arange(3 * HEARD_RATE) / HEARD_RATE)).astype(np.int16)
    utterance = EchoTokenizer(memory).open(interim_results=False)
    heard = [tokens async for tokens in utterance.push(wave.tobytes())]
    assert [len(tokens.ids) for tokens in heard] == [BLOCK_TOKENS]
    heard += [tokens async for tokens in utterance.finish()]
    codes = [code for tokens in heard for code in tokens.ids]
    assert len(codes) == 38

    events: list[Event] = []
    session = await EchoEngine(template).open([], events.append)
    await session.append([vocabulary.user, *(vocabulary.speech_offset + code for code in codes)])
    await session.generate(GenerationSettings())
    assert session._answering is not None
    await session._answering
    said = [event.tokens[0] - vocabulary.speech_offset for event in events[1:] if isinstance(event, Added)]
    assert said == codes
    assert isinstance(events[-1], Finished)

    decoder = EchoDecoder(memory).open(0, "")
    blocks = [pcm async for pcm in decoder.push(said)]
    blocks += [pcm async for pcm in decoder.finish()]
    assert blocks[-1].tokens_done == len(codes)
    pcm = np.frombuffer(b"".join(block.data for block in blocks), np.int16)
    assert len(pcm) / SAID_RATE == pytest.approx(3.0, abs=0.05)
    spectrum = np.abs(np.fft.rfft(pcm))
    assert np.argmax(spectrum) * SAID_RATE / len(pcm) == pytest.approx(440, abs=5)


def costs() -> list[Cost]:
    base = Cost("agent", "webrtc", 1, 20.0, 40.0, 40.0, 0.04, 0.2, 0.0, 0.004, 0.01, 0.002, 0)
    return [
        made
        for noise in (0.0, 1.0, 2.0)
        for calls in (1, 4)
        for made in (
            replace(base, calls=calls, ms=40 + noise),
            replace(base, calls=calls, leg="sip", ms=20 + noise),
            replace(base, calls=calls, system="bare bot", ms=80 + noise),
        )
    ]


def test_a_cost_stands_beside_the_bare_bots_with_its_spread() -> None:
    section = findings.cost(costs())
    assert [figure.what for figure in section.figures] == [
        "WebRTC, 1 at once", "WebRTC, 4 at once", "SIP (G.711), 1 at once", "SIP (G.711), 4 at once",
    ]  # fmt: skip
    first = section.figures[0]
    assert (first.value, first.reference) == (41.0, 81.0)
    assert "40.0 to 42.0" in first.note
    assert first.ratio is not None
    assert first.ratio > 1


HELD = Held(rss_kib=300_000, own_kib=280_000, descriptors=40, threads=20, shm=0)
MORE = replace(HELD, descriptors=60)


def soaked(growth_kib: float = 0.0, **changes: object) -> Soaked:
    """A run of 1,000 calls whose main process grows by so much a call; noise is a few hundred KiB."""
    dice = np.random.default_rng(1)

    def sample(calls: int) -> Sample:
        own = HELD.own_kib + round(growth_kib * calls + dice.normal(0, 200))
        return Sample(calls / 2, calls, (replace(HELD, own_kib=own), HELD), 12, 100 + calls, 4, 80)

    samples = tuple(sample(calls) for calls in range(0, 2001, 10))
    rests = tuple(sample(calls) for calls in range(0, 2001, 100))
    found = Soaked(16, {"completed": 1200, "hung up": 800}, {}, 1000.0, rests, samples, (), 0)
    return replace(found, **changes)  # type: ignore[arg-type]


def ends_with(last: Sample) -> tuple[Sample, ...]:
    return (*soaked().rests[:-1], last)


LOG = """\
2026-01-01 10:00:00,001 INFO agent: call begins
agent: serving on port 1
2026-01-01 10:00:00,002 ERROR asyncio: Task exception was never retrieved
Traceback (most recent call last):
  File "a.py", line 1, in <module>
ValueError: ERROR 5
2026-01-01 10:00:00,003 WARNING agent: an ERROR is spoken of
2026-01-01 10:00:00,004 WARNING agent: a step failed
Traceback (most recent call last):
KeyError: 1
2026-01-01 10:00:00,005 CRITICAL agent: the end
"""


def test_errors_of_a_log_keep_their_tracebacks() -> None:
    first, second, third = errors_of(LOG)
    assert first.startswith("2026-01-01 10:00:00,002 ERROR")
    assert first.endswith("ValueError: ERROR 5")
    assert "a step failed" in second
    assert second.endswith("KeyError: 1")
    assert third.endswith("the end\n")


def test_a_soak_that_leaves_nothing_is_passed(tmp_path: Path) -> None:
    assert soak_report.objections(soaked()) == []
    page = soak_report.write(soaked(), tmp_path, "Somewhere.").read_text()
    assert "**Verdict: passed.**" in page
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads((tmp_path / "soak.json").read_text())
    assert record["objections"] == []
    assert set(record["slopes_kib_a_call"]) == {"agent", "SIP worker 1"}


def test_connections_that_a_pool_keeps_are_no_descriptors_that_stay() -> None:
    held = (replace(HELD, descriptors=HELD.descriptors + 10), HELD)
    assert soak_report.objections(soaked(rests=ends_with(replace(soaked().after, held=held, pooled=22)))) == []


@pytest.mark.parametrize(
    ("found", "objection"),
    [
        (soaked(growth_kib=6.0), "agent grows"),
        (soaked(outcomes={"completed": 999, "failed": 1}), "1 calls failed"),
        (soaked(ended_failed=2), "counts 2 failed"),
        (soaked(errors=("ERROR a call broke",)), "1 errors"),
        (
            soaked(rests=ends_with(replace(soaked().after, held=(replace(HELD, descriptors=60), HELD)))),
            "48 descriptors",
        ),
        (soaked(rests=ends_with(replace(soaked().after, pooled=45))), "45 connections to Redis"),
        (soaked(rests=ends_with(replace(soaked().after, lasting_keys=9))), "5 keys"),
        (soaked(rests=ends_with(replace(soaked().after, series=2000))), "2000 metric series"),
    ],
)
def test_what_is_left_or_fails_is_said(found: Soaked, objection: str) -> None:
    assert objection in "; ".join(soak_report.objections(found))
