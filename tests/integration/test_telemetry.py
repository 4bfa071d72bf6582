"""What running processes tell of themselves: a turn's trace over all of them, metrics that calls move, logs as JSON."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.common.telemetry.catalogue import MODEL_SERVICES, SERVICES, Kind, of_service
from tests.integration.collector import Collector, collecting
from tests.integration.personas import short_persona
from tests.integration.stack import HOST, Agent, Process, Stack, free_again, nano_weights, running
from tests.integration.turn_traces import AGENT, TURN, answered_turn, whole_turn
from tests.integration.webrtc_caller import Caller, calling, sample

# what a span may say; nothing of it is personal
ATTRIBUTES = re.compile(
    r"trunkline\.(call\.id|turn\.(number|outcome)|cancelled|lm\.(command|tokens)|decoder\.tokens)|rpc\.\w+|error\.type"
)
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
    with told_stack.agent(personas=personas) as agent:
        yield agent


@pytest.fixture(scope="module")
def processes(told_stack: Stack, agent: Agent) -> dict[str, Process]:
    return {"agent": agent.process, **{name: told_stack.processes[name] for name in MODEL_SERVICES}}


def scrape(process: Process) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """The samples at a process's endpoint, by name and labels."""
    match = ENDPOINT.search(process.log.read_text())
    assert match is not None, process.tail()
    text = httpx.get(f"http://{HOST}:{match[1]}/metrics", timeout=30).raise_for_status().text
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for item in family.samples:
            found.setdefault(item.name, {})[tuple(sorted(item.labels.items()))] = item.value
    return found


def total(samples: dict[str, dict[tuple[tuple[str, str], ...], float]], name: str, **labels: str) -> float:
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


async def test_a_turn_is_one_trace_over_four_processes(agent: Agent, collector: Collector) -> None:
    async with calling(agent.page) as caller:
        await answered(caller, collector)
    trace = whole_turn(collector, caller.call_id)
    for span in trace:
        assert span.start_ns <= span.end_ns
        told = {name: value for name, value in span.attributes.items() if not ATTRIBUTES.fullmatch(name)}
        assert not told, f"{span.told} says {told}"
    assert {span.told for span in collector.spans if not span.parent_id} == {TURN}, "other libraries trace too"
    (root,) = [span for span in trace if span.told == TURN]
    stages = {span.name: span for span in trace if span.parent_id == root.span_id and span.service == AGENT}
    (latency,) = [stages for stages in caller.latencies() if "first_packet" in stages][-1:]
    for stage, milliseconds in latency.items():
        since = (stages[stage].end_ns - stages["caller_speech"].end_ns) / 1e6
        assert since == pytest.approx(milliseconds, abs=5), f"{stage}: the page was told another time"


async def test_log_lines_are_json_and_name_their_trace(
    agent: Agent, collector: Collector, processes: dict[str, Process]
) -> None:
    async with calling(agent.page) as caller:
        await answered(caller, collector)
    root = answered_turn(collector.spans, caller.call_id)
    assert root is not None
    await free_again(agent)
    lines = {name: list(_json_lines(process)) for name, process in processes.items()}
    (turn,) = [
        line
        for line in lines["agent"]
        if line["message"] == "turn"
        and line["call_id"] == caller.call_id
        and line["turn"] == root.attributes["trunkline.turn.number"]
    ]
    assert (turn["level"], turn["trace_id"]) == ("INFO", root.trace_id)
    assert "first_packet" in turn
    utterances = [line for line in lines["tokenizer"] if line["message"] == "utterance tokenised"]
    assert root.trace_id in {line["trace_id"] for line in utterances}


def _json_lines(process: Process) -> Iterator[dict[str, Any]]:
    """All lines but the one on stdout that says where it serves."""
    for line in process.log.read_text().splitlines():
        if "serving on port" not in line:
            yield json.loads(line)


def test_every_metric_of_the_catalogue_is_there_with_all_its_series(processes: dict[str, Process]) -> None:
    for service in SERVICES:
        samples = scrape(processes[service])
        for metric in of_service(service):
            name = metric.name + ("_count" if metric.kind is Kind.HISTOGRAM else "")
            series = 1
            for values in metric.labels.values():
                series *= len(values)
            assert len(samples[name]) == series, f"{service}: {name}"
            for labels in samples[name]:
                assert {key: value for key, value in labels if value in metric.labels[key]} == dict(labels)


async def test_a_call_moves_the_metrics(agent: Agent, collector: Collector, processes: dict[str, Process]) -> None:
    await free_again(agent)
    before = {name: scrape(process) for name, process in processes.items()}
    async with calling(agent.page) as caller:
        await answered(caller, collector)
        during = {name: scrape(process) for name, process in processes.items()}
        turns = len(caller.latencies())
    await free_again(agent)
    after = {name: scrape(process) for name, process in processes.items()}

    def more(service: str, name: str, **labels: str) -> float:
        return total(after[service], name, **labels) - total(before[service], name, **labels)

    assert total(during["agent"], "trunkline_calls_active", leg="webrtc") == 1
    assert total(after["agent"], "trunkline_calls_active") == 0
    assert total(after["agent"], "trunkline_calls_capacity") == 2
    assert more("agent", "trunkline_calls_total", leg="webrtc", outcome="caller") == 1
    assert more("agent", "trunkline_first_audio_seconds_count", leg="webrtc") == turns
    assert more("agent", "trunkline_first_audio_seconds_sum", leg="webrtc") == pytest.approx(
        sum(stages["first_packet"] for stages in caller.latencies()) / 1000
    )
    assert more("agent", "trunkline_stage_seconds_count", stage="first_pcm") >= turns
    assert more("agent", "trunkline_rtp_packets_received_total", leg="webrtc") > 50
    assert more("agent", "trunkline_rtp_jitter_seconds_count", leg="webrtc") == 1
    assert 1.0 <= more("agent", "trunkline_call_mos_sum", leg="webrtc") <= 4.5
    assert total(after["agent"], "trunkline_replicas_ready") == 3
    for service in MODEL_SERVICES:
        assert total(during[service], "trunkline_model_streams") >= 1
        assert total(after[service], "trunkline_model_streams") == 0
        assert total(after[service], "trunkline_model_capacity") == 4
        assert more(service, "trunkline_model_step_seconds_count") > 0
        assert more(service, "trunkline_model_queue_seconds_count") > 0
        assert more(service, "trunkline_model_batch_size_sum") >= more(service, "trunkline_model_batch_size_count")
    assert more("lm", "trunkline_lm_tokens_total", kind="prompt") > 10
    assert (
        more("lm", "trunkline_lm_tokens_total", kind="speech") + more("lm", "trunkline_lm_tokens_total", kind="text")
        >= 2 * turns
    )
    assert 0 < total(during["lm"], "trunkline_lm_kv_used_ratio") < 1
    assert more("tokenizer", "trunkline_tokenizer_audio_seconds_total") > 1.0
    assert more("decoder", "trunkline_decoder_audio_seconds_total") > 0.5


def test_metrics_are_pushed_too(processes: dict[str, Process], collector: Collector) -> None:
    wanted = {
        (f"trunkline-{service}", metric.instrument)
        for service in SERVICES
        for metric in of_service(service)
        if metric.kind is Kind.GAUGE
    }
    assert collector.wait(lambda _: wanted <= collector.metrics), wanted - collector.metrics
    assert all(name.startswith("trunkline.") for _, name in collector.metrics), "other libraries measure too"
