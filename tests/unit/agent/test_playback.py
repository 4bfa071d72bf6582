import pytest

from services.agent.playback import Heard, Playback

RATE = 8000
PACKET = 320  # bytes of 20 ms


def pcm(ms: float) -> bytes:
    return bytes(2 * int(RATE * ms / 1000))


def play(playback: Playback, until: float, now: float = 0.0) -> list[float]:
    """Runs the clock in milliseconds; the times at which packets went out."""
    sent = []
    while now < until:
        sent += [now] * len(playback.due(now))
        now += 0.001
    return sent


def test_packets_go_out_on_the_clock_with_a_small_lead() -> None:
    playback = Playback(RATE)
    playback.push(pcm(1000), 10)
    sent = play(playback, 0.5)
    assert len(sent) == 25 + 3
    assert sent[:3] == [0.0, 0.0, 0.0]
    for number, at in enumerate(sent):
        assert number * 0.02 - 0.06 <= at <= number * 0.02, "never late, never more than the lead early"


def test_several_go_out_at_once_where_the_lead_is_long() -> None:
    playback = Playback(RATE, lead_ms=240, refill_ms=120)
    playback.push(pcm(1000), 10)
    sent = play(playback, 0.5)
    assert sent[:12] == [0.0] * 12
    for number, at in enumerate(sent):
        assert number * 0.02 - 0.24 <= at <= number * 0.02 - 0.1 * (number >= 12)
    assert len(set(sent)) <= 1 + (len(sent) - 12) // 6, "six at a time"
    wait_s = playback.wait_s(0.5)
    assert wait_s is not None
    assert not playback.due(0.5 + wait_s - 0.001)
    assert len(playback.due(0.5 + wait_s)) >= 6


def test_a_late_hand_finds_the_long_lead_used_up_and_no_gap() -> None:
    playback = Playback(RATE, lead_ms=240, refill_ms=120)
    playback.push(pcm(1000), 10)
    assert len(playback.due(0.0)) == 12
    assert len(playback.due(0.239)) == 12
    assert playback.gaps == 0
    playback.due(0.6)
    assert playback.gaps == 1


def test_packets_are_whole_and_in_order() -> None:
    playback = Playback(RATE)
    wave = bytes(i % 251 for i in range(2 * RATE))
    for start in range(0, len(wave), 777 * 2):
        playback.push(wave[start : start + 777 * 2], 0)
    playback.complete()
    packets: list[bytes] = []
    now = 0.0
    while not playback.finished(now):
        packets += playback.due(now)
        now += 0.005
    assert {len(packet) for packet in packets} == {PACKET}
    assert b"".join(packets) == wave


def test_the_last_packet_is_filled_with_silence() -> None:
    playback = Playback(RATE)
    playback.push(b"\x01\x01" * 100, 1)
    assert playback.due(0.0) == []
    playback.complete()
    (packet,) = playback.due(0.0)
    assert packet == b"\x01\x01" * 100 + bytes(PACKET - 200)


def test_finished_only_when_heard() -> None:
    playback = Playback(RATE)
    playback.push(pcm(40), 1)
    playback.complete()
    playback.due(0.0)
    assert not playback.finished(0.0)
    assert playback.remaining_s(0.0) == pytest.approx(0.04)
    assert playback.finished(0.0401)


def test_heard_counts_what_was_played_not_what_was_sent() -> None:
    playback = Playback(RATE)
    playback.push(pcm(1000), 10)
    play(playback, 0.5)
    heard = playback.stop(0.5)
    assert heard.samples == pytest.approx(0.5 * RATE, abs=8)
    assert heard.tokens == 5
    assert playback.due(0.6) == []


def test_tokens_follow_the_blocks() -> None:
    playback = Playback(RATE)
    playback.push(pcm(100), 1)
    playback.push(pcm(100), 9)
    play(playback, 0.15)
    assert playback.stop(0.1501) == Heard(1200, 5)


def test_tokens_before_the_first_block_ends_are_its_share() -> None:
    playback = Playback(RATE)
    playback.push(pcm(800), 10)
    play(playback, 0.01)
    assert playback.stop(0.0799).tokens == 0, "less than a tenth is less than one token"
    playback = Playback(RATE)
    playback.push(pcm(800), 10)
    play(playback, 0.5)
    assert playback.stop(0.401).tokens == 5


def test_nothing_sent_is_nothing_heard() -> None:
    playback = Playback(RATE)
    playback.push(pcm(500), 5)
    assert playback.stop(9.0) == Heard(0, 0)


def test_everything_heard_is_all_tokens() -> None:
    playback = Playback(RATE)
    playback.push(pcm(100), 3)
    playback.complete()
    play(playback, 0.2)
    assert playback.stop(0.2) == Heard(800, 3)


def test_an_underrun_starts_the_clock_anew() -> None:
    playback = Playback(RATE)
    playback.push(pcm(100), 1)
    play(playback, 0.3)
    assert playback.due(5.0) == []
    playback.push(pcm(200), 3)
    sent = play(playback, 5.1, now=5.0)
    assert len(sent) == 5 + 3, "no burst for the time that was lost"
    assert playback.stop(5.1).samples == pytest.approx(800 + 800, abs=8)


def test_wait_is_until_the_next_packet() -> None:
    playback = Playback(RATE)
    assert playback.wait_s(0.0) is None
    playback.push(pcm(200), 1)
    assert playback.wait_s(0.0) == 0.0
    playback.due(0.0)
    wait = playback.wait_s(0.0)
    assert wait is not None
    assert 0 < wait <= 0.02
    assert len(playback.due(wait)) == 1


def test_push_after_complete_is_an_error() -> None:
    playback = Playback(RATE)
    playback.complete()
    with pytest.raises(ValueError, match="complete"):
        playback.push(pcm(20), 1)


@pytest.mark.parametrize(("rate", "packet_ms", "lead_ms"), [(22050, 1, 60), (8000, 20, 10)])
def test_unusable_clocks_are_refused(rate: int, packet_ms: int, lead_ms: int) -> None:
    with pytest.raises(ValueError, match="ms"):
        Playback(rate, packet_ms, lead_ms)


def test_a_silence_for_want_of_audio_is_counted_with_its_length() -> None:
    playback = Playback(RATE)
    playback.push(pcm(100), 1)
    play(playback, 0.5)
    assert (playback.gaps, playback.gap_s) == (0, 0.0), "the well may be dry at the end"
    playback.push(pcm(100), 2)
    play(playback, 0.55, now=0.5)
    assert (playback.gaps, round(playback.gap_s, 3)) == (1, 0.4)
    playback.push(pcm(100), 3)
    play(playback, 0.7, now=0.55)
    assert playback.gaps == 1, "in time"
