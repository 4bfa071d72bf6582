"""Calls through a Kamailio in front: spread over the workers, and none lost with a worker that is down."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest

from services.agent.legs.sip_workers.restarts import Restarts
from tests.integration.kamailio_edge import edge
from tests.integration.line_bots import Whistler, sip_workers, worker_of
from tests.integration.phone import RATE, Phone, phone
from tests.integration.sip_bots import has_tone, tone, until


@pytest.fixture(autouse=True)
def debian_peers(require_debian: Callable[..., None]) -> None:
    require_debian("baresip", "kamailio")


def hears(pcm: bytes | bytearray, hertz: float) -> bool:
    return has_tone(np.frombuffer(bytes(pcm[-32_000:]), np.int16), 16_000, hertz, 30)


async def in_a_call(stack: AsyncExitStack, directory: Path, name: str, port: int) -> Phone:
    handset = await stack.enter_async_context(phone(directory / name, name))
    await handset.call(f"sip:anyone@127.0.0.1:{port}")
    await until(lambda: has_tone(handset.heard()[-RATE:], RATE, 1000, 30))
    return handset


async def test_calls_are_spread_and_stay_with_their_worker(tmp_path: Path) -> None:
    bot = Whistler(1000)
    async with sip_workers(bot) as lines, edge(tmp_path, lines.ports) as front, AsyncExitStack() as stack:
        ann, bob = [await in_a_call(stack, tmp_path, name, front.port) for name in ("ann", "bob")]
        anns, bobs = bot.legs
        assert {worker_of(lines, leg).port for leg in bot.legs} == set(lines.ports)
        assert anns.to == f"sip:anyone@127.0.0.1:{front.port}"
        await ann.play(tone(440, 20, RATE))
        await until(lambda: hears(bot.heard[anns], 440))
        await ann.hang_up()
        await until(lambda: anns.ended.done())
        assert anns.ended.result() == "caller hung up"
        await bobs.hang_up("done")
        await bob.wait_for("CALL_CLOSED")
        assert not any(link.calls for link in lines.workers.values())


async def test_new_calls_pass_by_a_worker_that_is_down(tmp_path: Path) -> None:
    bot = Whistler(1000)
    slowly = Restarts(first_delay_s=600.0, longest_delay_s=600.0)
    async with (
        sip_workers(bot, restarts=slowly) as lines,
        edge(tmp_path, lines.ports) as front,
        AsyncExitStack() as stack,
    ):
        dead, living = lines.workers.values()
        os.kill(dead.pid, signal.SIGKILL)
        await asyncio.wait({dead.over})
        for name in "ann", "bob":
            await in_a_call(stack, tmp_path, name, front.port)
        assert len(living.calls) == 2
