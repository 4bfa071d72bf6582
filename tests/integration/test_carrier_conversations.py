"""Conversations over carriers' websockets with the shipped models, judged by what the caller hears."""

import asyncio
import functools
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
import redis.asyncio as redis
import yaml

from services.agent.conversation import Entry, Role
from tests.integration.carrier_caller import ENVIRONMENT, PUBLIC_URL, calling
from tests.integration.patience import judged, until_right
from tests.integration.phone import RATE, Pcm
from tests.integration.stack import KEYS, ROOT, Agent, Stack, free_again
from training import corpus
from training.judge import contains_in_order
from training.voices import Speaker, say
from trunkline.v1 import calls_pb2, calls_pb2_grpc

HOURS = "what are your opening hours"
# Who calls, and what the carrier calls the number called.
CARRIERS = {
    "twilio": ("+15550100123", "+15550100901"),
    "telnyx": ("+15550100124", "+15550100902"),
    "plivo": ("15550100125", "15550100903"),
}


@functools.cache
def spoken(text: str) -> Pcm:
    wave = say(corpus.written(text), Speaker("hibari", shift=0.86, speed=1.0), RATE)
    return np.asarray(np.pad(wave, RATE // 5) * 32767, dtype=np.int16)


async def heard(pcm: Pcm) -> str:
    return await judged((pcm / 32768).astype(np.float32), RATE)


@pytest.fixture(scope="module")
def agent(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """Greedy, and with a persona for each called number."""
    personas = tmp_path_factory.mktemp("personas")
    persona = yaml.safe_load((ROOT / "personas" / "default.yaml").read_text())
    persona |= {"temperature": 0.0, "greeting": " ".join([persona["greeting"]] * 2)}  # long enough to be interrupted
    (personas / "default.yaml").write_text(yaml.safe_dump(persona))
    for name, (_, number) in CARRIERS.items():
        (personas / f"{name}.yaml").write_text(yaml.safe_dump(persona | {"name": name, "numbers": [number]}))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        with stack.agent(2 * len(CARRIERS), personas, False, "--public-url", PUBLIC_URL) as running:
            yield running


def until_quiet(pcm: Pcm, pause_s: float = 0.3) -> int:
    """Samples until a pause of this length begins."""
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > 300)
    ends = np.concatenate([[0], loud + 1])
    return int(ends[np.diff(np.append(ends, len(pcm))) >= pause_s * RATE][0])


def answered(entries: list[Entry]) -> bool:
    """A whole answer follows what the caller said."""
    roles = [entry.role for entry in entries]
    return Role.USER in roles and roles[-1] is Role.ASSISTANT


async def interrupting(agent: Agent, stack: Stack, carrier: str) -> Pcm:
    """A caller interrupts the greeting with a question; returns the answer."""
    numbers = CARRIERS[carrier]
    store = stack.store()
    client = redis.Redis.from_url(stack.redis_url, decode_responses=True)
    async with calling(agent, carrier, numbers) as line, grpc.aio.insecure_channel(agent.calls) as channel:
        stub = calls_pb2_grpc.CallsStub(channel)
        calls = (await stub.ListCalls(calls_pb2.ListCallsRequest())).calls
        call = next(call for call in calls if call.persona == carrier)
        assert (call.leg, getattr(call, "from"), call.to) == (calls_pb2.LEG_CARRIER, *numbers)
        assert await client.hget(KEYS.call(call.call_id), "leg") == "carrier"
        await line.hears(1.2)  # by then it is known that this line has no echo
        line.play(spoken(HOURS))
        async with asyncio.timeout(120):
            while not answered(await store.conversation(call.call_id)):
                await asyncio.sleep(0.05)
        (cleared,) = line.cleared_at
        # Whatever the agent had sent, seconds of it, the carrier plays no more of it; packets cross on a busy machine.
        assert until_quiet(line.heard()[cleared:]) <= 3 * RATE // 50
        assert line.marks
    await client.aclose()
    await store.redis.close()
    return line.received()


async def understood(agent: Agent, stack: Stack, carrier: str) -> None:
    async def ask() -> str:
        return await heard(await interrupting(agent, stack, carrier))

    await until_right(ask, lambda answer: contains_in_order(answer, "nine to six"))


async def test_callers_of_three_carriers_interrupt_the_greeting_and_hear_the_answer(agent: Agent, stack: Stack) -> None:
    spoken(HOURS)
    await asyncio.gather(*[understood(agent, stack, carrier) for carrier in CARRIERS])
    await free_again(agent)
    log = agent.process.log.read_text()
    assert "ERROR" not in log, log
    assert not any(number.strip("+") in log for numbers in CARRIERS.values() for number in numbers)
