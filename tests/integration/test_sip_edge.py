"""Calls through the Kamailio of deploy/kamailio: who gets in and who does not, which worker has a call, the way out."""

import asyncio
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import pytest_asyncio

from loadtest.sip.wire import Caller, Message, acknowledgement, caller
from services.agent.legs.base import LegError
from services.agent.legs.sip_settings import Trunk
from services.agent.legs.sip_workers.restarts import Restarts
from services.agent.legs.sip_workers.supervisor import SipWorkers
from tests.integration.certificates import certificate
from tests.integration.kamailio_edge import LOOPBACK, Edge, checked, edge, metric, tls_settings
from tests.integration.line_bots import Whistler, sip_workers
from tests.integration.phone import RATE, Phone, phone
from tests.integration.sip_bots import has_tone, hears_tone, tone, until
from tests.integration.torture import CALL_ID, MESSAGES

pytestmark = pytest.mark.asyncio(loop_scope="module")

WAIT_S = 60.0
STRANGER, FLOODER, BUSY, ELSEWHERE = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.9"
CALLERS = (LOOPBACK, f"1 {BUSY} 32 0 busy")
MEDIA = "198.51.100.7"
RATE_LIMIT = 10  # calls a second and source
# Of RFC 4475: INVITEs that are valid, or whose fault is no proxy's business (a Date, a body).
AN_AGENTS_TO_ANSWER = {"baddate", "esc01", "inv2543", "invut", "longreq", "sdp01"}


@dataclass
class Scene:
    """Two workers whose bot whistles, and the edge in front of them."""

    bot: Whistler
    lines: SipWorkers
    front: Edge
    certificates: Path

    async def new_leg(self, before: int) -> None:
        """Until the bot has more calls than so many."""
        await until(lambda: len(self.bot.legs) > before, WAIT_S)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory, require_debian: Callable[..., None]) -> AsyncIterator[Scene]:
    require_debian("baresip", "kamailio", "kamailio-tls-modules")
    directory = tmp_path_factory.mktemp("edge")
    certificate(directory / "tls")
    bot = Whistler(1000)
    more = {"TRUNKLINE_EDGE_CALLS_PER_SECOND": str(RATE_LIMIT), **tls_settings(directory)}
    async with (
        sip_workers(bot) as lines,
        edge(directory, lines.ports, callers=CALLERS, environment=more) as front,
    ):
        yield Scene(bot, lines, front, directory / "tls")


def hears(pcm: bytes | bytearray, hertz: float) -> bool:
    return has_tone(np.frombuffer(bytes(pcm[-32_000:]), np.int16), 16_000, hertz, 30)


async def in_a_call(stack: AsyncExitStack, directory: Path, name: str, port: int) -> Phone:
    handset = await stack.enter_async_context(phone(directory / name, name))
    await handset.call(f"sip:anyone@127.0.0.1:{port}", WAIT_S)
    await until(lambda: has_tone(handset.heard()[-RATE:], RATE, 1000, 30), WAIT_S)
    return handset


async def final(wire: Caller) -> Message:
    """The final response to the INVITE, acknowledged."""
    message = await wire.response("INVITE", 200, *range(400, 607), timeout_s=WAIT_S)
    if message.status == 200:
        wire.request("ACK")
    else:
        wire.send_raw(acknowledgement(message))
    return message


class Asked(asyncio.DatagramProtocol):
    """In an agent's place: says that it is well, and remembers which calls come."""

    def __init__(self) -> None:
        self.calls: set[str] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if data.startswith(b"OPTIONS"):
            copied = [
                line for line in data.split(b"\r\n") if line.startswith((b"Via", b"From", b"To", b"Call", b"CSeq"))
            ]
            self._transport.sendto(b"\r\n".join([b"SIP/2.0 200 OK", *copied, b"Content-Length: 0", b"", b""]), addr)
        elif found := CALL_ID.search(data):
            self.calls.add(found[1].decode())

    def torture(self) -> set[str]:
        """Which of the messages have come."""
        texts = {path.stem: path.read_bytes() for path in MESSAGES.glob("*.dat")}
        return {
            name for name, text in texts.items() if (found := CALL_ID.search(text)) and found[1].decode() in self.calls
        }


async def answered(wire: Caller) -> Message:
    """The 200 to a call's INVITE."""
    wire.invite()
    message = await final(wire)
    assert message.status == 200, message.text
    return message


async def hung_up_by_the_bot(scene: Scene, wire: Caller) -> None:
    """Its last call, which is this one."""
    ending = asyncio.create_task(scene.bot.legs[-1].hang_up("done"))
    async with asyncio.timeout(WAIT_S):
        while not (bye := await wire.message()).first_line.startswith("BYE"):
            pass
    wire.reply(bye, "200 OK")
    await ending


async def hang_up(wire: Caller) -> None:
    wire.request("BYE")
    await wire.response("BYE", 200, timeout_s=WAIT_S)


@pytest.mark.parametrize("everything", [False, True])
async def test_the_configuration_is_valid(
    everything: bool, tmp_path: Path, require_debian: Callable[..., None]
) -> None:
    require_debian("kamailio", "kamailio-tls-modules")
    certificate(tmp_path / "tls")
    more = {
        "TRUNKLINE_EDGE_ADVERTISE": "192.0.2.1",
        "TRUNKLINE_EDGE_AGENTS_DNS": "agents.invalid",
        "TRUNKLINE_EDGE_AGENTS_PORTS": "5060",
        "TRUNKLINE_EDGE_DESKS": "^2..$",
        "TRUNKLINE_METRICS_LISTEN": "127.0.0.1:9464",
        **tls_settings(tmp_path),
    }
    await checked(more if everything else {})


async def test_calls_are_spread(scene: Scene) -> None:
    reached: set[int] = set()
    async with asyncio.timeout(WAIT_S):
        while reached < set(scene.lines.ports):
            async with caller(scene.front.port) as wire:
                await answered(wire)
                reached.add(wire.remote_port)
                await hang_up(wire)


async def test_calls_stay_with_their_worker(scene: Scene, tmp_path: Path) -> None:
    bot, lines, port = scene.bot, scene.lines, scene.front.port
    async with AsyncExitStack() as stack:
        ann, bob = [await in_a_call(stack, tmp_path, name, port) for name in ("ann", "bob")]
        anns, bobs = bot.legs[-2:]
        assert anns.to == f"sip:anyone@127.0.0.1:{port}"
        await ann.play(tone(440, 20, RATE))
        await until(lambda: hears(bot.heard[anns], 440), WAIT_S)
        await ann.hang_up()
        await until(anns.ended.done, WAIT_S)
        assert anns.ended.result() == "caller hung up"
        await bobs.hang_up("done")
        await bob.wait_for("CALL_CLOSED", timeout_s=WAIT_S)
        assert not any(link.calls for link in lines.workers.values())


async def test_calls_over_tls_are_ended_by_either_side(scene: Scene, tmp_path: Path) -> None:
    lines = (f"sip_certificate {scene.certificates}/both.pem", f"sip_cafile {scene.certificates}/ca.pem")
    async with phone(tmp_path / "phone", config_lines=lines) as handset:
        for ended_by_the_bot in (True, False):
            before = len(scene.bot.legs)
            await handset.call(f"sip:anyone@127.0.0.1:{scene.front.tls_port};transport=tls", WAIT_S)
            await scene.new_leg(before)
            leg = scene.bot.legs[-1]
            await until(lambda: has_tone(handset.heard()[-RATE:], RATE, 1000, 30), WAIT_S)
            if ended_by_the_bot:
                await leg.hang_up("done")
                await handset.wait_for("CALL_CLOSED", timeout_s=WAIT_S)
            else:
                await handset.hang_up()
                await until(leg.ended.done, WAIT_S)


async def test_a_caller_behind_an_address_translator_is_reached_where_it_is(scene: Scene) -> None:
    before = len(scene.bot.legs)
    async with caller(scene.front.port) as wire:
        wire.contact = "sip:wire@10.9.9.9:5060"  # what it believes
        await answered(wire)
        await scene.new_leg(before)
        await hung_up_by_the_bot(scene, wire)


async def test_strangers_are_refused_on_every_side(scene: Scene) -> None:
    before = len(scene.bot.legs)
    async with caller(scene.front.port, host=STRANGER) as stranger:
        stranger.invite()
        assert (await final(stranger)).status == 403
        stranger.request("OPTIONS")
        await stranger.response("OPTIONS", 403, timeout_s=WAIT_S)
    async with caller(scene.front.inside_port, host=STRANGER) as stranger, caller(scene.front.port) as friend:
        stranger.invite()
        friend.request("OPTIONS")  # answered after the other one was read
        await friend.response("OPTIONS", 200, timeout_s=WAIT_S)
        assert not stranger.messages_so_far()
    assert len(scene.bot.legs) == before
    assert await metric(scene.front, 'strangers_total{reason="unknown"}') >= 2


async def test_who_may_call_and_certificates_change_without_a_restart(scene: Scene) -> None:
    newcomer = "127.0.0.5"
    async with caller(scene.front.port, host=newcomer) as wire:
        wire.request("OPTIONS")
        await wire.response("OPTIONS", 403, timeout_s=WAIT_S)
        (scene.front.directory / "address.list").write_text("\n".join((*CALLERS, f"1 {newcomer}\n")))
        for command in "permissions.addressReload", "dispatcher.reload", "tls.reload":
            await scene.front.command(command)
        wire.request("OPTIONS")
        await wire.response("OPTIONS", 200, timeout_s=WAIT_S)


async def test_an_edge_that_is_restarted_loses_no_call(scene: Scene, tmp_path: Path) -> None:
    async with edge(tmp_path, scene.lines.ports) as first, caller(first.port) as wire:
        await answered(wire)
        await hears_tone(wire, 1000, WAIT_S)
        first.process.terminate()
        await asyncio.wait_for(first.process.wait(), WAIT_S)
        await hears_tone(wire, 1000, WAIT_S)
        async with edge(tmp_path, scene.lines.ports, ports=first.ports):
            wire.invite("sendrecv")
            assert (await final(wire)).status == 200
            await hung_up_by_the_bot(scene, wire)


async def test_a_flood_of_strangers_is_no_longer_answered_and_callers_are(scene: Scene, tmp_path: Path) -> None:
    async with caller(scene.front.port, host=FLOODER) as flooder, AsyncExitStack() as stack:
        for _ in range(200):
            flooder.invite()
        friend = await in_a_call(stack, tmp_path, "friend", scene.front.port)
        await friend.hang_up()
        refusals = {message.header("CSeq") for message in flooder.messages_so_far() if message.status == 403}
        assert 1 <= len(refusals) < 100
    assert await metric(scene.front, 'strangers_total{reason="flood"}') > 0


async def test_a_caller_who_calls_too_often_is_told_when_to_come_back_and_others_are_served(scene: Scene) -> None:
    async with (
        caller(scene.front.port, host=BUSY) as busy,
        caller(scene.front.port) as friend,
    ):
        busy.called = "299"  # nobody's
        for _ in range(10 * RATE_LIMIT):
            busy.invite()
        refusal = await busy.response("INVITE", 503, timeout_s=WAIT_S)
        assert 1 <= int(refusal.header("Retry-After")) <= 3
        await answered(friend)
        await hang_up(friend)
    assert await metric(scene.front, 'calls_refused_total{caller="busy", reason="rate"}') > 0


async def test_a_caller_who_demands_session_timers_gets_a_call_without(scene: Scene) -> None:
    async with caller(scene.front.port) as wire:
        wire.more_headers = ("Require: timer", "Supported: timer", "Session-Expires: 1800;refresher=uac")
        wire.invite()
        assert (await final(wire)).status == 200
        await hang_up(wire)


async def test_what_is_too_long_or_has_gone_in_circles_goes_no_further(scene: Scene) -> None:
    before = len(scene.bot.legs)
    async with caller(scene.front.port) as wire:
        wire.more_sdp = "a=x:" + "x" * 20_000 + "\r\n"
        wire.invite()
        assert (await final(wire)).status == 513
    async with caller(scene.front.port) as wire:
        lines = (
            f"INVITE sip:x@127.0.0.1:{scene.front.port} SIP/2.0",
            f"Via: SIP/2.0/UDP {wire.host}:{wire.port};branch=z9hG4bKcircles;rport",
            "Max-Forwards: 0", "From: <sip:x@127.0.0.1>;tag=1", "To: <sip:y@127.0.0.1>", f"Call-ID: {wire.call_id}",
            "CSeq: 1 INVITE", "Content-Length: 0", "", "",
        )  # fmt: skip
        wire.send_raw("\r\n".join(lines).encode())
        assert (await final(wire)).status == 483
    assert len(scene.bot.legs) == before


async def test_a_call_is_placed_through_the_edge_to_callers_addresses_only(
    scene: Scene, tmp_path: Path, require_debian: Callable[..., None]
) -> None:
    bot = Whistler(1000)
    proxy = f"127.0.0.1:{scene.front.inside_port}"
    async with phone(tmp_path / "callee", "callee", account=";answermode=auto") as callee:
        trunks = tuple(
            Trunk(name, domain, "alice", proxy=proxy, expires_s=0)
            for name, domain in (("provider", callee.uri.partition("@")[2]), ("elsewhere", f"{ELSEWHERE}:5060"))
        )
        async with sip_workers(bot, count=1, trunks=trunks) as lines:
            before = await metric(scene.front, "core_rcv_requests_bye")
            leg = await lines.dial(callee.uri)
            bot.talk(leg)
            await until(lambda: has_tone(callee.heard()[-RATE:], RATE, 1000, 30), WAIT_S)
            await callee.hang_up()
            await until(leg.ended.done, WAIT_S)
            assert await metric(scene.front, "core_rcv_requests_bye") > before, "the edge is not left out later"
            with pytest.raises(LegError):
                await (await lines.dial(f"sip:x@{ELSEWHERE}:5060")).answer()
    assert await metric(scene.front, 'strangers_total{reason="destination"}') > 0


async def test_prometheus_and_probes_are_answered_on_their_own_port_alone(scene: Scene) -> None:
    async with httpx.AsyncClient(timeout=WAIT_S) as client:
        healthy = await client.get(f"http://127.0.0.1:{scene.front.metrics_port}/healthz")
        assert (healthy.status_code, healthy.text) == (200, "ok\n")
        elsewhere = await client.get(f"http://127.0.0.1:{scene.front.port}/metrics")
        assert elsewhere.status_code == 404
    async with asyncio.timeout(WAIT_S):
        while await metric(scene.front, "workers_active") != 2:
            await asyncio.sleep(0.1)


async def test_new_calls_pass_by_a_worker_that_is_down(tmp_path: Path) -> None:
    bot = Whistler(1000)
    slowly = Restarts(first_delay_s=600.0, longest_delay_s=600.0)
    async with (
        sip_workers(bot, restarts=slowly) as lines,
        edge(tmp_path, lines.ports) as front,
        AsyncExitStack() as stack,
    ):
        dead, living = lines.workers.values()
        os.kill(dead.pid, signal.SIGKILL)
        await asyncio.wait({dead.over})
        for name in "ann", "bob":
            await in_a_call(stack, tmp_path, name, front.port)
        assert len(living.calls) == 2


async def test_agents_are_found_by_name_and_calls_stay_when_they_leave_it(scene: Scene, tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare (util-linux), for names of its own")
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 agents.test\n")
    settings = {
        "TRUNKLINE_EDGE_AGENTS_DNS": "agents.test",
        "TRUNKLINE_EDGE_AGENTS_PORTS": str(scene.lines.ports[0]),
        "TRUNKLINE_EDGE_MEDIA_ADDRESS": MEDIA,
    }
    (tmp_path / "nsswitch").write_text("hosts: files\n")  # nobody else is asked
    mounts = f"mount --bind {hosts} /etc/hosts && mount --bind {tmp_path}/nsswitch /etc/nsswitch.conf"
    own_names = ("unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh")

    async def logged(pattern: str) -> None:
        await until(lambda: bool(re.search(pattern, front.log.read_text(errors="replace"))), WAIT_S)

    async with (
        edge(tmp_path, (), callers=CALLERS, environment=settings, prefix=own_names) as front,
        caller(front.port) as stays,
        caller(front.port) as late,
    ):
        await logged(r"is found worker=sip:127\.0\.0\.1:\d+")
        assert f"c=IN IP4 {MEDIA}\r\n" in (await answered(stays)).text
        hosts.write_text("")
        await logged("unable to resolve agents.test")
        late.request("OPTIONS")  # nobody knows better: the list stays
        await late.response("OPTIONS", 200, timeout_s=WAIT_S)
        hosts.write_text(f"{ELSEWHERE} agents.test\n")
        await logged(r"has left worker=sip:127\.0\.0\.1:\d+")
        late.invite()
        refusal = await final(late)
        assert (refusal.status, refusal.header("Retry-After")) == (503, "5")
        stays.invite("sendonly")
        assert (await final(stays)).status == 200
        await hung_up_by_the_bot(scene, stays)


async def test_malformed_messages_reach_no_agent_and_leave_no_trace_of_their_content(
    tmp_path: Path, require_debian: Callable[..., None]
) -> None:
    require_debian("kamailio")
    asked = Asked()
    agent, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: asked, local_addr=("127.0.0.1", 0))
    async with edge(tmp_path, [agent.get_extra_info("sockname")[1]]) as front, caller(front.port) as wire:
        for path in sorted(MESSAGES.glob("*.dat")):
            # Some have the same branch; with one of its own none is taken for a retransmission of another.
            wire.send_raw(path.read_bytes().replace(b"z9hG4bK", f"z9hG4bK{path.stem}".encode()))
        wire.invite()
        await until(lambda: wire.call_id in asked.calls and asked.torture() >= AN_AGENTS_TO_ANSWER, WAIT_S)
        assert asked.torture() == AN_AGENTS_TO_ANSWER
        assert front.process.returncode is None
        log = front.log.read_text(errors="replace")
    agent.close()
    assert "the edge is ready" in log
    assert not re.search(r"INVITE|User|anyone|example|192\.0\.2\.", log)
