"""A bad network between this machine and a network namespace: losses, bursts of them, jitter. Needs root.

Two TUN devices, one here and one in the namespace, and a process that carries packets from one to the other as it is
told: the kernel's netem is not everywhere, and a seed makes a run repeatable.

    with bad_network(NetworkSettings(loss=0.01)) as network:
        subprocess.run([*network.prefix, "command"])  # runs in the namespace; this machine is `network.here`
"""

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
MTU = 1500
UDP = 17
_numbers = itertools.count(os.getpid() % 200)


@dataclass(frozen=True)
class NetworkSettings:
    """What happens to packets of UDP, both ways.

    Attributes:
        loss: share of packets that are lost, each on its own.
        delay_ms: of every packet.
        jitter_ms: added on top, between none and this, anew for each packet; the order stays.
        burst_ms: for so long all packets are lost when `Network.burst` is called.
        stalls: they are not lost then, but held up until it is over.
        seed: of the randomness.
    """

    loss: float = 0.0
    delay_ms: float = 5.0
    jitter_ms: float = 0.0
    burst_ms: float = 300.0
    stalls: bool = False
    seed: int = 1


@dataclass(frozen=True)
class Network:
    """A running one.

    Attributes:
        here: this machine's address as the namespace sees it.
        there: the namespace's address.
        prefix: puts a command into the namespace.
    """

    here: str
    there: str
    prefix: tuple[str, ...]
    _carrier: "subprocess.Popen[str]"

    def burst(self) -> None:
        """Begins a burst of losses, or a stall."""
        self._carrier.send_signal(signal.SIGUSR1)


@contextlib.contextmanager
def bad_network(settings: NetworkSettings) -> Iterator[Network]:
    """Skips the test where namespaces cannot be made."""
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        pytest.skip("network namespaces need root and /dev/net/tun")
    number = next(_numbers) % 250
    name, here, there = f"tlweb{number}", f"10.213.{number}.1", f"10.213.{number}.2"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"network namespaces cannot be made here: {made.stderr.strip()}")
    carrier = None
    try:
        command = [sys.executable, "-m", "tests.integration.network", name, here, there, json.dumps(asdict(settings))]
        carrier = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        assert carrier.stdout is not None
        assert carrier.stdout.readline().strip() == "carrying"
        yield Network(here, there, ("ip", "netns", "exec", name), carrier)
    finally:
        if carrier is not None:
            carrier.send_signal(signal.SIGTERM)
            carrier.wait(10)
        subprocess.run(["ip", "netns", "del", name], check=False)


class Carrier:
    """Carries packets of one direction."""

    def __init__(self, from_: int, to: int, settings: NetworkSettings, seed: int) -> None:
        self._from, self._to, self._settings = from_, to, settings
        self._draw = random.Random(seed)
        self._free_at = 0.0
        self._burst_until = 0.0
        self._queue: deque[bytes] = deque()

    def readable(self) -> None:
        """Takes one packet."""
        packet = os.read(self._from, MTU + 64)
        now = time.monotonic()
        settings = self._settings
        if packet[0] >> 4 != 4 or packet[9] != UDP:
            self._deliver(packet)
            return
        burst_s = max(0.0, self._burst_until - now)
        if self._draw.random() < settings.loss or (burst_s and not settings.stalls):
            return
        delay = (settings.delay_ms + self._draw.uniform(0, settings.jitter_ms)) / 1000
        self._free_at = max(self._free_at, now + delay + burst_s)
        self._queue.append(packet)
        asyncio.get_running_loop().call_at(self._free_at, lambda: self._deliver(self._queue.popleft()))

    def burst(self) -> None:
        """A burst begins."""
        self._burst_until = time.monotonic() + self._settings.burst_ms / 1000

    def _deliver(self, packet: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self._to, packet)


async def carry(name: str, here: str, there: str, settings: NetworkSettings) -> None:
    """Carries packets until SIGTERM."""
    outer, inner = _tun(f"{name}a"), _tun(f"{name}b")
    _address(name, here, there)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    ways = Carrier(outer, inner, settings, settings.seed), Carrier(inner, outer, settings, settings.seed + 1)
    loop.add_reader(outer, ways[0].readable)
    loop.add_reader(inner, ways[1].readable)

    def burst() -> None:
        for way in ways:
            way.burst()

    loop.add_signal_handler(signal.SIGUSR1, burst)
    print("carrying", flush=True)
    await stop.wait()
    os.close(outer)
    os.close(inner)


def _address(name: str, here: str, there: str) -> None:
    inside = ("ip", "netns", "exec", name)
    for command in (
        ("ip", "link", "set", f"{name}b", "netns", name),
        ("ip", "addr", "add", here, "peer", there, "dev", f"{name}a"),
        ("ip", "link", "set", f"{name}a", "up"),
        (*inside, "ip", "addr", "add", there, "peer", here, "dev", f"{name}b"),
        (*inside, "ip", "link", "set", f"{name}b", "up"),
        (*inside, "ip", "link", "set", "lo", "up"),
    ):
        subprocess.run(command, check=True)


def _tun(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


if __name__ == "__main__":
    _, *names, told = sys.argv
    asyncio.run(carry(names[0], names[1], names[2], NetworkSettings(**json.loads(told))))
