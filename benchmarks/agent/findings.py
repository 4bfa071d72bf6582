"""What the measurements say, as a page has it."""

import statistics
from collections.abc import Callable, Sequence

from benchmarks.agent.measuring import Sample
from benchmarks.report import Curve, Figure, Plot, Section

COST_TEXT = """\
Milliseconds of processor time that all processes of a system take for each second of one call, by the kernel's
account. Every 10 s each caller asks a recorded question over a quiet room's noise, and hears it back when the bot
has decided that the turn is over; so a fifth of the time one side speaks, and another fifth the other. Callers are
packets that were encoded before, in a process that is not counted.

- **agent**: `python -m services.agent` as it is, with two SIP workers, over model services that echo: the messages
  are those of models, in the same sizes. Redis and the echoing services are not counted.
- **bare bot** (the reference): pipecat's SmallWebRTC transport over aiortc, its Silero voice activity and
  smart-turn with their default settings, uvicorn as pipecat's runner starts it, and a processor that plays a turn
  back: `benchmarks/agent/bare_bot.py`.

All are idle while another one is measured, and they take turns in changing order. The value is the median of the
rounds, with the least and the most; a ratio over 1 means that the agent costs less than the bare bot in the same
rounds."""

LIMIT_TEXT = """\
Echo calls over WebRTC at once on one process, callers as in [agent-cost.md](agent-cost.md). Late: share of the
packets with sound that come 60 ms or more after they were due, which a browser plays as a gap. Request: how long an
HTTP request that needs nothing takes, 95th percentile, so what the event loop is behind. Where the callers' own
loop lags too, the machine is the limit."""


def _of(samples: Sequence[Sample], system: str, leg: str, calls: int) -> list[Sample]:
    return [s for s in samples if (s.system, s.leg, s.calls) == (system, leg, calls)]


def _middle(samples: Sequence[Sample], what: Callable[[Sample], float]) -> float:
    return statistics.median(what(sample) for sample in samples)


def cost(samples: Sequence[Sample]) -> Section:
    """A figure for each leg and level, beside the bare bot's of the same level."""
    levels = sorted({sample.calls for sample in samples})
    figures = []
    for leg, name in (("webrtc", "WebRTC"), ("sip", "SIP (G.711)")):
        for calls in levels:
            ours, bare = _of(samples, "agent", leg, calls), _of(samples, "bare bot", "webrtc", calls)
            own = [sample.ms for sample in ours]
            others = [sample.ms for sample in bare]
            note = f"{min(own):.1f} to {max(own):.1f}; bare bot {min(others):.1f} to {max(others):.1f}"
            value, reference = statistics.median(own), statistics.median(others)
            figures.append(Figure(f"{name}, {calls} at once", value, "ms", reference, note=note))
    curves = [
        Curve(name, levels, [_middle(_of(samples, system, leg, calls), lambda s: s.ms) for calls in levels])
        for name, system, leg in (
            ("agent, WebRTC", "agent", "webrtc"),
            ("agent, SIP", "agent", "sip"),
            ("bare bot, WebRTC", "bare bot", "webrtc"),
        )
    ]
    plot = Plot("agent-cost", "Processor time of a call", "calls at once", "ms per second of call", curves)
    return Section("Per second of call", COST_TEXT, figures, [plot])


def limit(samples: Sequence[Sample]) -> Section:
    """Late packets and the event loop's lag against calls."""
    levels = sorted({sample.calls for sample in samples})
    wanted: tuple[tuple[str, str, Callable[[Sample], float]], ...] = (
        ("late packets", "%", lambda s: 100 * s.late_share),
        ("gap, 99th percentile", "ms", lambda s: 1000 * s.gap_p99_s),
        ("request, 95th percentile", "ms", lambda s: 1000 * s.probe_p95_s),
        ("of one core", "%", lambda s: 100 * s.busy),
    )
    figures = []
    for calls in levels:
        ours, bare = _of(samples, "agent", "webrtc", calls), _of(samples, "bare bot", "webrtc", calls)
        lag = 1000 * _middle([*ours, *bare], lambda s: s.own_probe_p95_s)
        for what, unit, value in wanted:
            note = f"callers' own lag {lag:.0f} ms" if what.startswith("request") else ""
            figures.append(
                Figure(f"{calls} calls: {what}", _middle(ours, value), unit, _middle(bare, value), note=note)
            )
    curves = [
        Curve(
            system, levels, [1000 * _middle(_of(samples, system, "webrtc", n), lambda s: s.probe_p95_s) for n in levels]
        )
        for system in ("agent", "bare bot")
    ]
    plot = Plot("agent-limit", "A request that needs nothing, p95", "WebRTC calls at once", "ms", curves)
    return Section("On one process", LIMIT_TEXT, figures, [plot])
