"""Opus over the real libopus: what a lost packet sounds like."""

import numpy as np
import numpy.typing as npt
import pytest
from av import AudioCodecContext, AudioFrame

from services.agent.legs.opus import OpusDecoder, OpusEncoder, OpusError, duration

RATE = 16_000


def packets(frequency: float = 440.0, count: int = 60, fec: bool = True) -> list[bytes]:
    codec = AudioCodecContext.create("libopus", "w")
    codec.sample_rate, codec.layout, codec.format, codec.bit_rate = 48_000, "mono", "s16", 32_000
    codec.options = {"application": "voip", "fec": "1" if fec else "0", "packet_loss": "20"}
    found = []
    for number in range(count):
        time = (np.arange(960) + number * 960) / 48_000
        wave = (8000 * np.sin(2 * np.pi * frequency * time)).astype(np.int16)
        frame = AudioFrame.from_ndarray(wave[None, :], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48_000, number * 960
        found += [bytes(packet) for packet in codec.encode(frame)]
    return found


def tone(pcm: npt.NDArray[np.int16]) -> float:
    """The loudest frequency, hertz."""
    padded = np.fft.rfft(pcm * np.hanning(len(pcm)), 16 * len(pcm))
    return float(np.abs(padded).argmax()) * RATE / (16 * len(pcm))


def test_packets_are_decoded_to_16_khz_mono() -> None:
    decoder = OpusDecoder(RATE)
    pieces = [decoder.decode(packet) for packet in packets()]
    assert {len(piece) for piece in pieces} == {320}
    assert {duration(packet) for packet in packets()} == {960}
    assert tone(pieces[-1]) == pytest.approx(440, abs=15)


@pytest.mark.parametrize("fec", [True, False])
def test_a_lost_packet_sounds_like_its_neighbours(fec: bool) -> None:
    decoder, sent = OpusDecoder(RATE), packets(fec=fec)
    for packet in sent[:40]:
        decoder.decode(packet)
    guess = decoder.recover(sent[41], 960)
    assert len(guess) == 320
    assert tone(guess) == pytest.approx(440, abs=40)
    assert np.abs(guess).max() > 4000
    assert tone(decoder.decode(sent[41])) == pytest.approx(440, abs=15)


def test_error_correction_brings_back_what_no_guess_could() -> None:
    """A tone that changes just in the lost packet: concealment goes on with the old one."""
    low, high = packets(300.0), packets(900.0)
    decoder = OpusDecoder(RATE)
    for packet in low[:30]:
        decoder.decode(packet)
    assert tone(decoder.conceal(960)) == pytest.approx(300, abs=40)
    decoder = OpusDecoder(RATE)
    for packet in low[:30]:
        decoder.decode(packet)
    decoder.decode(high[30])
    assert tone(decoder.recover(high[32], 960)) == pytest.approx(900, abs=40)


@pytest.mark.parametrize("junk", [b"", b"\xff\xff\xff", b"\x03"])
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(OpusError, match="no Opus packet"):
        duration(junk)


def test_an_impossible_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="16000"):
        OpusDecoder(22_050)


def tones(*frequencies: float) -> list[bytes]:
    """PCM in pieces of 20 ms at 48 kHz, each of a frequency."""
    time = np.arange(960) / 48_000
    return [(8000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16).tobytes() for hertz in frequencies]


def test_what_is_encoded_is_heard_and_brings_the_packet_before_it_along() -> None:
    encoder, decoder = OpusEncoder(48_000, 40_000, 20), OpusDecoder(RATE)
    sent = [encoder.encode(pcm) for pcm in tones(*[300.0] * 30, *[900.0] * 10)]
    assert {duration(packet) for packet in sent} == {960}
    assert sum(map(len, sent)) * 8 / 0.8 < 60_000
    assert tone(np.concatenate([decoder.decode(packet) for packet in sent[:30]])[640:]) == pytest.approx(300, abs=10)
    decoder.decode(sent[30])
    assert tone(decoder.recover(sent[32], 960)) == pytest.approx(900, abs=40), "the one that is missing"


def test_pcm_of_no_packets_length_is_refused() -> None:
    with pytest.raises(OpusError, match="no packet of 100 samples"):
        OpusEncoder(48_000, 40_000, 5).encode(bytes(200))


def test_an_encoder_for_an_impossible_rate_or_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="16000"):
        OpusEncoder(22_050, 40_000, 5)
    with pytest.raises(OpusError, match="101 is not allowed"):
        OpusEncoder(48_000, 40_000, 101)
