"""A page that reaches the agent by a TURN server alone, as from behind a strict firewall: the real coturn."""

import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from aiortc import RTCConfiguration, RTCIceServer, RTCIceTransportPolicy, RTCPeerConnection

from tests.integration.network import NetworkSettings, bad_network
from tests.integration.personas import short_persona
from tests.integration.stack import Agent, Process, Stack, free_port
from tests.integration.webrtc_caller import calling

SECRET = "between us and coturn"
Servers = list[dict[str, str]]
RELAY_ONLY = RTCIceTransportPolicy.RELAY


@pytest.fixture(scope="module")
def turn_url(tmp_path_factory: pytest.TempPathFactory, require_debian: Callable[..., None]) -> Iterator[str]:
    """coturn relays to no loopback address: it has one of its own."""
    require_debian("coturn")
    directory = tmp_path_factory.mktemp("coturn")
    with bad_network(NetworkSettings(delay_ms=0.0)) as network:
        port = free_port()
        command = ["turnserver", "-n", "--no-cli", "--no-tls", "--no-dtls", "--log-file", "stdout", "--realm", "test"]
        command += ["--use-auth-secret", "--static-auth-secret", SECRET, "--listening-port", str(port)]
        command += ["--listening-ip", network.here, "--relay-ip", network.here, "--db", str(directory / "db")]
        command += ["--pidfile", str(directory / "pid"), "--min-port", "49160", "--max-port", "49200"]
        process = Process("coturn", command, directory / "coturn.log")
        try:
            end = time.monotonic() + 30
            while "Total General servers" not in process.tail():
                assert time.monotonic() < end, process.tail()
                time.sleep(0.05)
            yield f"turn:{network.here}:{port}?transport=udp"
        finally:
            process.stop()


@pytest.fixture(scope="module")
def agent(tiny_stack: Stack, turn_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    directory = tmp_path_factory.mktemp("turn")
    secret = directory / "secret"
    secret.write_text(f"{SECRET}\n")
    more = ["--ice-servers", turn_url, "--turn-secret-file", str(secret)]
    with tiny_stack.agent(1, short_persona(directory), False, *more) as agent:
        yield agent


@pytest.fixture
def servers(agent: Agent) -> Servers:
    """What the agent tells a page."""
    answer: Servers = httpx.get(f"{agent.page}/api/ice-servers", timeout=30.0).json()["iceServers"]
    return answer


def relayed(servers: Servers, **changed: str) -> RTCConfiguration:
    """For relayed candidates alone."""
    [server] = [{**server, **changed} for server in servers]
    return RTCConfiguration([RTCIceServer(**server)], iceTransportPolicy=RELAY_ONLY)


async def test_a_call_goes_through_the_relay_with_the_credentials_that_the_agent_gives(
    agent: Agent, servers: Servers
) -> None:
    async with calling(agent.page, ice=relayed(servers)) as caller:
        await caller.bot_is_quiet()
        assert "typ relay" in caller._peer.localDescription.sdp
        assert "typ host" not in caller._peer.localDescription.sdp


@pytest.mark.parametrize(("changed", "candidates"), [({}, 1), ({"credential": "a guess"}, 0)])
async def test_the_relay_wants_those_credentials(servers: Servers, changed: dict[str, str], candidates: int) -> None:
    peer = RTCPeerConnection(relayed(servers, **changed))
    peer.createDataChannel("rtvi")
    await peer.setLocalDescription(await peer.createOffer())
    assert peer.localDescription.sdp.count("typ relay") == candidates
    await peer.close()
