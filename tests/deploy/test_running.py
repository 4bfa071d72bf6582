"""What the chart asks running processes for, they have: metrics with their labels, and answers to probes."""

import asyncio
import re
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.deploy.cases import CASES
from tests.deploy.objects import MODELS, containers, pods
from tests.deploy.queries import Series, queries
from tests.deploy.queries import exported as on_page
from tests.deploy.tools import Object
from tests.integration.kamailio_edge import edge
from tests.integration.stack import HOST, ROOT, Process, free_port, redis_server
from tests.unit.lm.checkpoint import write_checkpoint

EDGE = "trunkline_edge_"
AT_TRITON = "trunkline_sessions"
OF_TRITON = ("nv_", AT_TRITON)  # tests/triton/test_chart.py


def series(address: str) -> Series:
    """What a Prometheus endpoint exports."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
        return on_page(answer.read().decode())


class System:
    """Running processes: what they export, and where their probes go."""

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.metrics: dict[str, str] = {}
        self.ports: dict[str, int] = {}

    def start(self, name: str, directory: Path, *options: str) -> None:
        self.metrics[name] = f"{HOST}:{free_port()}"
        command = ["env", f"TRUNKLINE_METRICS_LISTEN={self.metrics[name]}", sys.executable, "-m", f"services.{name}"]
        self.processes.append(Process(name, [*command, *options], directory / f"{name}.log"))


@pytest.fixture(scope="module")
def system(
    tmp_path_factory: pytest.TempPathFactory, require_debian: Callable[..., None], golden_dir: Path
) -> Iterator[System]:
    """Redis, the three services with the golden data's random weights, and an agent."""
    require_debian("redis-server")
    directory, system = tmp_path_factory.mktemp("running"), System()
    lm = write_checkpoint(directory / "lm-weights", golden_dir, context_length=1024)
    weights = {"tokenizer": golden_dir / "tokenizer", "lm": lm, "decoder": golden_dir / "decoder"}
    try:
        redis_port = free_port()
        system.processes.append(redis_server(directory, redis_port))
        for name in MODELS:
            system.start(name, directory, "--listen", f"{HOST}:0", "--weights", str(weights[name]), "--threads", "1")
        for process in system.processes:
            process.wait_serving()
            system.ports[process.name] = process.port
        system.ports["agent"] = free_port()
        options = [option for name in MODELS for option in (f"--{name}", f"{HOST}:{system.ports[name]}")]
        options += ["--redis-url", f"redis://{HOST}:{redis_port}/0", "--http-listen", f"{HOST}:{system.ports['agent']}"]
        options += ["--calls-listen", f"{HOST}:0", "--sip-listen", "", "--drain-seconds", "0"]
        system.start("agent", directory, *options, "--personas", str(ROOT / "personas"))
        system.processes[-1].wait_serving()
        yield system
    finally:
        for process in reversed(system.processes):
            process.stop()


@pytest.fixture(scope="module")
def exported(system: System) -> Series:
    """What all of them export together."""
    found: Series = {}
    for address in system.metrics.values():
        for name, labels in series(address).items():
            for label, values in labels.items():
                found.setdefault(name, {}).setdefault(label, set()).update(values)
            found.setdefault(name, {})
    return found


def check(render: Callable[[str], list[Object]], exported: Series, mine: Callable[[str], bool]) -> set[str]:
    """Whether all metrics that are `mine` are exported, with the labels and values that are asked for."""
    seen = set()
    for case in CASES:
        for query in queries(render(case)):
            names = {name for name in query.metrics if mine(name)}
            if not names:
                continue
            assert names <= set(exported), query
            labels = {label: values for name in names for label, values in exported[name].items()}
            if names == query.metrics:
                assert query.labels <= set(labels), query
                for label, value in query.matchers:
                    wanted = set(value.split("|"))
                    assert any(wanted <= exported[name].get(label, set()) for name in names), query
            seen |= names
    return seen


def test_metrics_that_are_asked_for_are_exported(render: Callable[[str], list[Object]], exported: Series) -> None:
    seen = check(render, exported, lambda name: not name.startswith((EDGE, *OF_TRITON)))
    assert len(seen) > 20, "hardly anything was compared"


def declared() -> Series:
    """What the edge's configuration declares; its counters are exported from the first count on."""
    text = (ROOT / "deploy" / "kamailio" / "kamailio.cfg").read_text()
    found: Series = {}
    for name, rest in re.findall(r'"prom_(?:gauge|counter)", "name=(\w+);([^"]*)"', text):
        labels = re.findall(r"label=([\w:]+)", rest)
        found[EDGE + name] = {label: set() for group in labels for label in group.split(":")}
    return found


async def test_the_edge_exports_what_is_asked_for(
    render: Callable[[str], list[Object]], require_debian: Callable[..., None], tmp_path: Path
) -> None:
    seen = check(render, declared(), lambda name: name.startswith(EDGE))
    assert len(seen) > 3
    require_debian("kamailio")
    [config] = [item for item in render("edge") if "address.list" in item.get("data", {})]
    networks = ["1 127.0.0.1 32 0 test", *config["data"]["address.list"].splitlines()]
    assert len(networks) == 4
    async with edge(tmp_path, [free_port()], callers=networks) as running, asyncio.timeout(60):
        address = f"{HOST}:{running.metrics_port}"
        while EDGE + "workers_active" not in await asyncio.to_thread(series, address):
            await asyncio.sleep(0.2)


def test_a_metric_that_nobody_exports_is_found(render: Callable[[str], list[Object]], exported: Series) -> None:
    without = {name: labels for name, labels in exported.items() if name != "trunkline_calls_active"}
    with pytest.raises(AssertionError):
        check(render, without, lambda name: not name.startswith((EDGE, *OF_TRITON)))
    other = {**exported, "trunkline_calls_refused_total": {"leg": {"sip"}}}
    with pytest.raises(AssertionError):
        check(render, other, lambda name: not name.startswith((EDGE, *OF_TRITON)))


def test_probes_are_answered(render: Callable[[str], list[Object]], system: System) -> None:
    probed = 0
    for _, pod in pods(render("default")):
        for container in containers(pod):
            for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                probe = container.get(kind, {})
                if container["name"] == "agent":
                    url = f"http://{HOST}:{system.ports['agent']}{probe['httpGet']['path']}"
                    with urllib.request.urlopen(url, timeout=30) as answer:
                        assert answer.status == 200
                    probed += 1
                elif "grpc" in probe:
                    with grpc.insecure_channel(f"{HOST}:{system.ports[container['name']]}") as channel:
                        request = health_pb2.HealthCheckRequest(service=probe["grpc"].get("service", ""))
                        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=30)
                    assert answer.status == health_pb2.HealthCheckResponse.SERVING
                    probed += 1
    assert probed == 3 + 2 * len(MODELS)
