"""What telemetry costs the language model's engine: `python -m tests.acceptance.telemetry_cost`.

In one process: the processor time of a step of the model, and that of what is measured of a step, first with telemetry
off and then with it on. Their ratio is what counts; what other programs on the machine take is in neither.
"""

import argparse
import asyncio
import statistics
import time
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


async def step_us(engine: TorchEngine, template: ChatTemplate) -> float:
    """Processor time of a step, microseconds, over a round of answers."""
    steps, began = engine.meter.steps, time.process_time()
    await asyncio.gather(*(answer(engine, template, seed) for seed in range(SESSIONS)))
    return (time.process_time() - began) * 1e6 / (engine.meter.steps - steps)


def measuring_us(meter: EngineMeter, times: int = 100_000) -> float:
    """Processor time of all that is measured of a step, microseconds; more than any step has."""
    began = time.process_time()
    for _ in range(times):
        start = time.monotonic()
        meter.waited(time.monotonic() - start)
        meter.stepped(SESSIONS, time.monotonic() - start)
        traces.current()
    return (time.process_time() - began) / times * 1e6


async def measure(rounds: int) -> str:
    settings = Settings(weights=nano_weights()["lm"], listen=f"{HOST}:0", threads=1, capacity=SESSIONS)
    template = ChatTemplate.load(settings.weights)
    engine = build(settings, template).engine
    assert isinstance(engine, TorchEngine)
    await step_us(engine, template)  # what is done once
    steps = []
    for number in range(rounds):
        steps.append(await step_us(engine, template))
        print(f"round {number + 1} of {rounds}: {steps[-1]:.0f} us a step", flush=True)
    engine.stop()
    meter = EngineMeter("lm")
    off = statistics.median(measuring_us(meter) for _ in range(rounds))
    # a service does not load it when telemetry is off
    from services.common.telemetry.sdk import export_metrics

    export_metrics("lm", of_service("lm"), (HOST, 0), pushes=False)
    on = statistics.median(measuring_us(meter) for _ in range(rounds))
    step = statistics.median(steps)
    return f"""# What telemetry costs

`python -m tests.acceptance.telemetry_cost`: the nano language model answers {SESSIONS} sessions at once, of {TOKENS}
tokens each, on one thread. Medians of {rounds} rounds, processor time in one process:

| | µs | of a step |
|---|---|---|
| a step of the model | {step:.0f} | |
| what is measured of it, telemetry off | {off:.1f} | {off / step:.3%} |
| the same with metrics for Prometheus | {on:.1f} | {on / step:.3%} |

A step of a larger model takes longer, and its measuring does not.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--report", type=Path, default=REPORT)
    arguments = parser.parse_args()
    arguments.report.write_text(asyncio.run(measure(arguments.rounds)))
    print(arguments.report.read_text())


if __name__ == "__main__":
    main()
