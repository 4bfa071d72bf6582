"""A caller over SIP and G.711 that costs little: it sends packets that were encoded before."""

import asyncio
import contextlib
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.agent.hearing import Hearing
from benchmarks.agent.script import PACKET_S, Pcm
from loadtest.sip.talker import LOUD, to_mu_law
from loadtest.sip.wire import PACKET, caller, mu_law

LOOK_S = 0.005
TIMEOUT_S = 60.0


def packets_of(script: Pcm) -> list[bytes]:
    """An 8 kHz script in packets of mu-law."""
    return [to_mu_law(script[start : start + PACKET]) for start in range(0, len(script) - PACKET + 1, PACKET)]


class SipCaller:
    """One call.

    Args:
        port: of the agent's SIP worker.
        packets: what is said.
        start: packet with which it begins.
    """

    def __init__(self, port: int, packets: Sequence[bytes], start: int) -> None:
        self._port = port
        self._packets = packets
        self._at = start
        self._stack = contextlib.AsyncExitStack()
        self.hearing = Hearing()

    async def __aenter__(self) -> "SipCaller":
        self._wire = await self._stack.enter_async_context(caller(self._port))
        self._wire.invite()
        await self._wire.response("INVITE", 200, timeout_s=TIMEOUT_S)
        self._wire.request("ACK")
        self._talking = asyncio.create_task(self._talk())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._talking.cancel()
        await asyncio.gather(self._talking, return_exceptions=True)
        self._wire.request("BYE")
        with contextlib.suppress(TimeoutError):
            await self._wire.response("BYE", 200, 481)
        await self._stack.aclose()

    async def _talk(self) -> None:
        sock, _ = self._wire.rtp
        due = time.monotonic()
        while True:
            now = time.monotonic()
            while due <= now:
                due += PACKET_S
                self._wire.send_rtp(self._packets[self._at])
                self._at = (self._at + 1) % len(self._packets)
            while True:
                try:
                    packet = sock.recv(2048)
                except BlockingIOError:
                    break
                pcm = mu_law(packet[12:])
                loud = int(np.abs(pcm.astype(np.int32)).max(initial=0)) > LOUD
                self.hearing.packet(now, int.from_bytes(packet[4:8], "big") / 8000, loud)
            await asyncio.sleep(LOOK_S)
