import asyncio
import socket
import struct
from typing import Any

import pytest

from services.agent.legs.base import Leg, LegError, LegKind
from services.agent.legs.sip import SipSettings
from services.agent.legs.sip_settings import Trunk
from services.agent.legs.sip_workers.connection import LONGEST, Connection, ConnectionBrokenError
from services.agent.legs.sip_workers.leg import UNREAD_BYTES, RemoteSipLeg
from services.agent.legs.sip_workers.link import WorkerLink, _environment
from services.agent.legs.sip_workers.messages import (
    Answer,
    Ask,
    Ended,
    Flush,
    HangUp,
    Heard,
    Key,
    Message,
    Play,
    Reply,
    Request,
    SendDtmf,
    Start,
    ToAgent,
    ToWorker,
    Transfer,
    Verdict,
)
from services.agent.legs.sip_workers.supervisor import SipWorkers, settings_of


async def pair() -> tuple[Connection[Any], Connection[Any], asyncio.StreamWriter]:
    """The agent's end, the worker's, and the latter's raw stream."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    other_reader, other_writer = await asyncio.open_unix_connection(sock=theirs)
    return Connection(reader, writer, ToAgent), Connection(other_reader, other_writer, ToWorker), other_writer


async def test_messages_arrive_as_they_were_sent_and_in_order() -> None:
    agent, worker, _ = await pair()
    sent: list[Message] = [
        Start(b"\x00\xff", 20),
        Request(1, Answer(3)),
        Request(2, HangUp(3, "done")),
        Play(-1, bytes(range(256)) * 8, 8000),
        Flush(-1),
        Verdict(3, "all lines are busy", 5),
    ]
    for message in sent:
        agent.send(message)
    agent.close()
    assert [message async for message in worker.messages()] == sent
    worker.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x80",
        b"\x81\xa4type\xa6Nobody",
        b"\x83\xa4type\xa5Heard\xa4call\xa1x\xa3pcm\xc4\x00",  # a call is a number
    ],
)
async def test_what_is_no_message_breaks_the_connection(body: bytes) -> None:
    agent, worker, raw = await pair()
    raw.write(struct.pack("!I", len(body)) + body)
    with pytest.raises(ConnectionBrokenError):
        await anext(agent.messages())
    worker.close()
    agent.close()


async def test_a_length_beyond_all_messages_breaks_the_connection() -> None:
    agent, worker, raw = await pair()
    raw.write(struct.pack("!I", LONGEST + 1))
    with pytest.raises(ConnectionBrokenError, match="bytes"):
        await anext(agent.messages())
    worker.close()
    agent.close()


async def test_half_a_message_at_the_end_is_the_end() -> None:
    agent, worker, raw = await pair()
    worker.send(Ended(1, "caller hung up"))
    raw.write(struct.pack("!I", 100) + b"half")
    worker.close()
    assert [message async for message in agent.messages()] == [Ended(1, "caller hung up")]
    agent.send(Flush(1))  # to nobody
    agent.close()


class Worker:
    """Takes all that is asked and told, or refuses it."""

    def __init__(self, error: str = "") -> None:
        self.asked: list[Ask] = []
        self.told: list[Message] = []
        self._error = error

    async def ask(self, what: Ask) -> Reply:
        self.asked.append(what)
        if self._error:
            raise LegError(self._error)
        return Reply(1, output_rate=8000)

    def tell(self, message: Message) -> bool:
        self.told.append(message)
        return True


async def test_a_leg_passes_on_what_the_call_wants() -> None:
    worker = Worker()
    leg = RemoteSipLeg(7, "sip:a@b", "sip:c@d", worker)
    assert (leg.kind, leg.from_, leg.to, leg.output_rate) == (LegKind.SIP, "sip:a@b", "sip:c@d", 0)
    assert not leg.media.write(bytes(320), 8000), "nobody has answered yet"
    await leg.answer()
    assert leg.output_rate == 8000
    assert leg.media.write(bytes(320), 8000)
    leg.media.flush()
    await leg.send_dtmf("12")
    await leg.transfer("+4930123")
    await leg.hang_up("done")
    await leg.hang_up("again")
    assert worker.asked == [Answer(7), SendDtmf(7, "12"), Transfer(7, "+4930123"), HangUp(7, "done")]
    assert worker.told == [Play(7, bytes(320), 8000), Flush(7)]
    assert leg.ended.result() == "done"
    assert not leg.media.write(bytes(320), 8000)
    leg.media.flush()
    assert len(worker.told) == 2


async def test_a_leg_whose_worker_is_gone_still_ends() -> None:
    leg = RemoteSipLeg(7, "", "", Worker("SIP worker died"))
    with pytest.raises(LegError, match="SIP worker died"):
        await leg.answer()
    await leg.hang_up("no use")
    assert leg.ended.result() == "no use"
    with pytest.raises(LegError, match="no use"):
        await leg.answer()


async def test_audio_and_keys_wait_for_their_reader() -> None:
    media = RemoteSipLeg(1, "", "", Worker()).media
    waiting = asyncio.ensure_future(media.arrival())
    await asyncio.sleep(0)
    assert not waiting.done()
    media.heard(b"\x01\x00")
    media.heard(b"\x02\x00")
    await waiting
    assert media.read() == b"\x01\x00\x02\x00"
    assert media.read() == b""
    media.pressed("5")
    await media.arrival()
    assert list(media.keys) == ["5"]


async def test_audio_that_nobody_reads_does_not_pile_up() -> None:
    media = RemoteSipLeg(1, "", "", Worker()).media
    for number in range(200):
        media.heard(bytes([number]) * 640)
    heard = media.read()
    assert len(heard) == UNREAD_BYTES
    assert heard[-640:] == bytes([199]) * 640


async def test_messages_about_calls_that_are_over_are_nothing() -> None:
    link = WorkerLink(SipSettings(), _nobody)
    for message in Heard(1, b""), Key(1, "5"), Ended(1, ""), Reply(1):
        link._take(message)


def test_each_worker_listens_on_ports_of_its_own() -> None:
    settings = SipSettings(port=5060, user="line")
    assert [settings_of(settings, index).port for index in range(3)] == [5060, 5062, 5064]
    assert settings_of(settings, 2).user == "line"
    assert settings_of(SipSettings(port=0), 1).port == 0


def test_the_first_worker_alone_registers_and_all_know_the_password() -> None:
    trunk = Trunk("provider", "sip.example.com", "4930123", password="secret")
    workers = [settings_of(SipSettings(trunks=(trunk,)), index) for index in range(3)]
    assert [worker.trunks[0].expires_s for worker in workers] == [trunk.expires_s, 0, 0]
    assert {worker.trunks[0].password for worker in workers} == {"secret"}


@pytest.mark.parametrize(("port", "count", "message"), [(65535, 2, "port 65537"), (5060, 0, "at least one")])
async def test_workers_that_cannot_be_are_refused(port: int, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SipWorkers(SipSettings(port=port), count, _nobody)


async def _nobody(leg: Leg) -> str:
    raise AssertionError


def test_a_worker_does_not_see_our_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_AGENT_REDIS_URL", "redis://:secret@redis/0")
    monkeypatch.setenv("LC_ALL", "C")
    environment = _environment("/tmp/worker")
    assert "secret" not in str(environment)
    assert environment["LC_ALL"] == "C"
    assert environment["TMPDIR"] == "/tmp/worker"
