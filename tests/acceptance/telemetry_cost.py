"""What telemetry costs the language model's engine: `python -m tests.acceptance.telemetry_cost`.

The same answers are generated again and again, by turns without the measuring and with it, first with telemetry off and
then with it on, in one process. Its processor time is compared: what other programs on the machine take is not in it.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from services.common.telemetry import traces
from services.common.telemetry.catalogue import of_service
from services.common.telemetry.model_service import EngineMeter
from services.lm.build import Settings, build
from services.lm.engine import Event, Finished, GenerationSettings
from services.lm.prompt import ChatTemplate
from services.lm.torch_engine.engine import TorchEngine
from tests.integration.stack import HOST, ROOT, nano_weights

REPORT = ROOT / "docs" / "benchmarks" / "telemetry.md"
SESSIONS = 4
TOKENS = 100


class NoMeter(EngineMeter):
    """Measures nothing."""

    def waited(self, seconds: float) -> None:
        pass

    def stepped(self, streams: int, seconds: float) -> None:
        pass


async def answer(engine: TorchEngine, template: ChatTemplate, seed: int) -> None:
    over = asyncio.Event()

    def emit(event: Event) -> None:
        if isinstance(event, Finished):
            over.set()

    ids = [*template.prefix, *template.system("You are brief."), *template.user_text("When are you open?")]
    session = await engine.open(ids, emit)
    await session.generate(GenerationSettings(temperature=1.0, seed=seed, max_new_tokens=TOKENS))
    await over.wait()
    session.close()


async def seconds_of_round(engine: TorchEngine, template: ChatTemplate, meter: EngineMeter) -> float:
    """Processor time of a round of answers."""
    engine.meter = meter
    began = time.process_time()
    await asyncio.gather(*(answer(engine, template, seed) for seed in range(SESSIONS)))
    return time.process_time() - began


async def compared(engine: TorchEngine, template: ChatTemplate, rounds: int, title: str) -> list[float]:
    """For each round the time with the measuring, as a multiple of that without."""
    ratios = []
    for number in range(rounds):
        pair: dict[bool, float] = {}
        for measured in (True, False) if number % 2 else (False, True):
            pair[measured] = await seconds_of_round(engine, template, EngineMeter("lm") if measured else NoMeter("lm"))
        ratios.append(pair[True] / pair[False])
        print(f"{title}: round {number + 1} of {rounds}: {ratios[-1]:.3f}", flush=True)
    return ratios


def nanoseconds(work: Callable[[], object], times: int = 200_000) -> float:
    """Processor time of one call."""
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times * 1e9


def row(title: str, ratios: list[float]) -> str:
    middle = statistics.median(ratios)
    low, _, high = statistics.quantiles(ratios, n=4)
    return f"| {title} | {middle:.3f} | {low:.3f} to {high:.3f} | {len(ratios)} |"


async def measure(rounds: int) -> str:
    settings = Settings(weights=nano_weights()["lm"], listen=f"{HOST}:0", threads=1, capacity=SESSIONS)
    template = ChatTemplate.load(settings.weights)
    engine = build(settings, template).engine
    assert isinstance(engine, TorchEngine)
    await compared(engine, template, 1, "warm-up")
    meter = EngineMeter("lm")
    off = await compared(engine, template, rounds, "off")
    took_off = nanoseconds(lambda: meter.stepped(4, 0.01)) / 1000
    asked, told = nanoseconds(traces.current) / 1000, nanoseconds(traces.traceparent) / 1000
    assert not any(name.startswith("opentelemetry.sdk") for name in sys.modules)
    # loads the SDK, which off is not there
    from services.common.telemetry.sdk import export_metrics

    export_metrics("lm", of_service("lm"), (HOST, 0), pushes=False)
    on = await compared(engine, template, rounds, "on")
    took_on = nanoseconds(lambda: meter.stepped(4, 0.01)) / 1000
    engine.stop()
    return f"""# What telemetry costs

`python -m tests.acceptance.telemetry_cost`: the nano language model answers {SESSIONS} sessions at once, of {TOKENS}
tokens each, on one thread, by turns with the measuring in its engine and with none at all. Processor time of a round,
as a multiple of that without:

| telemetry | median | quartiles | rounds |
|---|---|---|---|
{row("off (no SDK loaded)", off)}
{row("metrics for Prometheus", on)}

One measurement of a step (batch size and duration): {took_off:.2f} µs off, {took_on:.2f} µs on. Asking whether there is
a trace: {asked:.2f} µs, what to send for it: {told:.2f} µs, both with traces off.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--report", type=Path, default=REPORT)
    arguments = parser.parse_args()
    arguments.report.write_text(asyncio.run(measure(arguments.rounds)))
    print(arguments.report.read_text())


if __name__ == "__main__":
    main()
