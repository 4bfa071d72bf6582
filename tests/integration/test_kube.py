"""The agent in a pod: deletion cost and Lease, over real HTTPS to as much of an API server as is needed."""

import asyncio
import datetime
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from services.agent import kube
from services.agent.app import StartError, _tell_kubernetes
from services.agent.settings import AgentSettings
from services.common.grpc_server import Slots
from tests.integration.kube_server import LEASES, POD, KubeServer, kube_server
from tests.integration.personas import short_persona
from tests.integration.stack import ROOT, Stack
from tests.integration.webrtc_caller import calling

LEASE = f"{LEASES}/trunkline-agent-{POD}"
WAIT_S = 60.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KubeServer]:
    with kube_server(tmp_path) as server:
        yield server


def pod(server: KubeServer, holder: str = "agent") -> kube.Pod:
    return kube.Pod(server.account, server.environ, POD, holder)


def at(second: int) -> datetime.datetime:
    return datetime.datetime(2026, 1, 1, 0, 0, second, tzinfo=datetime.UTC)


def test_a_lease_is_taken_renewed_and_given_up(server: KubeServer) -> None:
    ours = pod(server)
    ours.renew(at(0))
    assert server.lease is not None
    assert (server.lease["holderIdentity"], server.lease["leaseTransitions"]) == ("agent", 0)
    owner = server.objects[LEASE]["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", POD, "5f2c")
    ours.renew(at(5))
    assert server.lease["renewTime"].startswith("2026-01-01T00:00:05")
    assert server.lease["acquireTime"].startswith("2026-01-01T00:00:00")
    ours.release()
    assert server.lease is None
    ours.close()


def test_a_lease_that_another_has_written_to_is_read_again(server: KubeServer) -> None:
    ours = pod(server)
    ours.renew(at(0))
    server.put(LEASE, server.objects[LEASE])  # a new resourceVersion
    ours.renew(at(5))
    assert server.lease is not None
    assert server.lease["renewTime"].startswith("2026-01-01T00:00:05")
    del server.objects[LEASE]
    ours.renew(at(10))
    assert server.lease["renewTime"].startswith("2026-01-01T00:00:10")
    ours.close()


def test_a_restarted_container_takes_its_pods_lease_over(server: KubeServer) -> None:
    first, second = pod(server, "first"), pod(server, "second")
    first.renew(at(0))
    second.renew(at(20))
    assert server.lease is not None
    assert (server.lease["holderIdentity"], server.lease["leaseTransitions"]) == ("second", 1)
    first.close()
    second.close()


async def test_the_cost_follows_the_calls_but_not_each_of_them(server: KubeServer) -> None:
    now, calls = [0.0], [0]
    presence = kube.Presence(pod(server), lambda: calls[0], lambda: now[0])
    await presence.step()
    assert (server.cost, server.lease is not None) == ("0", True)
    calls[0] = 2
    now[0] = 1.0
    await presence.step()
    assert server.cost == "0", "too soon after the last change"
    calls[0] = 3
    now[0] = kube.COST_S + 1.0
    await presence.step()
    assert server.cost == "3"
    patches = sum(asked.startswith("PATCH") for asked in server.asked)
    now[0] *= 2
    await presence.step()
    assert sum(asked.startswith("PATCH") for asked in server.asked) == patches, "nothing has changed"


async def test_an_api_server_that_fails_is_waited_for(server: KubeServer, caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    presence = kube.Presence(pod(server), lambda: 1, lambda: now[0])
    server.broken = True
    for _ in range(3):
        await presence.step()
        now[0] += kube.COST_S
    assert [record.getMessage() for record in caplog.records if "kube" in record.name] == ["Kubernetes is not reached"]
    server.broken = False
    await presence.step()
    assert (server.cost, server.lease is not None) == ("1", True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.05)


async def test_an_agent_in_a_pod(
    server: KubeServer, tiny_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**server.environ, "POD_NAME": POD}.items():
        monkeypatch.setenv(name, value)
    options = ("--kubernetes-account", str(server.account), "--agent-id", "agent-of-pod-7")
    with tiny_stack.agent(1, short_persona(tmp_path / "personas"), False, *options, drain_s=600.0) as agent:
        async with calling(agent.page) as caller:
            await until(lambda: server.cost == "1")
            assert server.lease is not None
            assert server.lease["holderIdentity"] == "agent-of-pod-7"
            os.kill(agent.process.pid, signal.SIGTERM)
            renewed = server.lease["renewTime"]
            await until(lambda: server.lease is not None and server.lease["renewTime"] > renewed)  # while it drains
            assert not caller.closed.is_set()
        assert await asyncio.to_thread(agent.process.wait, WAIT_S) == 0
        assert server.lease is None


def test_elsewhere_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, services.agent.app, services.agent.kube as kube, pathlib;"
        "print('kubernetes' in sys.modules, kube.is_pod(pathlib.Path('/nowhere'), {}))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment, check=True
    )
    assert done.stdout.split() == ["False", "False"]


async def test_what_is_asked_for_and_cannot_be_had_is_named(tmp_path: Path) -> None:
    settings = AgentSettings(kubernetes="on", kubernetes_account=tmp_path)
    async with AsyncExitStack() as stack:
        with pytest.raises(StartError, match="--kubernetes on: no service account"):
            _tell_kubernetes(settings, "agent", Slots(1, "calls"), stack)
