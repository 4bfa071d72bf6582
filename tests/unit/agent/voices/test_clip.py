import io

import numpy as np
import pytest
import soundfile

from services.agent.voices.clip import MAX_BYTES, Clip, flac, from_flac, wav
from services.common.errors import InvalidInputError


def file(seconds: float = 3.0, rate: int = 16_000, channels: int = 1, form: str = "WAV", value: float = 0.25) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, np.full((int(seconds * rate), channels), value, np.float32), rate, format=form)
    return content.getvalue()


def test_both_channels_become_one_at_any_rate() -> None:
    clip = Clip.read(file(4.0, rate=48_000, channels=2))
    assert (len(clip.samples), clip.rate) == (4 * 48_000, 48_000)
    pcm = np.frombuffer(clip.pcm(22_050), "<i2")
    assert len(pcm) == 4 * 22_050
    assert abs(int(np.median(pcm)) - 8192) < 40
    assert len(clip.pcm(48_000)) == 2 * 4 * 48_000


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "cannot be read"),
        (b"RIFF\0\0\0\0WAVE", "cannot be read"),
        (file(form="FLAC"), "must be a WAV file, not FLAC"),
        (file(2.9), "lasts 2.90 s; 3 to 30 s"),
        (file(30.1), "lasts 30.10 s"),
        (file(rate=11_025), "has 11025 Hz"),
        (file(rate=96_000), "has 96000 Hz"),
        (file(channels=3), "has 3 channels"),
        (file(value=0.001), "is silent"),
        (b"\0" * (MAX_BYTES + 1), f"at most {MAX_BYTES}"),
    ],
)
def test_what_is_no_clip_is_refused_with_what_is_allowed(content: bytes, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        Clip.read(content)


def test_a_clip_with_no_numbers_in_it_is_refused() -> None:
    content = io.BytesIO()
    soundfile.write(content, np.full(48_000, np.nan, np.float32), 16_000, format="WAV", subtype="FLOAT")
    with pytest.raises(InvalidInputError, match="no numbers"):
        Clip.read(content.getvalue())


def test_flac_loses_nothing_and_wav_is_read_again() -> None:
    pcm = np.random.default_rng(1).integers(-32768, 32767, 22_050, np.int16).astype("<i2").tobytes()
    assert from_flac(flac(pcm, 22_050)) == pcm
    samples, rate = soundfile.read(io.BytesIO(wav(pcm, 22_050)), dtype="int16")
    assert (samples.astype("<i2").tobytes(), rate) == (pcm, 22_050)
