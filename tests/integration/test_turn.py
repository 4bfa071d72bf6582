"""A page that reaches the agent by TURN alone, as from behind a strict firewall: by the coturn of deploy/coturn."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from aioice.stun import TransactionFailed
from aioice.turn import TurnClientTcpProtocol, TurnClientUdpProtocol
from aiortc import RTCConfiguration, RTCIceServer, RTCIceTransportPolicy, RTCPeerConnection

from tests.integration.certificates import certificate
from tests.integration.network import NetworkSettings, bad_network
from tests.integration.personas import short_persona
from tests.integration.stack import ROOT, Agent, Process, Stack, free_port
from tests.integration.webrtc_caller import calling

SECRET = "between us & coturn's"
FORBIDDEN = 403  # RFC 8656 section 19
Servers = list[dict[str, str]]
RELAY_ONLY = RTCIceTransportPolicy.RELAY


@dataclass(frozen=True)
class Turn:
    """A running coturn."""

    host: str
    port: int
    tls_port: int
    authority: Path
    log: Path
    configuration: Path

    @property
    def url(self) -> str:
        return f"turn:{self.host}:{self.port}?transport=udp"


@pytest.fixture(scope="module")
def turn(tmp_path_factory: pytest.TempPathFactory, require_debian: Callable[..., None]) -> Iterator[Turn]:
    """It relays to no loopback address: it has one of its own, where the agent is too."""
    require_debian("coturn")
    directory = tmp_path_factory.mktemp("coturn")
    with bad_network(NetworkSettings(delay_ms=0.0)) as network:
        port, tls_port = free_port(), free_port()
        tls = certificate(directory, network.here)
        (directory / "secret").write_text(f"{SECRET}\n")
        settings = {
            "SECRET_FILE": directory / "secret",
            "RUN_DIR": directory,
            "LISTEN": network.here,
            "PORT": port,
            "TLS_PORT": tls_port,
            "MIN_PORT": 49160,
            "MAX_PORT": 49200,
            "PEERS": network.here,
            "CERTIFICATE": tls.certificate,
            "KEY": tls.key,
        }
        environment = [f"TRUNKLINE_TURN_{name}={value}" for name, value in settings.items()]
        command = ["env", *environment, "sh", str(ROOT / "deploy" / "coturn" / "start.sh")]
        process = Process("coturn", command, directory / "coturn.log")
        try:
            end = time.monotonic() + 30
            while "Total General servers" not in process.tail():
                assert time.monotonic() < end, process.tail()
                time.sleep(0.05)
            yield Turn(network.here, port, tls_port, directory / "ca.pem", process.log, directory / "turnserver.conf")
        finally:
            process.stop()


@pytest.fixture(scope="module")
def agent(tiny_stack: Stack, turn: Turn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    directory = tmp_path_factory.mktemp("turn")
    secret = directory / "secret"
    secret.write_text(f"{SECRET}\n")
    more = ["--ice-servers", turn.url, "--turn-secret-file", str(secret)]
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


@asynccontextmanager
async def allocation(turn: Turn, server: dict[str, str], tls: bool = False) -> AsyncIterator[Any]:
    """A relay of one's own, by the credentials that a page has."""
    protocol = TurnClientTcpProtocol if tls else TurnClientUdpProtocol
    where = (turn.host, turn.tls_port if tls else turn.port)
    loop = asyncio.get_running_loop()

    def client() -> Any:
        return protocol(where, server["username"], server["credential"], lifetime=600, channel_refresh_time=500)

    if tls:
        context = ssl.create_default_context(cafile=str(turn.authority))
        _, relay = await loop.create_connection(client, *where, ssl=context)
    else:
        _, relay = await loop.create_datagram_endpoint(client, remote_addr=where)
    await relay.connect()
    try:
        yield relay
    finally:
        await relay.delete()


async def test_the_relay_leads_to_agents_and_public_addresses_but_not_into_private_networks(
    turn: Turn, servers: Servers
) -> None:
    elsewhere = turn.host.rpartition(".")[0] + ".9"
    async with allocation(turn, servers[0]) as relay:
        for number, peer in enumerate((turn.host, "1.2.3.4")):  # nothing is sent there yet
            await relay.channel_bind(0x4000 + number, (peer, 9))
        for number, peer in enumerate((elsewhere, "127.0.0.1", "169.254.169.254", "192.168.1.1", "172.17.0.1")):
            with pytest.raises(TransactionFailed) as refusal:
                await relay.channel_bind(0x4002 + number, (peer, 9))
            assert refusal.value.response.attributes["ERROR-CODE"][0] == FORBIDDEN, peer


async def test_a_page_may_come_over_tls(turn: Turn, servers: Servers) -> None:
    async with allocation(turn, servers[0], tls=True) as relay:
        assert relay.relayed_address[0] == turn.host


def test_the_secret_is_in_no_log_and_in_a_file_that_nobody_else_can_read(turn: Turn) -> None:
    assert SECRET not in turn.log.read_text(errors="replace")
    assert turn.configuration.stat().st_mode & 0o077 == 0
