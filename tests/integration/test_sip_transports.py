"""Transports, encryption and source networks: what reaches us over which, and what is heard then."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from loadtest.sip.wire import caller
from services.agent.legs.base import LegError
from services.agent.legs.sip import SipEndpoint, SipSettings
from services.agent.legs.sip_settings import TRANSPORTS, Srtp, Tls, networks_named
from tests.integration.certificates import certificate
from tests.integration.phone import RATE, CallFailedError, Phone, phone
from tests.integration.sip_bots import ToneBot, endpoint, has_tone, hears_tone, tone, until

needs_phone = pytest.mark.usefixtures("debian_phone")
MENC = {Srtp.OFF: "", Srtp.OPTIONAL: ";mediaenc=srtp", Srtp.MANDATORY: ";mediaenc=srtp-mand"}


@pytest.fixture
def debian_phone(require_debian: Callable[..., None]) -> None:
    require_debian("baresip")


@contextlib.asynccontextmanager
async def secure_phone(directory: Path, certificates: Path, srtp: Srtp = Srtp.OFF) -> AsyncIterator[Phone]:
    lines = (f"sip_certificate {certificates}/both.pem", f"sip_cafile {certificates}/ca.pem")
    async with phone(directory, account=MENC[srtp], config_lines=lines) as handset:
        yield handset


async def both_hear(bot: ToneBot, handset: Phone) -> None:
    await handset.play(tone(440, 20, RATE))
    leg = bot.legs[-1]
    await until(lambda: has_tone(handset.heard()[-RATE:], RATE, 1000, 30))
    await until(lambda: has_tone(np.frombuffer(bytes(bot.heard[leg][-32_000:]), np.int16), 16_000, 440, 30))


@needs_phone
async def test_all_transports_are_served_at_once(tmp_path: Path) -> None:
    bot = ToneBot()
    tls = certificate(tmp_path / "tls")
    async with (
        endpoint(bot, transports=TRANSPORTS, tls=tls) as agent,
        secure_phone(tmp_path / "phone", tmp_path / "tls") as handset,
    ):
        for transport in TRANSPORTS:
            port = agent.port + (transport == "tls")
            await handset.call(f"sip:anyone@127.0.0.1:{port};transport={transport}")
            await both_hear(bot, handset)
            await handset.hang_up()
            await until(lambda: not bot.live())
        assert len(bot.legs) == len(TRANSPORTS)


@needs_phone
@pytest.mark.parametrize("theirs", Srtp)
async def test_srtp_is_used_as_both_sides_want(tmp_path: Path, theirs: Srtp) -> None:
    for ours in Srtp:
        bot = ToneBot()
        async with (
            endpoint(bot, srtp=ours) as agent,
            phone(tmp_path / ours.value, account=MENC[theirs]) as handset,
        ):
            uri = f"sip:anyone@127.0.0.1:{agent.port}"
            # A phone with optional SRTP offers keys beside plain RTP: that is not what a mandatory one takes.
            if Srtp.MANDATORY in (ours, theirs) and ours not in (theirs, Srtp.OPTIONAL):
                with pytest.raises(CallFailedError, match="488"):
                    await handset.call(uri)
                continue
            await handset.call(uri)
            encrypted = Srtp.OFF not in (ours, theirs)
            await both_hear(bot, handset)
            assert bool(handset.events_of("CALL_MENC")) is encrypted


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_server_is_called_only_with_a_certificate_of_our_authorities(tmp_path: Path, trusted: bool) -> None:
    ours, others = certificate(tmp_path / "ours"), certificate(tmp_path / "others")
    theirs = ours if trusted else others
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readline())
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(theirs.certificate, theirs.key)
    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server,
        endpoint(ToneBot(), transports=("tls",), tls=ours, ring_timeout_s=2.0) as agent,
    ):
        leg = await agent.dial(f"sip:x@127.0.0.1:{server.sockets[0].getsockname()[1]};transport=tls")
        with pytest.raises(LegError):
            await leg.answer()
    assert [line.split()[0] for line in requests if line] == ([b"INVITE"] if trusted else [])


async def test_a_certificate_that_cannot_be_used_is_a_clear_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    with pytest.raises(OSError, match="cannot listen for SIP"):
        await SipEndpoint(SipSettings(port=0, transports=("tls",), tls=Tls(broken))).start()
    async with endpoint(ToneBot()) as agent, caller(agent.port) as wire:  # the process can still start one
        await wire.answered()


async def test_only_the_allowed_networks_are_read() -> None:
    bot = ToneBot()
    async with endpoint(bot, transports=("udp", "tcp"), networks=networks_named("127.0.0.2, 127.1.0.0/16")) as agent:
        async with caller(agent.port, host="127.0.0.3") as stranger:
            stranger.invite()
            stranger.request("OPTIONS")
            for host in "127.0.0.2", "127.1.9.9":
                async with caller(agent.port, host=host) as friend:
                    await friend.answered()
                    await hears_tone(friend, 1000)
            # Sent before all that was answered: it would have been too.
            assert stranger.messages_so_far() == []
        assert {leg.from_.partition("@")[2].partition(":")[0] for leg in bot.legs} == {"127.0.0.2", "127.1.9.9"}
        for host, connects in (("127.0.0.2", True), ("127.0.0.3", False)):
            with socket.socket() as probe:
                probe.bind((host, 0))
                probe.settimeout(0.5)
                assert (probe.connect_ex(("127.0.0.1", agent.port)) == 0) is connects


async def test_the_called_number_and_the_caller_come_from_the_headers_that_are_trusted() -> None:
    bot = ToneBot()
    headers = ("Diversion", "To"), ("P-Asserted-Identity", "From")
    async with endpoint(bot, called_headers=headers[0], caller_headers=headers[1]) as agent:
        for more in (), ("Diversion: <sip:+49301@pbx>;reason=busy", 'P-Asserted-Identity: "A, B" <sip:+49302@pbx>'):
            async with caller(agent.port) as wire:
                wire.more_headers = more
                await wire.answered()
    plain, diverted = bot.legs
    assert (plain.to, plain.from_.partition("@")[0]) == (f"sip:anyone@127.0.0.1:{agent.port}", "sip:wire")
    assert (diverted.to, diverted.from_) == ("sip:+49301@pbx", "sip:+49302@pbx")
