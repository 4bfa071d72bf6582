"""The two commands of the README, as a person runs them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile

from training.judge import normalise, transcribe

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 260
TRIES = 3  # a busy machine tears words on the line


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Demo:
    def __init__(self, state_dir: Path, **environment: str) -> None:
        self.sip_port = free_port(socket.SOCK_DGRAM)
        self.http_port = free_port(socket.SOCK_STREAM)
        self.state_file = state_dir / "state.json"
        self.environment = {
            **os.environ,
            "DEMO_SIP_PORT": str(self.sip_port),
            "DEMO_HTTP_PORT": str(self.http_port),
            "DEMO_STATE_DIR": str(state_dir),
            **environment,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.demo"],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def until_up(self) -> dict[str, dict[str, int]]:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.state_file.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the demo did not start: {self.end()}")
            time.sleep(0.1)
        state: dict[str, dict[str, int]] = json.loads(self.state_file.read_text())
        return state

    def end(self) -> str:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=60)[0]


@pytest.fixture
def run_demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    demos: list[Demo] = []

    def run(**environment: str) -> Demo:
        demos.append(Demo(tmp_path, **environment))
        return demos[-1]

    yield run
    for demo in demos:
        demo.end()


def test_a_question_is_asked_by_phone_and_answered(run_demo: Callable[..., Demo], tmp_path: Path) -> None:
    demo = run_demo()
    state = demo.until_up()
    reply = tmp_path / "reply.wav"
    for _ in range(TRIES):
        asked = subprocess.run(
            [
                *(sys.executable, "-m", "services.agent.ask", str(ROOT / "samples" / "opening-hours.wav")),
                *("--state", str(demo.state_file), "--out", str(reply)),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert asked.returncode == 0, asked.stderr
        heard = normalise(transcribe(*soundfile.read(reply, dtype="float32")))
        if {"nine", "six"} <= set(heard):
            break
    else:
        pytest.fail(f"the last answer was: {' '.join(heard)}")
    assert "harbour parcel" in asked.stdout.lower(), "the greeting's caption"
    assert "first packet" in asked.stdout.lower(), "the waterfall"

    output = demo.end()
    assert demo.process.returncode == 0, output
    assert not [name for name, pid in state["pids"].items() if is_alive(pid)]
    assert not demo.state_file.exists()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", demo.sip_port))


def test_a_taken_port_is_named(run_demo: Callable[..., Demo]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        demo = run_demo(DEMO_SIP_PORT=str(port))
        output = demo.process.communicate(timeout=60)[0]
    assert demo.process.returncode == 2
    assert f"port {port} on 127.0.0.1 cannot be used" in output
    assert "DEMO_SIP_PORT" in output


def test_a_bad_setting_is_named(run_demo: Callable[..., Demo]) -> None:
    demo = run_demo(DEMO_HTTP_PORT="eighty")
    output = demo.process.communicate(timeout=60)[0]
    assert demo.process.returncode == 2
    assert "DEMO_HTTP_PORT" in output


def test_missing_weights_are_named(run_demo: Callable[..., Demo], tmp_path: Path) -> None:
    demo = run_demo(DEMO_WEIGHTS=str(tmp_path / "nowhere"))
    output = demo.process.communicate(timeout=60)[0]
    assert demo.process.returncode == 2
    assert f"no weights in {tmp_path / 'nowhere'}" in output


def test_incomplete_weights_end_the_demo_and_leave_nothing_behind(
    run_demo: Callable[..., Demo], tmp_path: Path
) -> None:
    for name in ("tokenizer", "lm", "decoder"):
        (tmp_path / "weights" / name).mkdir(parents=True)
    demo = run_demo(DEMO_WEIGHTS=str(tmp_path / "weights"))
    output = demo.process.communicate(timeout=120)[0]
    assert demo.process.returncode == 1
    assert "could not start" in output
    assert any(name in output for name in ("config.json", "tokenizer.model", "config.yaml")), output
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in processes
