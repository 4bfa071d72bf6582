from typing import Any

import numpy as np
import pytest
from baresip import AudioInfo, AudioNotActive, AudioRestarted

from services.agent.legs.sip import free_port
from services.agent.legs.sip_media import SipMedia


class Line:
    """The stack's audio of one call, in memory."""

    def __init__(self, rate: int = 8000, channels: int = 1) -> None:
        self.rate, self.channels = rate, channels
        self.active = True
        self.restarted = False
        self.received = b""
        self.sent = bytearray()

    def info(self) -> AudioInfo:
        if not self.active:
            raise AudioNotActive("no audio")
        return AudioInfo(
            True, True, self.rate, self.channels, 20, self.rate, self.channels, len(self.sent), 0, 32_768, 32_768
        )

    def _check(self) -> None:
        if not self.active:
            raise AudioNotActive("no audio")
        if self.restarted:
            self.restarted = False
            raise AudioRestarted("restarted")

    def read(self, size: int) -> bytes:
        self._check()
        data, self.received = self.received[:size], self.received[size:]
        return data

    def write(self, pcm: bytes) -> int:
        self._check()
        self.sent += pcm
        return len(pcm)

    def flush_tx(self) -> None:
        self._check()
        self.sent.clear()


def media(line: Any) -> SipMedia:
    return SipMedia(line)


def sine(hertz: float, rate: int, seconds: float) -> "np.ndarray[Any, np.dtype[np.int16]]":
    return (8000 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.int16)


def loudest(pcm: bytes, rate: int) -> float:
    samples = np.frombuffer(pcm, np.int16)
    return float(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax() * rate / len(samples))


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16_000, 1), (48_000, 2)])
def test_what_arrives_at_any_rate_is_read_at_16_khz(rate: int, channels: int) -> None:
    line = Line(rate, channels)
    call = media(line)
    packet = rate // 50
    heard = b""
    tone = sine(440, rate, 1.0)
    for start in range(0, len(tone), packet):
        line.received = np.repeat(tone[start : start + packet], channels).tobytes()
        heard += call.read()
    assert 0.9 * 32_000 < len(heard) <= 32_000
    assert loudest(heard, 16_000) == pytest.approx(440, abs=3)


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (48_000, 2)])
def test_what_is_written_at_another_rate_leaves_at_the_codecs(rate: int, channels: int) -> None:
    line = Line(rate, channels)
    call = media(line)
    assert call.is_up()
    assert call.output_rate == rate
    for packet in np.split(sine(440, 16_000, 1.0), 50):
        assert call.write(packet.tobytes(), 16_000)
    left = np.frombuffer(bytes(line.sent), np.int16).reshape(-1, channels)
    assert 0.9 * rate < len(left) <= rate
    assert (left == left[:, :1]).all()
    assert loudest(left[:, 0].tobytes(), rate) == pytest.approx(440, abs=3)


def test_samples_at_the_codecs_own_rate_are_not_touched() -> None:
    line = Line()
    pcm = sine(300, 8000, 0.02).tobytes()
    assert media(line).write(pcm, 8000)
    assert bytes(line.sent) == pcm


def test_before_and_after_the_call_there_is_only_silence() -> None:
    line = Line()
    line.active = False
    call = media(line)
    assert not call.is_up()
    assert call.read() == b""
    assert not call.write(bytes(320), 8000)
    assert call.unsent_s() == 0.0
    call.flush()
    line.active = True
    assert call.write(bytes(320), 8000)
    line.active = False
    assert call.read() == b""
    assert not call.write(bytes(320), 8000)


def test_a_restart_with_another_codec_goes_on_at_its_rate() -> None:
    line = Line(8000)
    call = media(line)
    assert call.write(bytes(320), 8000)
    line.rate, line.restarted = 16_000, True
    assert call.read() == b""
    line.received = sine(500, 16_000, 0.5).tobytes()
    assert len(call.read()) == 16_000
    assert call.output_rate == 16_000
    line.sent.clear()
    for packet in np.split(sine(440, 8000, 1.0), 50):
        assert call.write(packet.tobytes(), 8000)
    assert loudest(bytes(line.sent), 16_000) == pytest.approx(440, abs=3)


def test_what_comes_and_goes_while_the_call_is_held_is_dropped() -> None:
    line = Line()
    call = media(line)
    call.held = True
    line.received = sine(500, 8000, 0.1).tobytes()
    assert call.read() == b""
    assert not call.write(bytes(320), 8000)
    assert not line.sent
    call.held = False
    assert call.read() == b""  # music on hold does not come late either
    assert call.write(bytes(320), 8000)


def test_a_flush_leaves_nothing_unsent() -> None:
    line = Line()
    call = media(line)
    call.write(sine(300, 16_000, 0.2).tobytes(), 16_000)
    assert call.unsent_s() > 0.1
    call.flush()
    assert call.unsent_s() == 0.0
    # Nor does the converter give back what it still held: what follows begins from silence.
    call.write(bytes(6400), 16_000)
    assert np.abs(np.frombuffer(bytes(line.sent), np.int16)).max() <= 2  # dither


@pytest.mark.parametrize("transports", [("udp",), ("udp", "tcp", "tls")])
def test_a_free_port_is_found(transports: tuple[str, ...]) -> None:
    assert 1024 <= free_port("127.0.0.1", transports) <= 65534
