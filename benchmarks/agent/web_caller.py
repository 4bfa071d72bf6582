"""A caller over WebRTC that costs little: it sends packets that were encoded before, and decodes none.

What it hears it tells by the packets' sizes: Opus with a variable bit rate takes a few bytes for silence.
"""

import asyncio
import fractions
import time
from collections.abc import Sequence
from typing import cast

import httpx
import numpy as np
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from aiortc.rtp import RtpPacket
from av import AudioCodecContext, AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet

from benchmarks.agent.hearing import Hearing
from benchmarks.agent.script import PACKET_S, Pcm

RATE = 48_000
SAMPLES = round(RATE * PACKET_S)
TIME_BASE = fractions.Fraction(1, RATE)
SOUND_BYTES = 40  # a packet with more is no silence; with error correction that takes some 25
TIMEOUT_S = 60.0
JITTER_BUFFER = "_RTCRtpReceiver__jitter_buffer"


def opus(pcm: Pcm) -> list[bytes]:
    """48 kHz mono PCM in Opus packets of 20 ms, as a browser sends it."""
    codec = AudioCodecContext.create("libopus", "w")
    codec.sample_rate, codec.layout, codec.format, codec.bit_rate = RATE, "mono", "s16", 32_000
    codec.options = {"application": "voip", "frame_duration": "20", "fec": "1", "packet_loss": "5"}
    packets: list[bytes] = []
    for start in range(0, len(pcm) - SAMPLES + 1, SAMPLES):
        frame = AudioFrame.from_ndarray(pcm[None, start : start + SAMPLES], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, TIME_BASE
        packets += [bytes(packet) for packet in codec.encode(frame)]
    return packets


class Speech(MediaStreamTrack):
    """Packets of a script on a 20 ms clock, over and over.

    Args:
        start: where in the script it begins.
    """

    kind = "audio"

    def __init__(self, packets: Sequence[bytes], start: int) -> None:
        super().__init__()
        self._packets = packets
        self._at = start
        self._sent = 0
        self._began = 0.0

    async def recv(self) -> "Packet[AudioStream]":
        """The next packet."""
        self._began = self._began or time.monotonic()
        await asyncio.sleep(max(0.0, self._began + self._sent * PACKET_S - time.monotonic()))
        packet = cast("Packet[AudioStream]", Packet(self._packets[self._at]))
        packet.pts, packet.time_base = self._sent * SAMPLES, TIME_BASE
        self._at = (self._at + 1) % len(self._packets)
        self._sent += 1
        return packet


class Ear:
    """In the place of a receiver's jitter buffer: notes when packets come, and keeps none."""

    def __init__(self, hearing: Hearing) -> None:
        self._hearing = hearing

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """A packet has come."""
        self._hearing.packet(time.monotonic(), packet.timestamp / RATE, len(packet.payload) > SOUND_BYTES)
        return False, None


class WebCaller:
    """One call.

    Args:
        page: URL of the bot; it takes offers at `/api/offer`.
        packets: what is said, see `opus`.
        start: packet with which it begins.
    """

    def __init__(self, page: str, packets: Sequence[bytes], start: int) -> None:
        self._page = page
        self._track = Speech(packets, start)
        self.hearing = Hearing()

    async def __aenter__(self) -> "WebCaller":
        self._peer = peer = RTCPeerConnection()
        peer.createDataChannel("rtvi")
        peer.addTrack(self._track)
        await peer.setLocalDescription(await peer.createOffer())
        offer = {"sdp": peer.localDescription.sdp, "type": "offer"}
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            response = await client.post(f"{self._page}/api/offer", json=offer)
            response.raise_for_status()
        setattr(peer.getReceivers()[0], JITTER_BUFFER, Ear(self.hearing))
        await peer.setRemoteDescription(RTCSessionDescription(response.json()["sdp"], "answer"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._peer.close()


def packets_of(script: Pcm) -> list[bytes]:
    """A 48 kHz script in packets."""
    return opus(np.ascontiguousarray(script))
