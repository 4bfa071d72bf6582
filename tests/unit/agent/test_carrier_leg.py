"""What passes between a carrier's websocket and the pipeline."""

import asyncio
import audioop
import base64
import json
from typing import Any

import numpy as np
import pytest
from pipecat.frames.frames import (
    EndFrame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportMessageUrgentFrame,
)

from services.agent.carriers.base import Announced, Carrier, ProtocolError, Stream
from services.agent.carriers.plivo import Plivo
from services.agent.carriers.telnyx import Telnyx
from services.agent.carriers.twilio import Twilio
from services.agent.legs.base import LegError, UnsupportedByLegError
from services.agent.legs.carrier import CarrierLeg, CarrierSerializer, MediaSocket, parse
from tests.unit.agent.test_carriers import PUBLIC

PACKET = (np.sin(np.arange(160) * 0.35) * 8000).astype(np.int16)
CARRIERS: dict[str, Carrier] = {"twilio": Twilio("t"), "telnyx": Telnyx(PUBLIC), "plivo": Plivo("p")}


class Wire:
    """The websocket's far end."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.socket = MediaSocket({"type": "websocket"}, self._receive, self._send)

    async def _receive(self) -> Any:
        return {"type": "websocket.connect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "websocket.send":
            self.sent.append(json.loads(message["text"]))
        else:
            self.sent.append(message)


async def serializer(name: str, encoding: str = "PCMU") -> tuple[CarrierSerializer, CarrierLeg, Wire]:
    wire = Wire()
    await wire.socket.accept()
    leg = CarrierLeg(CARRIERS[name], Announced("C1", "+1", "+2"))
    made = CarrierSerializer(leg, CARRIERS[name], Stream("S1", "C1", encoding), wire.socket)
    await made.setup(None)
    wire.sent.clear()
    return made, leg, wire


def outgoing() -> OutputAudioRawFrame:
    return OutputAudioRawFrame(audio=PACKET.tobytes(), sample_rate=8000, num_channels=1)


def media(encoded: bytes, **more: str) -> str:
    return json.dumps({"event": "media", "media": {"payload": base64.b64encode(encoded).decode(), **more}})


@pytest.mark.parametrize("name", list(CARRIERS))
async def test_packets_go_out_as_mu_law_and_every_tenth_is_asked_after(name: str) -> None:
    made, leg, wire = await serializer(name)
    for number in range(21):
        message = json.loads(str(await made.serialize(outgoing())))
        assert base64.b64decode(message["media"]["payload"]) == audioop.lin2ulaw(PACKET.tobytes(), 2)
        assert len(wire.sent) == number // 10
    assert wire.sent == [CARRIERS[name].mark(Stream("S1", "C1"), mark) for mark in ("1", "2")]
    returned = {"event": "playedStream", "name": "1"} if name == "plivo" else wire.sent[0]
    await asyncio.sleep(0.25)
    assert await made.deserialize(json.dumps(returned)) is None
    assert leg.playout_delay_s > 0.0


@pytest.mark.parametrize("name", list(CARRIERS))
async def test_an_interruption_clears_and_ends_and_screens_say_nothing(name: str) -> None:
    made, _, wire = await serializer(name)
    message = json.loads(str(await made.serialize(InterruptionFrame())))
    assert message["event"] == ("clearAudio" if name == "plivo" else "clear")
    assert await made.serialize(EndFrame()) is None
    assert await made.serialize(OutputTransportMessageUrgentFrame(message={"label": "rtvi-ai", "type": "x"})) is None
    assert wire.sent == []


@pytest.mark.parametrize("encoding", ["PCMU", "PCMA"])
async def test_what_the_caller_says_arrives_at_16_khz(encoding: str) -> None:
    made, _, _ = await serializer("telnyx", encoding)
    heard = b""
    encode = audioop.lin2ulaw if encoding == "PCMU" else audioop.lin2alaw
    tone = (np.sin(2 * np.pi * 440 * np.arange(8000) / 8000) * 8000).astype(np.int16)
    for first in range(0, 8000, 160):
        frame = await made.deserialize(media(encode(tone[first : first + 160].tobytes(), 2), track="inbound"))
        assert isinstance(frame, InputAudioRawFrame)
        assert (frame.sample_rate, frame.num_channels) == (16_000, 1)
        heard += frame.audio
    samples = np.frombuffer(heard, np.int16)
    assert len(samples) == 16_000
    assert int(np.abs(np.fft.rfft(samples)).argmax()) == 440
    assert await made.deserialize(media(b"\xff" * 160, track="outbound")) is None


async def test_keys() -> None:
    made, _, _ = await serializer("twilio")
    key = await made.deserialize('{"event": "dtmf", "dtmf": {"digit": "#"}}')
    assert isinstance(key, InputDTMFFrame)
    assert key.button.value == "#"
    assert await made.deserialize('{"event": "dtmf", "dtmf": {"digit": "A"}}') is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ('{"event": "stop"}', "the caller hung up"),
        ('{"event": "error", "payload": {"detail": "secret"}}', "the carrier's stream is malformed"),
        ('{"event": "media", "media": []}', "the carrier's stream is malformed"),
        ('{"event": "mark", "mark": "1"}', "the carrier's stream is malformed"),
    ],
)
async def test_messages_that_end_the_leg(data: str, reason: str) -> None:
    made, leg, _ = await serializer("twilio")
    assert await made.deserialize(data) is None
    assert leg.ended.result() == reason
    with pytest.raises(LegError, match=reason):
        await leg.answer()


async def test_messages_that_mean_nothing_here() -> None:
    made, leg, _ = await serializer("twilio")
    for data in ('{"event": "connected"}', '{"event": "new"}', "{}", '{"event": ["media"]}'):
        assert await made.deserialize(data) is None
    assert not leg.ended.done()


@pytest.mark.parametrize("data", ["", "1", "null", '"event"', "[" * 100_000, b'{"event": "media"}', "\ud800"])
def test_what_is_no_message(data: str | bytes) -> None:
    with pytest.raises(ProtocolError):
        parse(data)


async def test_a_media_stream_transfers_nothing_and_sends_no_keys() -> None:
    _, leg, _ = await serializer("twilio")
    with pytest.raises(UnsupportedByLegError, match="carrier's API"):
        await leg.transfer("+15550100777")
    with pytest.raises(UnsupportedByLegError, match="carrier's API"):
        await leg.send_dtmf("1")


async def test_a_socket_is_closed_once_whoever_closes_it() -> None:
    _, _, wire = await serializer("twilio")
    await wire.socket.close(1007, "first")
    await wire.socket.close(1000)
    assert [(message["code"], message["reason"]) for message in wire.sent] == [(1007, "first")]
    assert not wire.socket.is_open
