"""Personas' actions in real calls with the shipped models: what the bot says, or a key, has something done."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soxr
import yaml

from tests.integration.callees import WAIT_S, Desk, accept, callee, desk
from tests.integration.http_server import http_server, silent, status
from tests.integration.phone import RATE, Pcm, Phone, phone
from tests.integration.stack import ROOT, Agent, Stack, free_again, free_port
from tests.integration.test_agent_start import complaint, start
from tests.integration.test_sip_conversations import heard
from tests.integration.webrtc_caller import RATE as WEB_RATE
from tests.integration.webrtc_caller import calling, sample
from training.judge import contains_in_order
from trunkline.v1 import calls_pb2

DONE, FAILED = calls_pb2.ACTION_OUTCOME_DONE, calls_pb2.ACTION_OUTCOME_FAILED
TIMED_OUT = calls_pb2.ACTION_OUTCOME_TIMED_OUT
# Announcements that the small models can say clearly.
NOTED = "Thank you for waiting."
MEANWHILE = "Please hold the line."
DEAD = "Nobody is available right now."
BROKEN = "I am sorry, please try again later."
TRIES = 3


def said(name: str) -> Pcm:
    """One of samples/, as it goes into the phone."""
    return np.asarray(soxr.resample(sample(name), WEB_RATE, RATE) * 32767, dtype=np.int16)


@pytest.fixture(scope="module")
def desk_port() -> int:
    """Where calls are transferred to."""
    return free_port()


@pytest.fixture(scope="module")
def hooks_port() -> int:
    """Where webhooks go."""
    return free_port()


@pytest.fixture(scope="module")
def agent(
    stack: Stack,
    tmp_path_factory: pytest.TempPathFactory,
    require_debian: Callable[..., None],
    desk_port: int,
    hooks_port: int,
) -> Iterator[Agent]:
    """The default persona, greedy, with somebody to transfer to and webhooks on keys."""
    require_debian("baresip")
    personas = tmp_path_factory.mktemp("personas")
    persona = yaml.safe_load((ROOT / "personas" / "default.yaml").read_text())
    url = f"http://127.0.0.1:{hooks_port}"
    actions = [
        *(action for action in persona["actions"] if action["kind"] != "transfer"),
        {
            "name": "person",
            "kind": "transfer",
            "phrases": ["connect you to a colleague"],
            "target": f"sip:desk@127.0.0.1:{desk_port}",
        },
        {"name": "hours", "kind": "hang_up", "pattern": "we are open .* closed on sunday"},
        {"name": "parcel", "kind": "webhook", "keys": "...#", "url": url},
        {"name": "slow", "kind": "webhook", "keys": "**", "url": url, "timeout_s": 30},
        {"name": "dead", "kind": "webhook", "keys": "*0", "url": url, "timeout_s": 0.5, "failure": DEAD},
        {"name": "broken", "kind": "webhook", "keys": "*1", "url": url, "failure": BROKEN},
        {"name": "tones", "kind": "send_dtmf", "keys": "*2", "digits": "17#"},
        {"name": "leave", "kind": "hang_up", "keys": "*9"},
    ]
    content = {**persona, "temperature": 0.0, "actions": actions}
    (personas / "default.yaml").write_text(yaml.safe_dump(content))
    with stack.agent(capacity=2, personas=personas, sip=True) as running:
        yield running


@pytest.fixture
async def operator(agent: Agent) -> AsyncIterator[Desk]:
    async with desk(agent.calls) as operator:
        yield operator
    await free_again(agent)


async def insist(handset: Phone, question: str, happened: Callable[[], bool]) -> None:
    """Says something, and again when nothing comes of it: on a busy machine the line stutters."""
    for _ in range(TRIES):
        await handset.play(said(question))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S / TRIES):
                while not happened():
                    await asyncio.sleep(0.02)
                return
    raise AssertionError(f"nothing came of {question}")


async def test_after_its_goodbye_is_heard_the_bot_hangs_up(agent: Agent, operator: Desk, tmp_path: Path) -> None:
    async with phone(tmp_path) as handset:
        await handset.call(agent.sip_uri)
        await handset.listen(pause_s=1.2)
        before = len(handset.heard())
        await insist(handset, "goodbye", lambda: bool(handset.events_of("CALL_CLOSED")))
        answer = handset.heard()[before:]
    assert (await operator.ended()).end_reason == "the bot hung up"
    assert operator.outcomes() == [("goodbye", DONE)]
    assert (await heard(answer)).lower().rstrip(".!").endswith("bye"), "all of it was heard"


async def test_who_interrupts_the_sentence_stays_in_the_call(agent: Agent, operator: Desk, tmp_path: Path) -> None:
    async with phone(tmp_path) as handset:
        for _ in range(TRIES):  # on a busy machine an interruption may come too late
            await handset.call(agent.sip_uri)
            await handset.listen(pause_s=1.2)
            operator.events.clear()
            # The sentence is matched once its text is there; to say it takes some seconds more.
            await insist(handset, "opening-hours", lambda: "closed on Sunday" in operator.captions())
            await handset.play(said("address"))
            done = await operator.first("action_done", name="hours")
            if done.action_done.outcome == calls_pb2.ACTION_OUTCOME_CANCELLED:
                break
            await handset.wait_for("CALL_CLOSED", timeout_s=WAIT_S)
        assert operator.outcomes() == [("hours", calls_pb2.ACTION_OUTCOME_CANCELLED)]
        assert not any(event.HasField("action_started") for event in operator.events)
        await handset.listen(len(handset.heard()), pause_s=0.5, timeout_s=WAIT_S)
        assert not handset.events_of("CALL_CLOSED"), "the caller is listened to instead"


async def test_who_asks_for_a_person_is_transferred_to_one(
    agent: Agent, operator: Desk, tmp_path: Path, desk_port: int
) -> None:
    async with callee(tmp_path / "desk", "desk", desk_port) as (colleague, _), phone(tmp_path / "ann", "ann") as ann:
        await ann.call(agent.sip_uri)
        await ann.listen(pause_s=1.2)
        await insist(ann, "speak-to-a-person", lambda: bool(colleague.events_of("CALL_INCOMING")))
        await accept(colleague)
        assert (await operator.ended()).end_reason == "transferred"
        await ann.play(said("address"))
        await colleague.listen(pause_s=0.5)  # the caller, with no bot between them
    assert operator.outcomes() == [("person", DONE)]
    assert "connect you" in operator.captions()


async def test_a_leg_that_cannot_be_transferred_hears_an_apology(agent: Agent, operator: Desk) -> None:
    async with calling(agent.page) as caller:
        await caller.bot_is_quiet()
        for _ in range(TRIES):
            caller.microphone.say(sample("speak-to-a-person"))
            await caller.until(lambda: len(caller.captions()) > 1 and caller.microphone.quiet.is_set(), "an answer")
            with contextlib.suppress(AssertionError):
                await caller.until(lambda: caller.captions()[-1:] == [DEAD], "the apology", WAIT_S / TRIES)
                break
    await operator.ended()
    assert ("person", calls_pb2.ACTION_OUTCOME_UNSUPPORTED) in operator.outcomes()
    assert "outcome=unsupported" in agent.process.log.read_text()


async def test_keys_reach_webhooks_and_the_call_goes_on_meanwhile(
    agent: Agent, operator: Desk, tmp_path: Path, hooks_port: int
) -> None:
    released = asyncio.Event()

    async def slow(writer: asyncio.StreamWriter) -> None:
        await released.wait()
        await status(200)(writer)

    answers = (status(200, {"say": NOTED}), slow, silent, status(500))
    async with http_server(*answers, port=hooks_port) as server, phone(tmp_path) as handset:
        await handset.call(agent.sip_uri)
        await handset.listen(pause_s=1.0)
        call_id = (await operator.first("call")).call_id
        for key in "471#":
            await handset.press(key)
        (request,) = await server.requested(1)
        assert request.json == {
            "call_id": call_id, "persona": "default", "action": "parcel", "turn": 0, "text": "", "keys": "471#",
        }  # fmt: skip
        await operator.first("action_done", name="parcel", outcome=DONE)
        for key in "**":
            await handset.press(key)
        await server.requested(2)
        before = len(handset.heard())
        await operator.stub.Say(calls_pb2.SayRequest(call_id=call_id, text=MEANWHILE))
        said_meanwhile = await handset.listen(before, pause_s=1.0)
        assert contains_in_order(await heard(said_meanwhile), "hold the line")
        assert ("slow", DONE) not in operator.outcomes(), "its server has not answered yet"
        released.set()
        await operator.first("action_done", name="slow", outcome=DONE)
        presses = (("*0", "dead", TIMED_OUT, DEAD), ("*1", "broken", FAILED, BROKEN), ("*2", "tones", DONE, ""))
        for keys, name, outcome, text in presses:
            for key in keys:
                await handset.press(key)
            await operator.first("action_done", name=name, outcome=outcome)
            await operator.says(text)
        async with asyncio.timeout(WAIT_S):
            while [event["param"] for event in handset.events_of("CALL_DTMF_START")] != ["1", "7", "#"]:
                await asyncio.sleep(0.05)
        for key in "*9":
            await handset.press(key)
        await handset.wait_for("CALL_CLOSED", timeout_s=WAIT_S)
    assert (await operator.ended()).end_reason == "the bot hung up"
    assert "471#" not in agent.process.log.read_text(), "what callers key in is personal"


def test_a_persona_with_a_wrong_action_stops_the_start(tiny_stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "default.yaml").write_text(
        "name: default\nprompt: x\nactions:\n  - {name: a, kind: transfer, keys: '0', target: my colleague}\n"
    )
    line = complaint(start(tiny_stack, personas=str(tmp_path)))
    assert f"persona {tmp_path}/default.yaml: actions.0.transfer.target: " in line
    assert "a SIP URI (sip:desk@example.com) or a number" in line
