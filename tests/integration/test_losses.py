"""Calls over a network that loses and delays packets. Figures of longer runs: docs/webrtc.md."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from services.agent.legs.base import INPUT_RATE
from tests.integration.losses import ask_by_phone, ask_by_web, beeps, over_a_burst, phone_ear, web_ear, write
from tests.integration.network import Network, NetworkSettings, bad_network
from tests.integration.phone import RATE as PHONE_RATE
from tests.integration.stack import ROOT, Agent, Stack

BEFORE_S, AFTER_S = 3.0, 5.0
BACK_WITHIN_S = 2.0
EXACT_S = 0.02
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
    persona = yaml.safe_load((ROOT / "personas" / "default.yaml").read_text())
    (personas / "default.yaml").write_text(yaml.safe_dump({**persona, "temperature": 0.0}))
    with stack.agent(2, personas, True, host=one_percent.here) as running:
        yield running


async def test_words_come_through_one_percent_of_loss_and_30_ms_of_jitter(
    one_percent: Network, agent: Agent, tmp_path: Path
) -> None:
    calls = (ask(one_percent, agent, tmp_path, QUESTIONS) for ask in (ask_by_web, ask_by_phone))
    answers = [answer for leg in await asyncio.gather(*calls) for answer in leg]
    assert len(answers) == 2 * len(QUESTIONS)
    assert [answer for answer in answers if not answer.right] == []


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
