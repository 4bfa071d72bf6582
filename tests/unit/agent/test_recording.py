"""A call's recording from its taps to its file: pauses, keys, failures that the call must not notice."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from services.agent.personas import Persona
from services.agent.recording import recording as module
from services.agent.recording.files import RecordingFormat
from services.agent.recording.policy import RecordingPolicy
from services.agent.recording.recording import RATE, Recording, Recordings

KEYS = RecordingPolicy(enabled=True, pause_key="*", resume_key="#")
FRAME = np.full(RATE // 50, 9000, np.int16).tobytes()
PACKET_8K = np.full(8000 // 50, 9000, np.int16).tobytes()


class Clock:
    """Moves when told."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recordings(tmp_path: Path) -> Iterator[Recordings]:
    recordings = Recordings(tmp_path, RecordingFormat.WAV)
    yield recordings
    recordings.close()


def talk(recording: Recording, clock: Clock, seconds: float) -> None:
    for _ in range(round(seconds * 50)):
        recording.bot(PACKET_8K, 8000)
        clock.now += 0.02
        recording.caller(FRAME)


async def test_the_file_holds_both_sides_and_a_pause_of_exact_length(
    recordings: Recordings, clock: Clock, tmp_path: Path
) -> None:
    recording = recordings.of("call", KEYS, clock)
    recording.begin()
    talk(recording, clock, 2.0)
    recording.pause()
    talk(recording, clock, 3.0)
    recording.resume()
    talk(recording, clock, 1.0)
    await recording.close()
    await recording.close()
    stereo, rate = soundfile.read(tmp_path / "call.wav", dtype="int16")
    assert (rate, stereo.shape) == (RATE, (6 * RATE, 2))
    assert not stereo[2 * RATE : 5 * RATE].any()
    for channel in range(2):
        # The resampler from 8 kHz needs two milliseconds to get going.
        assert stereo[RATE // 100 : 2 * RATE, channel].all()
        assert stereo[5 * RATE :, channel].all()


async def test_keys_of_a_pause_are_nobodys_business(recordings: Recordings, clock: Clock) -> None:
    recording = recordings.of("call", KEYS, clock)
    recording.begin()
    assert [key for key in "1#2*4929#3*5" if recording.key(key)] == list("1#2*#3*")
    await recording.close()


async def test_without_keys_only_the_operator_pauses(recordings: Recordings, clock: Clock) -> None:
    recording = recordings.of("call", RecordingPolicy(enabled=True), clock)
    recording.begin()
    assert all(recording.key(key) for key in "*#1")
    recording.pause()
    assert not any(recording.key(key) for key in "*#1")
    recording.resume()
    assert all(recording.key(key) for key in "*#1")
    await recording.close()


async def test_a_pause_from_before_the_answer(recordings: Recordings, clock: Clock, tmp_path: Path) -> None:
    recording = recordings.of("call", KEYS, clock)
    recording.pause()
    clock.now += 3.0
    recording.begin()
    talk(recording, clock, 1.0)
    await recording.close()
    stereo, _ = soundfile.read(tmp_path / "call.wav", dtype="int16")
    assert stereo.shape == (RATE, 2)
    assert not stereo.any()


async def test_a_call_that_is_never_answered_leaves_no_file(
    recordings: Recordings, clock: Clock, tmp_path: Path
) -> None:
    recording = recordings.of("call", KEYS, clock)
    recording.caller(FRAME)
    recording.bot(PACKET_8K, 8000)
    recording.interrupt()
    await recording.close()
    assert not (tmp_path / "call.wav").exists()


class FullAfter:
    """A disk with room for so many blocks."""

    def __init__(self, blocks: int) -> None:
        self.left = blocks
        self.closed = 0

    def write(self, block: object) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(28, "No space left on device")

    def close(self) -> None:
        self.closed += 1
        raise OSError(28, "No space left on device")


async def test_a_full_disk_is_logged_once_and_nothing_is_kept(
    recordings: Recordings, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FullAfter(3)
    monkeypatch.setattr(module, "create", lambda *_: disk)
    monkeypatch.setattr(module, "WRITE_EVERY_S", 0.001)
    recording = recordings.of("call", KEYS, clock)
    recording.begin()
    async with asyncio.timeout(30):
        while recording._timeline is not None:
            talk(recording, clock, 1.0)
            await asyncio.sleep(0.002)
    talk(recording, clock, 100.0)
    recording.pause()
    recording.interrupt()
    await recording.close()
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.__dict__["why"] == "No space left on device"
    assert disk.closed == 1


async def test_a_file_that_cannot_be_made_is_logged_once(
    recordings: Recordings, clock: Clock, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "call.wav").touch()
    recording = recordings.of("call", KEYS, clock)
    recording.begin()
    talk(recording, clock, 1.0)
    await recording.close()
    assert [record.__dict__["why"] for record in caplog.records] == ["File exists"]


async def test_a_disk_that_hangs_costs_bounded_memory(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = threading.Event()
    monkeypatch.setattr(module, "create", lambda *_: stuck.wait())
    with ThreadPoolExecutor(1) as threads:
        recording = Recording("call", tmp_path / "call.wav", RecordingFormat.WAV, KEYS, threads, clock)
        recording.begin()
        await asyncio.sleep(0)
        talk(recording, clock, 120.0)
        assert recording._timeline is None
        assert [record.__dict__["why"] for record in caplog.records] == ["the disk is too slow"]
        stuck.set()


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"pause_key": "*"}, "go together"),
        ({"pause_key": "*", "resume_key": "*"}, "must differ"),
        ({"pause_key": "12", "resume_key": "3"}, "pause_key"),
        ({"pause_key": "A", "resume_key": "3"}, "pause_key"),
        ({"enable": True}, "enable"),
        ({"announcement": "x" * 301}, "announcement"),
    ],
)
def test_a_policy_that_cannot_be_meant(policy: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        RecordingPolicy.model_validate(policy)


def test_the_announcement_comes_before_the_greeting() -> None:
    policy = RecordingPolicy(enabled=True, announcement=" This call is\n recorded. ")
    persona = Persona(name="p", prompt="Be brief.", greeting="Hello.", recording=policy)
    assert persona.opening == ["This call is recorded.", "Hello."]
    assert persona.model_copy(update={"greeting": ""}).opening == ["This call is recorded."]
    off = RecordingPolicy(announcement="This call is recorded.")
    assert persona.model_copy(update={"recording": off}).opening == ["Hello."]
    assert Persona(name="p", prompt="Be brief.").opening == []


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="does not exist"):
        Recordings(tmp_path / "nowhere", RecordingFormat.OPUS)
