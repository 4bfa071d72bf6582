"""What the chart takes for granted of Triton, at the real server: flags, the probe, metrics that scaling uses."""

import asyncio
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc.aio as client
import yaml

from tests.deploy.objects import containers, environment
from tests.deploy.queries import exported, queries
from tests.integration.stack import HOST, ROOT, free_port
from tests.triton.server import START_S, TritonServer

OVERLAYS = ROOT / "k8s" / "overlays"  # tests/deploy requires that they are what the chart renders
# the last ones are of the engines, which the models export through Triton
OF_TRITON = ("nv_", "trunkline_sessions", "trunkline_model_pending_requests", "trunkline_model_queue_seconds_")


def objects(overlay: str) -> list[dict[str, Any]]:
    files = sorted((OVERLAYS / overlay).glob("*.yaml"))
    return [item for file in files if "metadata" in (item := yaml.safe_load(file.read_text()))]


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


class Sidecar:
    """Triton as a manifest starts it, on free ports, with weights/nano on the CPU."""

    def __init__(self, model: str, log: Path) -> None:
        [deployment] = [
            item
            for item in objects("split-gpu")
            if (item["kind"], item["metadata"]["name"]) == ("Deployment", f"trunkline-{model}")
        ]
        [container] = [one for one in containers(deployment["spec"]["template"]) if one["name"] == "triton"]
        self.grpc_port, self.metrics_port = free_port(), free_port()
        ours = {"--grpc-port": self.grpc_port, "--metrics-port": self.metrics_port, "--metrics-address": HOST}
        arguments = []
        for argument in container["args"]:
            flag, _, value = argument.partition("=")
            arguments.append(f"{flag}={ours.pop(flag, value)}")
        assert not ours, "the chart does not set these"
        prefix = f"TRUNKLINE_{model.upper()}_"
        given = {**environment(container), f"{prefix}WEIGHTS": f"weights/nano/{model}", f"{prefix}DEVICE": "cpu"}
        del given[f"{prefix}DTYPE"]
        self.probe = container["startupProbe"]["httpGet"]["path"]
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [ROOT / "scripts" / "triton.sh", "serve", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **given, "OMP_NUM_THREADS": "1"},
                process_group=0,
            )

    def wait_probed(self) -> None:
        """Until the start-up probe is answered."""
        until = time.monotonic() + START_S
        while True:
            try:
                with urllib.request.urlopen(f"http://{HOST}:{self.metrics_port}{self.probe}", timeout=30) as answer:
                    assert answer.status == 200
                    return
            except OSError:
                said = self.log.read_text(errors="replace")[-3000:]
                assert self.process.poll() is None, said
                assert time.monotonic() < until, said
                time.sleep(0.1)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            return self.process.wait()


@pytest.fixture
def sidecar(triton: TritonServer, tmp_path: Path) -> Iterator[Sidecar]:
    # `triton` alone knows whether there is a server
    running = Sidecar("tokenizer", tmp_path / "triton.log")
    try:
        yield running
    finally:
        status = running.stop()
    assert status == 0, running.log.read_text(errors="replace")[-3000:]


async def test_a_sidecar_serves_its_model_alone_once_it_is_probed(sidecar: Sidecar) -> None:
    await asyncio.to_thread(sidecar.wait_probed)
    async with client.InferenceServerClient(f"{HOST}:{sidecar.grpc_port}") as server:
        assert await server.is_model_ready("speech_tokenizer"), "it was probed before its model was there"
        assert not await server.is_model_ready("voice_lm")


def test_metrics_that_are_asked_for_are_exported(triton: TritonServer) -> None:
    found = exported(metrics(triton.metrics_port))
    asked = 0
    for query in (query for overlay in ("single-gpu", "split-gpu") for query in queries(objects(overlay))):
        names = {name for name in query.metrics if name.startswith(OF_TRITON)}
        assert names <= set(found), query
        for name in names:
            assert query.labels <= set(found[name]), query
        asked += len(names)
    assert asked > 10, "hardly anything was compared"
