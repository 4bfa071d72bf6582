"""What running processes tell of themselves: a turn's trace over all of them, metrics that calls move, logs as JSON."""

import asyncio
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.agent.waterfall import STAGES
from services.common.telemetry.catalogue import MODEL_SERVICES, SERVICES, Kind, of_service
from tests.integration.collector import Collector, collecting
from tests.integration.personas import short_persona
from tests.integration.stack import HOST, ROOT, Agent, Process, Stack, free_again, nano_weights, running
from tests.integration.turn_traces import AGENT, TURN, answered_turn, whole_turn
from tests.integration.webrtc_caller import Caller, calling, sample

# what a span may say; nothing of it is personal
ATTRIBUTES = re.compile(
    r"trunkline\.(call\.id|turn\.(number|outcome)|cancelled|lm\.(command|tokens)|decoder\.tokens)|rpc\.\w+|error\.type"
)
Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]  # by name and labels
ENDPOINT = re.compile(r'"port": (\d+), .*"metrics are served"')


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def told_stack(
    collector: Collector, tmp_path_factory: pytest.TempPathFactory, require_debian: Callable[..., None]
) -> Iterator[Stack]:
    """Model services that tell of themselves in every way there is."""
    require_debian("redis-server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRUNKLINE_METRICS_LISTEN", f"{HOST}:0")
        patch.setenv("TRUNKLINE_LOG_FORMAT", "json")
        for name, value in collector.environment.items():
            patch.setenv(name, value)
        with running(tmp_path_factory.mktemp("told-stack"), nano_weights()) as stack:
            yield stack


@pytest.fixture(scope="module")
def agent(told_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    personas = short_persona(tmp_path_factory.mktemp("personas"), 60)
    with told_stack.agent(personas=personas, sip=True) as agent:
        yield agent


@pytest.fixture(scope="module")
def processes(told_stack: Stack, agent: Agent) -> dict[str, Process]:
    return {"agent": agent.process, **{name: told_stack.processes[name] for name in MODEL_SERVICES}}


def scrape(process: Process) -> Samples:
    """The samples at a process's endpoint."""
    match = ENDPOINT.search(process.log.read_text())
    assert match is not None, process.tail()
    text = httpx.get(f"http://{HOST}:{match[1]}/metrics", timeout=60).raise_for_status().text
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for item in family.samples:
            found.setdefault(item.name, {})[tuple(sorted(item.labels.items()))] = item.value
    return found


def total(samples: Samples, name: str, **labels: str) -> float:
    wanted = set(labels.items())
    return sum(value for given, value in samples[name].items() if wanted <= set(given))


async def answered(caller: Caller, collector: Collector) -> None:
    """Has a question answered to its end. A machine that stalls may cut a question in two: then it is asked again."""
    for _ in range(4):
        await caller.bot_is_quiet()
        count = len(caller.latencies())
        caller.microphone.say(sample("opening-hours"))
        await caller.until(lambda count=count: len(caller.latencies()) > count, "an answer")  # type: ignore[misc]
        await caller.bot_is_quiet()
        if collector.wait(lambda spans: answered_turn(spans, caller.call_id) is not None, 10):
            return
    raise AssertionError("no answer was heard to its end")


@dataclass
class Told:
    """What all processes said before, during and after a call from a page."""

    call_id: str
    stages: list[dict[str, float]]  # as the page was told them, turn by turn
    before: dict[str, Samples]
    during: dict[str, Samples]
    after: dict[str, Samples]

    def more(self, service: str, name: str, **labels: str) -> float:
        """By how much the call moved a metric."""
        return total(self.after[service], name, **labels) - total(self.before[service], name, **labels)


@pytest.fixture(scope="module")
def told(agent: Agent, collector: Collector, processes: dict[str, Process]) -> Told:
    async def converse() -> Told:
        before = {name: scrape(process) for name, process in processes.items()}
        async with calling(agent.page) as caller:
            await answered(caller, collector)
            during = {name: scrape(process) for name, process in processes.items()}
        await free_again(agent)
        after = {name: scrape(process) for name, process in processes.items()}
        return Told(caller.call_id, caller.latencies(), before, during, after)

    return asyncio.run(converse())


def test_a_turn_is_one_trace_over_four_processes(told: Told, collector: Collector) -> None:
    trace = whole_turn(collector, told.call_id)
    for span in trace:
        assert span.start_ns <= span.end_ns
        unknown = {name: value for name, value in span.attributes.items() if not ATTRIBUTES.fullmatch(name)}
        assert not unknown, f"{span.told} says {unknown}"
    assert {span.told for span in collector.spans if not span.parent_id} == {TURN}, "other libraries trace too"
    (root,) = [span for span in trace if span.told == TURN]
    ends = {span.name: span.end_ns for span in trace if span.parent_id == root.span_id and span.service == AGENT}
    since = {stage: (ends[stage] - ends["caller_speech"]) / 1e6 for stage in STAGES}
    assert any(since == pytest.approx(stages, abs=5) for stages in told.stages), "the page was told other times"


def test_log_lines_are_json_and_name_their_trace(
    told: Told, collector: Collector, processes: dict[str, Process]
) -> None:
    root = answered_turn(collector.spans, told.call_id)
    assert root is not None
    lines = {name: list(_json_lines(process)) for name, process in processes.items()}
    wanted = {
        "message": "turn",
        "call_id": told.call_id,
        "turn": root.attributes["trunkline.turn.number"],
        "level": "INFO",
        "trace_id": root.trace_id,
    }
    assert [line for line in lines["agent"] if wanted.items() <= line.items()]
    utterances = [line for line in lines["tokenizer"] if line["message"] == "utterance tokenised"]
    assert root.trace_id in {line.get("trace_id") for line in utterances}


def _json_lines(process: Process) -> Iterator[dict[str, Any]]:
    """All lines but the one on stdout that says where it serves."""
    for line in process.log.read_text().splitlines():
        if "serving on port" not in line:
            yield json.loads(line)


def test_every_metric_of_the_catalogue_is_there_with_all_its_series(told: Told) -> None:
    for service in SERVICES:
        samples = told.before[service]
        for metric in of_service(service):
            name = metric.name + ("_count" if metric.kind is Kind.HISTOGRAM else "")
            series = {
                tuple(sorted(zip(metric.labels, values, strict=True))) for values in product(*metric.labels.values())
            }
            assert set(samples[name]) == series, f"{service}: {name}"


def test_a_call_moves_the_metrics(told: Told) -> None:
    turns = len(told.stages)
    assert total(told.during["agent"], "trunkline_calls_active", leg="webrtc") == 1
    assert total(told.after["agent"], "trunkline_calls_active") == 0
    assert total(told.after["agent"], "trunkline_calls_capacity") == 2
    assert told.more("agent", "trunkline_calls_total", leg="webrtc", outcome="caller") == 1
    assert told.more("agent", "trunkline_first_audio_seconds_count", leg="webrtc") == turns
    assert told.more("agent", "trunkline_first_audio_seconds_sum", leg="webrtc") == pytest.approx(
        sum(stages["first_packet"] for stages in told.stages) / 1000
    )
    assert told.more("agent", "trunkline_stage_seconds_count", stage="first_pcm") >= turns
    assert told.more("agent", "trunkline_rtp_packets_received_total", leg="webrtc") > 50
    assert told.more("agent", "trunkline_rtp_jitter_seconds_count", leg="webrtc") == 1
    assert 1.0 <= told.more("agent", "trunkline_call_mos_sum", leg="webrtc") <= 4.5
    assert total(told.after["agent"], "trunkline_replicas_ready") == 3
    for service in MODEL_SERVICES:
        assert total(told.during[service], "trunkline_model_streams") >= 1
        assert total(told.after[service], "trunkline_model_streams") == 0
        assert total(told.after[service], "trunkline_model_capacity") == 4
        assert told.more(service, "trunkline_model_step_seconds_count") > 0
        assert told.more(service, "trunkline_model_queue_seconds_count") > 0
        steps = told.more(service, "trunkline_model_batch_size_count")
        assert told.more(service, "trunkline_model_batch_size_sum") >= steps
    assert told.more("lm", "trunkline_lm_tokens_total", kind="prompt") > 10
    assert told.more("lm", "trunkline_lm_tokens_total", kind="speech") > 10
    assert told.more("lm", "trunkline_lm_tokens_total", kind="text") > 0
    assert 0 < total(told.during["lm"], "trunkline_lm_kv_used_ratio") < 1
    assert told.more("tokenizer", "trunkline_tokenizer_audio_seconds_total") > 1.0
    assert told.more("decoder", "trunkline_decoder_audio_seconds_total") > 0.5


def test_metrics_are_pushed_too(told: Told, collector: Collector) -> None:
    wanted = {
        (f"trunkline-{service}", metric.instrument)
        for service in SERVICES
        for metric in of_service(service)
        if metric.kind is Kind.GAUGE
    }
    assert collector.wait(lambda _: wanted <= collector.metrics), wanted - collector.metrics
    assert all(name.startswith("trunkline.") for _, name in collector.metrics), "other libraries measure too"


async def test_a_phone_call_tells_how_its_audio_came_in(
    told: Told, agent: Agent, processes: dict[str, Process], tmp_path: Path
) -> None:
    asking = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.agent.ask", str(ROOT / "samples" / "opening-hours.wav"),
        "--out", str(tmp_path / "reply.wav"), "--sip", f"{HOST}:{agent.sip_port}", "--calls", agent.calls, cwd=ROOT,
    )  # fmt: skip
    assert await asking.wait() == 0
    await free_again(agent)
    end = time.monotonic() + 30
    while not total(after := scrape(processes["agent"]), "trunkline_rtp_jitter_seconds_count", leg="sip"):
        assert time.monotonic() < end, "the SIP worker has said nothing"
        await asyncio.sleep(0.1)
    assert total(after, "trunkline_calls_total", leg="sip", outcome="caller") == 1
    assert total(after, "trunkline_first_audio_seconds_count", leg="sip") >= 1
    assert total(after, "trunkline_rtp_packets_received_total", leg="sip") > 50
    assert 1.0 <= total(after, "trunkline_call_mos_sum", leg="sip") <= 4.5
