"""A turn's trace goes through Triton, and the engines there tell of themselves at Triton's own port."""

import asyncio
import time
from pathlib import Path

from services.common.telemetry.catalogue import MODEL_SERVICES
from tests.integration.collector import Collector
from tests.integration.personas import short_persona
from tests.integration.stack import Stack, free_again
from tests.integration.test_telemetry import answered
from tests.integration.turn_traces import whole_turn
from tests.integration.webrtc_caller import calling
from tests.triton.server import TritonServer

PUBLISHED_S = 30.0
SUMS = ("queue_seconds_count", "queue_seconds_sum", "step_seconds_count", "step_seconds_sum", "batch_size_sum")


async def test_a_turn_is_one_trace_through_triton_and_moves_its_metrics(
    stack: Stack, triton: TritonServer, collector: Collector, tmp_path: Path
) -> None:
    before = await triton.metrics()
    with stack.agent(personas=short_persona(tmp_path / "personas", 60)) as agent:
        async with calling(agent.page) as caller:
            await answered(caller, collector)
            await _until_above(triton, "trunkline_lm_kv_used_ratio", 0.0)
        whole_turn(collector, caller.call_id, triton=True)
        await free_again(agent)
    for service in MODEL_SERVICES:
        for name in SUMS:
            series = f'trunkline_model_{name}{{service="{service}"}}'
            await _until_above(triton, series, before[series])
        assert f'trunkline_model_pending_requests{{service="{service}"}}' in before
    await triton.until_idle()


async def _until_above(triton: TritonServer, series: str, value: float) -> None:
    """Metrics are published a moment after what they tell of."""
    end = time.monotonic() + PUBLISHED_S
    while (await triton.metrics())[series] <= value:
        assert time.monotonic() < end, f"{series} stays at {value}"
        await asyncio.sleep(0.1)
