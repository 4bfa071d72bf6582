"""Calls over a network that loses and delays packets. Figures of longer runs: docs/webrtc.md."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from services.agent.legs.base import INPUT_RATE
from tests.integration.losses import Answered, ask_by_phone, ask_by_web, beeps, over_a_burst, phone_ear, web_ear, write
from tests.integration.network import Network, NetworkSettings, bad_network
from tests.integration.patience import greedy_personas, until_right
from tests.integration.phone import RATE as PHONE_RATE
from tests.integration.stack import Agent, Stack

BEFORE_S, AFTER_S = 3.0, 5.0
BACK_WITHIN_S = 2.0
EXACT_S = 0.02
Leg = Callable[[Network, Agent, Path, dict[str, str]], Awaitable[list[Answered]]]
QUESTIONS = {"opening-hours": "friday nine six saturday ten two"}


@pytest.fixture(scope="module")
def one_percent() -> Iterator[Network]:
    with bad_network(NetworkSettings(loss=0.01, jitter_ms=30)) as network:
        yield network


@pytest.fixture(scope="module")
def agent(
    stack: Stack,
    one_percent: Network,
    tmp_path_factory: pytest.TempPathFactory,
    require_debian: Callable[..., None],
) -> Iterator[Agent]:
    """Greedy: the same words get the same answer."""
    require_debian("baresip")
    personas = tmp_path_factory.mktemp("personas")
    with stack.agent(2, greedy_personas(personas), True, host=one_percent.here) as running:
        yield running


async def test_words_come_through_one_percent_of_loss_and_30_ms_of_jitter(
    one_percent: Network, agent: Agent, tmp_path: Path
) -> None:
    async def understood(leg: Leg) -> None:
        directories = (tmp_path / f"{leg.__name__}-{attempt}" for attempt in count())

        async def ask() -> list[Answered]:
            directory = next(directories)
            directory.mkdir()
            return await leg(one_percent, agent, directory, QUESTIONS)

        answers = await until_right(ask, lambda answers: all(answer.right for answer in answers))
        assert len(answers) == len(QUESTIONS)

    await asyncio.gather(understood(ask_by_web), understood(ask_by_phone))


@pytest.mark.parametrize("stalls", [False, True], ids=["lost", "held up"])
async def test_a_browsers_audio_is_in_its_place_two_seconds_after_a_burst(tmp_path: Path, stalls: bool) -> None:
    wave = write(tmp_path / "beeps.wav", beeps(60, INPUT_RATE), INPUT_RATE, INPUT_RATE)
    with bad_network(NetworkSettings(stalls=stalls)) as network:
        async with web_ear(network, wave) as (pcm, leg):
            delays, burst = await over_a_burst(network, pcm, BEFORE_S, AFTER_S)
            audio = leg._connection.caller_audio
            assert audio is not None
            assert audio.counts.concealed > 0, "the burst was noticed"
            assert (audio.counts.lost > 0) is not stalls
    later = delays.at > burst + BACK_WITHIN_S
    assert later.sum() >= 3
    # By the median: a busy machine may hold the network itself up once more.
    assert abs(np.median(delays.added[later])) <= EXACT_S


async def test_a_phones_audio_is_not_behind_two_seconds_after_a_burst(
    tmp_path: Path, require_debian: Callable[..., None]
) -> None:
    """Over G.711, what was lost is left out: the stream is shorter then, never longer."""
    require_debian("baresip")
    wave = write(tmp_path / "beeps.wav", beeps(60, INPUT_RATE), INPUT_RATE, PHONE_RATE)
    with bad_network(NetworkSettings()) as network:
        async with phone_ear(network, wave, tmp_path / "far") as pcm:
            delays, burst = await over_a_burst(network, pcm, BEFORE_S, AFTER_S)
    later = delays.at > burst + BACK_WITHIN_S
    assert later.sum() >= 3
    assert np.median(delays.added[later]) <= EXACT_S
