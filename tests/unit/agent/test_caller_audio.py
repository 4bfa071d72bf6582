"""Packets of a real Opus stream through the track that the pipeline reads, in virtual time."""

import asyncio
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from aiortc import RTCPeerConnection, RTCRtpReceiver
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtpPacket

from services.agent.legs import caller_audio
from services.agent.legs.caller_audio import CallerAudio
from tests.unit.agent.test_opus import RATE, packets, tone

Pcm = npt.NDArray[np.int16]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def receiver() -> RTCRtpReceiver:
    peer = RTCPeerConnection()
    found = peer.addTransceiver("audio").receiver
    await peer.close()
    return found


@pytest.fixture
def audio(receiver: RTCRtpReceiver, clock: Clock) -> Iterator[CallerAudio]:
    track = CallerAudio(receiver, clock)
    yield track
    track.stop()


def rtp(number: int, payload: bytes, source: int = 7) -> RtpPacket:
    packet = RtpPacket(payload_type=111, sequence_number=number % 2**16, timestamp=number * 960 % 2**32)
    packet.ssrc, packet.payload = source, payload
    return packet


async def heard(audio: CallerAudio) -> Pcm:
    """What is there to hear now."""
    pieces = []
    while audio._frames:
        pieces.append((await audio.recv()).to_ndarray()[0])
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int16)


async def test_it_takes_the_receivers_place_of_a_jitter_buffer(receiver: RTCRtpReceiver, clock: Clock) -> None:
    audio = CallerAudio(receiver, clock)
    assert receiver._RTCRtpReceiver__jitter_buffer is audio  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="elsewhere"):
        CallerAudio(receiver, clock)  # it is no jitter buffer of aiortc's any more


async def test_a_lost_packet_costs_no_sample_and_leaves_no_hole(audio: CallerAudio, clock: Clock) -> None:
    sent = packets(count=60, fec=False)
    for number, payload in enumerate(sent):
        clock.now = number * 0.02
        if number not in (20, 40, 41):
            audio.add(rtp(number, payload))
    clock.now += 0.1
    pcm = await heard(audio)
    assert len(pcm) == len(sent) * 320
    loudness = np.abs(pcm[320:].reshape(-1, 320)).max(axis=1)
    assert loudness.min() > 3000, "no hole"
    assert tone(pcm) == pytest.approx(440, abs=3)
    assert audio.counts.lost == 3


async def test_a_stall_is_bridged_and_its_delay_is_gone_within_two_seconds(audio: CallerAudio, clock: Clock) -> None:
    """A hum with a beep each second; where the beeps are afterwards tells the delay."""
    sent = packets(frequency=200.0, count=300)
    marks = packets(frequency=2000.0, count=300)
    pieces: list[Pcm] = []
    for tick in range(320):
        clock.now = tick * 0.02
        arrived = [tick] if not 50 <= tick <= 65 else []
        for number in range(50, 66) if tick == 66 else []:
            audio.add(rtp(number, sent[number]))
        for number in arrived:
            if number < len(sent):
                audio.add(rtp(number, (marks if number % 50 == 0 else sent)[number]))
        audio._play(clock.now)
        pieces.append(await heard(audio))
    pcm = np.concatenate(pieces)
    frames = pcm[: len(pcm) // 160 * 160].reshape(-1, 160)
    beeps = np.flatnonzero([tone(frame) > 1500 and np.abs(frame).max() > 2000 for frame in frames]) / 100
    starts = [at for index, at in enumerate(beeps) if not index or at - beeps[index - 1] > 0.1]
    assert starts[0] == pytest.approx(0.0, abs=0.03)
    for second in (4, 5):
        assert any(abs(at - second) < 0.04 for at in starts), f"a beep at {second} s: {starts}"


async def test_concealment_does_not_hum_on(audio: CallerAudio, clock: Clock) -> None:
    for number, payload in enumerate(packets(count=30)):
        clock.now = number * 0.02
        audio.add(rtp(number, payload))
    await heard(audio)
    pieces = []
    for _ in range(40):
        clock.now += 0.02
        audio._play(clock.now)
        pieces.append(await heard(audio))
    pcm = np.concatenate(pieces)
    assert len(pcm) == 0.4 * RATE
    assert np.abs(pcm[: RATE // 50]).max() > 4000
    assert np.abs(pcm[RATE // 5 :]).max() == 0


async def test_another_source_and_junk_do_not_stop_it(audio: CallerAudio, clock: Clock) -> None:
    sent = packets(count=20)
    for number, payload in enumerate(sent[:10]):
        audio.add(rtp(number, payload))
    audio.add(rtp(10, b"\xff\xff\xff"))
    for number, payload in enumerate(sent):
        audio.add(rtp(40_000 + number, payload, source=8))
    assert len(await heard(audio)) == 30 * 320


async def test_a_reader_waits_for_packets_and_is_told_of_the_end(audio: CallerAudio) -> None:
    reading = asyncio.create_task(audio.recv())
    await asyncio.sleep(0)
    audio.add(rtp(0, packets(count=1)[0]))
    assert (await reading).samples == 320
    reading = asyncio.create_task(audio.recv())
    await asyncio.sleep(0)
    audio.stop()
    with pytest.raises(MediaStreamError):
        await reading


async def test_a_pipeline_that_does_not_read_costs_bounded_memory(audio: CallerAudio, clock: Clock) -> None:
    [payload] = packets(count=1)
    for number in range(2 * caller_audio.BACKLOG):
        audio.add(rtp(number, payload))
    assert len(await heard(audio)) == caller_audio.BACKLOG * 320
