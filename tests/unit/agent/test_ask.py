import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.console import Console

from services.agent.ask import waterfall
from services.agent.ask_audio import RATE, Hearing, NotAWavError, read_wav, write_wav
from services.agent.ask_call import AskError, Target, read_state
from services.agent.ask_events import CallStory
from trunkline.v1 import calls_pb2


def sine(seconds: float, rate: int = RATE, amplitude: float = 0.3) -> "np.ndarray[Any, np.dtype[np.float64]]":
    return amplitude * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)


def as_bytes(*pieces: "np.ndarray[Any, np.dtype[np.float64]]") -> bytes:
    return (np.concatenate(pieces) * 32767).astype(np.int16).tobytes()


QUIET = np.zeros(RATE)


def test_a_wav_of_any_kind_becomes_16_khz_mono(tmp_path: Path) -> None:
    path = tmp_path / "question.wav"
    both = np.stack([sine(1.0, 44_100), np.zeros(44_100)], axis=1)
    soundfile.write(path, both, 44_100, subtype="PCM_24")
    pcm = read_wav(path)
    assert pcm.dtype == np.int16
    assert len(pcm) == RATE
    spectrum = np.abs(np.fft.rfft(pcm))
    assert spectrum.argmax() == 440
    assert np.abs(pcm).max() == pytest.approx(0.15 * 32767, rel=0.02)


def test_what_is_no_wav_is_refused(tmp_path: Path) -> None:
    text, empty, flac, long = (tmp_path / name for name in ("a.wav", "b.wav", "c.wav", "d.wav"))
    text.write_text("Dear sirs, I write to ask about your opening hours.")
    soundfile.write(empty, np.zeros(0), RATE)
    soundfile.write(flac, sine(0.1), RATE, format="FLAC")
    soundfile.write(long, np.zeros(61 * 8000), 8000)
    for path, why in (
        (tmp_path / "none.wav", "no such file"),
        (tmp_path, "not a WAV file"),
        (text, "not a WAV file"),
        (empty, "has no samples"),
        (flac, "is FLAC, not a WAV file"),
        (long, "longer than 60 seconds"),
    ):
        with pytest.raises(NotAWavError, match=why):
            read_wav(path)


def test_speech_is_found_in_pieces_of_any_size(tmp_path: Path) -> None:
    pcm = as_bytes(QUIET, sine(0.5), QUIET[:8000], sine(0.5), QUIET)
    for size in (2, 322, 640, len(pcm)):
        hearing = Hearing()
        for start in range(0, len(pcm), size):
            hearing.feed(pcm[start : start + size])
        assert hearing.speech_start_s == pytest.approx(1.0, abs=0.03)
        assert hearing.speech_end_s == pytest.approx(2.5, abs=0.03)
        assert hearing.silence_s == pytest.approx(1.0, abs=0.03)
        assert hearing.speech_s == pytest.approx(1.5, abs=0.05)
        assert len(hearing.speech()) == pytest.approx((0.1 + 1.5 + 0.2) * RATE, abs=700)
    write_wav(tmp_path / "speech.wav", hearing.speech())
    assert len(read_wav(tmp_path / "speech.wav")) == len(hearing.speech())


def test_a_click_and_faint_noise_are_no_speech() -> None:
    hearing = Hearing()
    noise = np.random.default_rng(0).normal(0, 40 / 32767, RATE)
    hearing.feed(as_bytes(QUIET, sine(0.03), QUIET, noise))
    assert hearing.speech_start_s is None
    assert hearing.silence_s == 0.0
    assert not len(hearing.speech())


def state_of(pid: int) -> dict[str, Any]:
    return {
        "sip": {"host": "127.0.0.1", "port": 5060},
        "http": {"host": "127.0.0.1", "port": 8080},
        "calls": "127.0.0.1:7",
        "pids": {"agent": pid},
    }


def test_the_running_demo_is_found(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(json.dumps(state_of(os.getpid())))
    assert read_state(path) == Target("127.0.0.1:5060", "127.0.0.1:7")


def test_a_demo_that_does_not_run_is_told(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    with pytest.raises(AskError, match=r"not running .*make demo"):
        read_state(path)
    path.write_text("{")
    with pytest.raises(AskError, match="not a state file"):
        read_state(path)
    path.write_text("[]")
    with pytest.raises(AskError, match="not a state file"):
        read_state(path)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    path.write_text(json.dumps(state_of(child.pid)))
    with pytest.raises(AskError, match="not running any more"):
        read_state(path)


def test_the_story_of_a_call_is_put_together() -> None:
    story = CallStory()
    respond = calls_pb2.WatchCallsResponse
    story.take(respond(caption=calls_pb2.Caption(turn=0, text="Good morning to you.", is_final=True)))
    assert story.takes_s(1, 9) == math.inf
    for text in ("We are", " open."):
        story.take(respond(caption=calls_pb2.Caption(turn=1, text=text)))
        assert story.takes_s(1, 9) == math.inf
    story.take(respond(caption=calls_pb2.Caption(turn=1, is_final=True)))
    assert story.takes_s(1, 9) == pytest.approx(0.6)
    assert story.takes_s(0, 0) == pytest.approx(0.8)
    story.take(respond(barge_in=calls_pb2.BargeIn(turn=1, tokens_heard=7)))
    story.take(respond(turn=calls_pb2.Turn(turn=1, stages=[calls_pb2.Stage(name="first_pcm", end_ms=700.0)])))
    assert not story.over.is_set()
    story.take(respond(call=calls_pb2.Call(state=calls_pb2.CALL_STATE_ENDED, end_reason="caller hung up")))
    assert story.captions == {0: "Good morning to you.", 1: "We are open."}
    assert story.barge_ins == {1: 7}
    assert story.stages == {1: {"first_pcm": 700.0}}
    assert story.over.is_set()
    assert story.end_reason == "caller hung up"


def test_bars_begin_where_the_stage_before_ended() -> None:
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(waterfall({"turn_decided": 200.0, "first_pcm": 400.0, "first_packet": 405.0}))
    lines = [line for line in console.export_text().splitlines() if "━" in line]
    assert [line.split()[:4] for line in lines] == [
        ["turn", "decided", "200", "200"],
        ["first", "pcm", "400", "200"],
        ["first", "packet", "405", "5"],
    ]
    assert [line.count("━") for line in lines] == [20, 20, 1]
    assert lines[1].index("━") == lines[0].rindex("━") + 1


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nothing-here.wav"], 2, "ask: error: nothing-here.wav: no such file\n"),
        (["{wav}", "--sip", "demo", "--calls", "x:1"], 1, "ask: error: 'demo' is not the SIP address of a demo"),
        (["{wav}", "--state", "{none}"], 1, "ask: error: the demo is not running ({none} is missing): start it"),
        (
            ["{wav}", "--sip", "127.0.0.1:1", "--calls", "127.0.0.1:1"],
            1,
            "ask: error: the Calls service at 127.0.0.1:1",
        ),
    ],
)
def test_failures_are_one_line_and_a_status(tmp_path: Path, arguments: list[str], status: int, message: str) -> None:
    wav, none = tmp_path / "question.wav", tmp_path / "none.json"
    soundfile.write(wav, sine(0.5), RATE)
    command = [sys.executable, "-m", "services.agent.ask"]
    command += [argument.format(wav=wav, none=none) for argument in arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == status
    assert done.stderr.startswith(message.format(none=none))
    assert done.stderr.count("\n") == 1
    assert not done.stdout
