import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtest.ear import rtp
from loadtest.sip.rtp import Sender, is_loud, read
from loadtest.sip.talker import to_mu_law
from loadtest.sip.wire import KEYS_TYPE, SILENCE


def sent(sender: Sender, count: int) -> list[tuple[int, int, int, bytes]]:
    found = [read(sender.packet(SILENCE)) for _ in range(count)]
    return [packet for packet in found if packet is not None]


def test_packets_are_numbered_and_stamped() -> None:
    packets = sent(Sender(7, sequence=65535, timestamp=2**32 - 160), 3)
    assert [packet[:3] for packet in packets] == [(0, 65535, 2**32 - 160), (0, 0, 0), (0, 1, 160)]
    assert all(packet[3] == SILENCE for packet in packets)


def test_a_key_is_an_event_with_three_ends() -> None:
    sender = Sender(7)
    sent(sender, 2)
    count = sender.press("5")
    data = [sender.packet(SILENCE) for _ in range(count)]
    events = [piece for piece in data if piece[1] & 0x7F == KEYS_TYPE]
    assert [bool(piece[1] & 0x80) for piece in events] == [True] + [False] * 7  # RFC 4733 section 2.5.1.1
    bodies = [packet[3] for packet in map(read, events) if packet is not None]
    assert {body[0] for body in bodies} == {5}
    assert [body[1] >> 7 for body in bodies] == [0] * 5 + [1] * 3
    assert [int.from_bytes(body[2:], "big") for body in bodies] == [160, 320, 480, 640, 800, 800, 800, 800]
    stamps = [packet[2] for packet in map(read, events) if packet is not None]
    assert set(stamps) == {320}  # all of an event bear its beginning
    numbers = [packet[1] for packet in map(read, data) if packet is not None]
    assert numbers == list(range(2, 2 + count))
    assert sent(sender, 1)[0][:3] == (0, 2 + count, 160 * (2 + count))


def test_there_is_no_such_key() -> None:
    with pytest.raises(ValueError, match="substring"):
        Sender(7).press("x")


@settings(deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=40))
def test_whatever_comes_is_read_or_not(data: bytes) -> None:
    packet = read(data)
    assert packet is None or (data[0] >> 6 == 2 and len(packet[3]) <= len(data))


def test_sources_extensions_and_padding_are_passed_over() -> None:
    header = bytes([0xB1, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3])
    data = header + b"csrc" + b"\0\0\0\1" + b"extn" + b"voice" + b"\0\0\3"
    assert read(data) == (0, 1, 2, b"voice")


def test_loud() -> None:
    wave = np.zeros(160, np.int16)
    assert not is_loud(to_mu_law(wave))
    wave[80] = 200
    assert not is_loud(to_mu_law(wave))
    wave[80] = -400
    assert is_loud(to_mu_law(wave))


def of(numbers: list[int], arrived: list[float] | None = None) -> rtp.RtpCounts:
    times = arrived if arrived is not None else [0.02 * number for number in range(len(numbers))]
    stamps = np.array([160 * number % 2**32 for number in numbers])
    return rtp.counts(np.array(times), np.array([number % 65536 for number in numbers]), stamps, 8000)


def test_losses_are_what_is_missing() -> None:
    assert of([]).expected == 0
    assert of([5, 6, 7]).lost == 0
    assert of([65534, 65535, 65537, 65539]).lost == 2
    assert of([1, 3, 2, 4]).lost == 0  # late is not lost
    assert of([1, 1, 3]).lost == 1  # a duplicate makes up for nothing


def test_a_new_stream_is_no_loss() -> None:
    assert of([1, 2, 3, 20_001, 20_002]).lost == 0


def test_jitter_is_that_of_rfc_3550() -> None:
    even = of(list(range(100)))
    assert even.jitter_s == pytest.approx(0, abs=1e-9)
    late = [0.02 * number + (0.01 if number % 2 else 0.0) for number in range(400)]
    assert of(list(range(400)), late).jitter_s == pytest.approx(0.01, rel=0.01)
    # the first step alone: a sixteenth of it
    assert of([0, 1], [0.0, 0.036]).jitter_s == pytest.approx(0.001)
