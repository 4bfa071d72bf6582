"""One measurement: so many calls at once to one system, what they cost it, and what its callers heard."""

import asyncio
import contextlib
import time
from dataclasses import dataclass

import httpx

from benchmarks.agent import sip_caller, web_caller
from benchmarks.agent.hearing import Hearing
from benchmarks.agent.script import PACKET_S, PERIOD_S, script
from benchmarks.agent.sip_caller import SipCaller
from benchmarks.agent.systems import System, process_s
from benchmarks.agent.web_caller import WebCaller
from loadtest.sim.run import percentile

BETWEEN_S = 0.1  # from one call to the next
PROBE_S = 0.1
RESTS_S = 1.0  # after the last call, before the next measurement


@dataclass(frozen=True)
class Sample:
    """What one measurement found.

    Attributes:
        leg: `sip` or `webrtc`.
        ms: processor time of all the system's processes, milliseconds per second of call.
        main_ms: of its main process alone.
        busy: of the main process, in processors: what all calls together take of one core.
        sound_share: of the packets that a caller got, how many had sound in them.
        late_share: of those with sound, how many came so late that they are heard as a gap; all callers together.
        gap_p99_s: how much later than 20 ms after the one before it a packet with sound comes, 99th percentile.
        probe_p95_s: an HTTP request to the system, 95th percentile: what the event loop is behind, and a bit.
        own_probe_p95_s: what the callers' own event loop is behind, by the same measure.
        calls_lost: calls that were not heard of any more at the end.
    """

    system: str
    leg: str
    calls: int
    seconds: float
    ms: float
    main_ms: float
    busy: float
    sound_share: float
    late_share: float
    gap_p99_s: float
    probe_p95_s: float
    own_probe_p95_s: float
    calls_lost: int


def _callers(system: System, leg: str, calls: int) -> list[WebCaller | SipCaller]:
    if leg == "sip":
        packets = sip_caller.packets_of(script(8_000))
        ports = system.sip_ports
        return [SipCaller(ports[n % len(ports)], packets, _start(n, calls, len(packets))) for n in range(calls)]
    packets = web_caller.packets_of(script(web_caller.RATE))
    return [WebCaller(system.page, packets, _start(n, calls, len(packets))) for n in range(calls)]


def _start(number: int, calls: int, packets: int) -> int:
    """Callers speak one after another, as far as the period has room."""
    return packets * number // calls


async def _probe(page: str, seconds: list[float]) -> None:
    """How long the system takes to answer a request that needs nothing."""
    async with httpx.AsyncClient(timeout=30.0) as client:
        while True:
            begin = time.monotonic()
            with contextlib.suppress(httpx.HTTPError):
                await client.get(f"{page}/healthz")
                seconds.append(time.monotonic() - begin)
            await asyncio.sleep(PROBE_S)


async def _lag(seconds: list[float]) -> None:
    while True:
        begin = time.monotonic()
        await asyncio.sleep(PACKET_S)
        seconds.append(max(0.0, time.monotonic() - begin - PACKET_S))


async def measure(system: System, leg: str, calls: int, seconds: float, settle_s: float = PERIOD_S / 2) -> Sample:
    """Makes the calls, waits for them to settle, and measures for some seconds."""
    async with contextlib.AsyncExitStack() as stack:
        callers = _callers(system, leg, calls)
        for one in callers:
            await stack.enter_async_context(one)
            await asyncio.sleep(BETWEEN_S)
        await asyncio.sleep(settle_s)
        probes: list[float] = []
        lags: list[float] = []
        probing = [asyncio.create_task(_probe(system.page, probes)), asyncio.create_task(_lag(lags))]
        begin, cpu, main = time.monotonic(), system.cpu_s(), process_s(system.pids[0])
        await asyncio.sleep(seconds)
        end, cpu, main = time.monotonic(), system.cpu_s() - cpu, process_s(system.pids[0]) - main
        for task in probing:
            task.cancel()
        await asyncio.gather(*probing, return_exceptions=True)
        heard = [one.hearing.between(begin, end) for one in callers]
    await asyncio.sleep(RESTS_S)
    lasted = end - begin
    gaps = [gap for hearing in heard for gap in hearing.gaps_s()]
    packets = sum(len(hearing.arrivals) for hearing in heard)
    return Sample(
        system=system.name,
        leg=leg,
        calls=calls,
        seconds=lasted,
        ms=1000 * cpu / lasted / calls,
        main_ms=1000 * main / lasted / calls,
        busy=main / lasted,
        sound_share=sum(hearing.sound_packets for hearing in heard) / packets if packets else 0.0,
        late_share=_late(heard),
        gap_p99_s=percentile(gaps, 99) if gaps else 0.0,
        probe_p95_s=percentile(probes, 95) if probes else float("inf"),
        own_probe_p95_s=percentile(lags, 95) if lags else float("inf"),
        calls_lost=sum(not hearing.arrivals for hearing in heard),
    )


def _late(heard: list[Hearing]) -> float:
    gaps = sum(len(hearing.gaps_s()) for hearing in heard)
    return sum(hearing.late_share * len(hearing.gaps_s()) for hearing in heard) / gaps if gaps else 0.0
