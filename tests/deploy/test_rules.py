"""Alerts fire when they should and not before, and the queries of ScaledObjects give the number of pods that is wanted.

Everything that promtool is asked is read from the rendered chart.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.cases import CASES
from tests.deploy.tools import Object, run

Render = Callable[[str], list[Object]]
OF = 'namespace="voice",job="trunkline"'
RULES = "monitoring"  # the case whose rules are tested
STEP_S = 15


@dataclass(frozen=True)
class Alert:
    """Series with which an alert fires, and others with which it does not.

    Attributes:
        fires: from the start on; the alert must not fire before its `for` is over.
        labels: of what fires.
    """

    fires: dict[str, str]
    quiet: dict[str, str]
    labels: dict[str, str]


def at(name: str, **labels: str) -> str:
    """A series of the release."""
    return name + "{" + ",".join([OF, *(f'{label}="{value}"' for label, value in labels.items())]) + "}"


def bucket(name: str, below: str, rest: str, bound: str, **labels: str) -> dict[str, str]:
    """A histogram with a bucket up to `bound` and the last one."""
    return {at(name, **labels, le=bound): below, at(name, **labels, le="+Inf"): rest}


RELEASE = {"namespace": "voice", "job": "trunkline"}
ALERTS: dict[str, Alert] = {
    "TrunklineNoAgent": Alert({}, {at("trunkline_calls_capacity", pod="a"): "8x400"}, RELEASE),
    "TrunklineNoReplica": Alert(
        {
            at("trunkline_replicas_ready", pod="a", service="lm"): "0x400",
            at("trunkline_replicas_ready", pod="b", service="lm"): "2x400",
        },
        {at("trunkline_replicas_ready", pod="a", service="lm"): "1x400"},
        {"service": "lm"},
    ),
    "TrunklineReplicaFailures": Alert(
        {at("trunkline_replica_failures_total", pod="a", service="lm"): "0+1x400"},
        {at("trunkline_replica_failures_total", pod="a", service="lm"): "0x100 3x300"},
        {"service": "lm"},
    ),
    "TrunklineCallsRefused": Alert(
        {at("trunkline_calls_refused_total", pod="a", leg="sip", reason="capacity"): "0+1x400"},
        {at("trunkline_calls_refused_total", pod="a", leg="sip", reason="capacity"): "7x400"},
        {"leg": "sip", "reason": "capacity"},
    ),
    "TrunklineNearCapacity": Alert(
        {
            at("trunkline_calls_active", pod="a", leg="sip"): "7x400",
            at("trunkline_calls_active", pod="a", leg="webrtc"): "1x400",
            at("trunkline_calls_capacity", pod="a"): "8x400",
        },
        {
            at("trunkline_calls_active", pod="a", leg="sip"): "7x400",
            at("trunkline_calls_capacity", pod="a"): "8x400",
        },
        {},
    ),
    "TrunklineAgentDrainsLong": Alert(
        {at("trunkline_agent_draining", pod="a"): "1x400"},
        {at("trunkline_agent_draining", pod="a"): "1x20 0x400"},
        {**RELEASE, "pod": "a"},
    ),
    "TrunklineSlowFirstAudio": Alert(
        bucket("trunkline_first_audio_seconds_bucket", "0x400", "0+4x400", "1.0", pod="a", leg="sip")
        | {at("trunkline_first_audio_seconds_bucket", pod="a", leg="sip", le="2.0"): "0+4x400"},
        bucket("trunkline_first_audio_seconds_bucket", "0+4x400", "0+4x400", "0.7", pod="a", leg="sip"),
        {"leg": "sip"},
    ),
    "TrunklinePlaybackGaps": Alert(
        {
            at("trunkline_playback_gaps_total", pod="a"): "0+15x400",
            at("trunkline_calls_active", pod="a", leg="sip"): "4x400",
        },
        {
            at("trunkline_playback_gaps_total", pod="a"): "0x200 1x200",
            at("trunkline_calls_active", pod="a", leg="sip"): "4x400",
        },
        {},
    ),
    "TrunklinePacketLoss": Alert(
        {
            at("trunkline_rtp_packets_lost_total", pod="a", leg="sip"): "0+50x400",
            at("trunkline_rtp_packets_received_total", pod="a", leg="sip"): "0+700x400",
        },
        {
            at("trunkline_rtp_packets_lost_total", pod="a", leg="sip"): "0+5x400",
            at("trunkline_rtp_packets_received_total", pod="a", leg="sip"): "0+745x400",
        },
        {"leg": "sip"},
    ),
    "TrunklinePoorVoice": Alert(
        bucket("trunkline_call_mos_bucket", "0+2x400", "0+4x400", "3.1", pod="a", leg="sip"),
        bucket("trunkline_call_mos_bucket", "0x400", "0+4x400", "4.0", pod="a", leg="sip")
        | {at("trunkline_call_mos_bucket", pod="a", leg="sip", le="4.3"): "0+4x400"},
        {"leg": "sip"},
    ),
    "TrunklineModelQueue": Alert(
        {
            at("trunkline_model_queue_seconds_sum", pod="a", service="lm"): "0+3x400",
            at("trunkline_model_queue_seconds_count", pod="a", service="lm"): "0+15x400",
        },
        {
            at("trunkline_model_queue_seconds_sum", pod="a", service="lm"): "0+0.3x400",
            at("trunkline_model_queue_seconds_count", pod="a", service="lm"): "0+15x400",
        },
        {"service": "lm"},
    ),
    "TrunklineKvCacheFull": Alert(
        {at("trunkline_lm_kv_used_ratio", pod="a"): "0.97x400"},
        {at("trunkline_lm_kv_used_ratio", pod="a"): "0.9x400"},
        {"pod": "a"},
    ),
    "TrunklineTritonPending": Alert(
        {at("nv_inference_pending_request_count", pod="a", model="voice_lm"): "20x400"},
        {at("nv_inference_pending_request_count", pod="a", model="voice_lm"): "4x400"},
        {"model": "voice_lm", "pod": "a"},
    ),
    "TrunklineEdgeWithoutAgents": Alert(
        {at("trunkline_edge_workers_active", pod="a"): "0x400"},
        {at("trunkline_edge_workers_active", pod="a"): "4x400"},
        {"pod": "a"},
    ),
}


@dataclass(frozen=True)
class Load:
    """What a trigger makes of some load: what the query gives, and the pods that follow, having `pods` now."""

    series: dict[str, str]
    value: float
    pods: int
    wanted: int


def two_pods(name: str, first: str, second: str, **labels: str) -> dict[str, str]:
    return {at(name, pod="a", **labels): first, at(name, pod="b", **labels): second}


def streams(service: str) -> Load:
    """40 on two pods that stay, 9 on one that drains; 24 * 0.5 a pod."""
    name = "trunkline_model_streams"
    gone = {
        at(name, pod="c", service=service): "9x20",
        at("trunkline_model_draining", pod="c", service=service): "1x20",
        at("trunkline_model_draining", pod="a", service=service): "0x20",
    }
    others = {at(name, pod="a", service="other"): "100x20"}
    return Load(two_pods(name, "24x20", "16x20", service=service) | gone | others, 40.0, 2, 4)


def queue(service: str) -> Load:
    """Two waits a second and pod, of 31.25 ms each; 20 ms are allowed."""
    waits = two_pods("trunkline_model_queue_seconds_count", "0+32x20", "0+32x20", service=service)
    return Load(
        waits | two_pods("trunkline_model_queue_seconds_sum", "0+1x20", "0+1x20", service=service), 0.03125, 2, 4
    )


def pending(service: str) -> Load:
    return Load(two_pods("trunkline_model_pending_requests", "20x20", "5x20", service=service), 25.0, 2, 4)


TRITON_QUEUE = Load(
    two_pods("nv_inference_queue_duration_us", "0+1800000x20", "0+1800000x20", model="MODEL")
    | two_pods("nv_inference_request_success", "0+30x20", "0+30x20", model="MODEL"),
    60_000.0,
    2,
    6,
)
TRITON_PENDING = Load(two_pods("nv_inference_pending_request_count", "10x20", "10x20", model="MODEL"), 20.0, 2, 3)
LOADS: dict[str, Load] = {
    # 11 calls on pods that stay, 5 on one that drains; 8 * 0.6 a pod
    "calls": Load(
        two_pods("trunkline_calls_active", "6x20", "3x20", leg="sip")
        | {
            at("trunkline_calls_active", pod="a", leg="webrtc"): "2x20",
            at("trunkline_calls_active", pod="c", leg="sip"): "5x20",
            at("trunkline_agent_draining", pod="c"): "1x20",
            at("trunkline_agent_draining", pod="a"): "0x20",
        },
        11.0,
        2,
        3,
    ),
    "triton-queue": TRITON_QUEUE,
    "triton-pending": TRITON_PENDING,
}
for _service in ("tokenizer", "lm", "decoder"):
    LOADS |= {f"{_service}-streams": streams(_service), f"{_service}-queue": queue(_service)}
    LOADS |= {f"{_service}-pending": pending(_service)}


def rules(render: Render) -> list[Object]:
    [found] = [item for item in render(RULES) if item["kind"] == "PrometheusRule"]
    return [rule for group in found["spec"]["groups"] for rule in group["rules"]]


def seconds(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]


def promtool_test(promtool: Path, directory: Path, tests: list[Object], rule_groups: list[Object]) -> None:
    """Raises ToolError where a test fails; the message is promtool's."""
    (directory / "rules.yaml").write_text(yaml.safe_dump({"groups": rule_groups}))
    run(promtool, "check", "rules", directory / "rules.yaml")
    content = {"rule_files": ["rules.yaml"], "evaluation_interval": f"{STEP_S}s", "tests": tests}
    (directory / "tests.yaml").write_text(yaml.safe_dump(content))
    run(promtool, "test", "rules", "tests.yaml", cwd=directory)


def inputs(series: dict[str, str]) -> list[Object]:
    return [{"series": name, "values": values} for name, values in series.items()]


def firing(name: str, when_s: int, labels: dict[str, str] | None, severity: str) -> Object:
    """Whether an alert fires at a time, and with which labels."""
    samples = []
    if labels is not None:
        every = {"alertname": name, "alertstate": "firing", "severity": severity, **labels}
        text = ",".join(f'{label}="{value}"' for label, value in every.items())
        samples = [{"labels": f"ALERTS{{{text}}}", "value": 1}]
    query = f'ALERTS{{alertname="{name}",alertstate="firing"}}'
    return {"expr": query, "eval_time": f"{when_s}s", "exp_samples": samples}


def test_alerts(render: Render, promtool: Path, tmp_path: Path) -> None:
    written = {rule["alert"]: rule for rule in rules(render)}
    assert set(written) == set(ALERTS)
    tests: list[Object] = []
    for name, alert in ALERTS.items():
        rule = written[name]
        # the windows of the expressions are 15 minutes at most
        late = seconds(rule["for"]) + 1000
        expected = [firing(name, seconds(rule["for"]) - STEP_S, None, "")]
        expected += [firing(name, late, alert.labels, rule["labels"]["severity"])]
        tests.append({"interval": f"{STEP_S}s", "input_series": inputs(alert.fires), "promql_expr_test": expected})
        never = [firing(name, late, None, "")]
        tests.append({"interval": f"{STEP_S}s", "input_series": inputs(alert.quiet), "promql_expr_test": never})
    promtool_test(promtool, tmp_path, tests, [{"name": "rendered", "rules": list(written.values())}])


def test_alerts_say_what_to_do(render: Render) -> None:
    for rule in rules(render):
        assert len(rule["annotations"]["description"]) > 100
        assert rule["annotations"]["runbook_url"] == f"https://runbooks.example.com/{rule['alert']}"
        assert rule["labels"]["severity"] in ("warning", "critical")


def triggers(render: Render) -> dict[tuple[str, str], Object]:
    """By case and object, and trigger."""
    return {
        (f"{name} {item['metadata']['name']}", trigger["name"]): trigger
        for name in CASES
        for item in render(name)
        if item["kind"] == "ScaledObject"
        for trigger in item["spec"]["triggers"]
    }


def pods_wanted(trigger: Object, value: float, pods: int) -> int:
    """What the autoscaler makes of a metric: https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/."""
    target = float(trigger["metadata"]["threshold"])
    ratio = value / target if trigger["metricType"] == "Value" else value / (target * pods)
    return pods if abs(ratio - 1) <= 0.1 else math.ceil(pods * ratio)


def test_queries_of_scaled_objects(render: Render, promtool: Path, tmp_path: Path) -> None:
    found = triggers(render)
    assert {trigger for _, trigger in found} == set(LOADS)
    tests: list[Object] = []
    for (_, name), trigger in found.items():
        query, load = trigger["metadata"]["query"], LOADS[name]
        if model := re.search(r'model=~"(\w+)', query):  # the first of those that this Triton has
            load = replace(load, series={key.replace("MODEL", model[1]): of for key, of in load.series.items()})
        expected = {"expr": query, "eval_time": "4m", "exp_samples": [{"labels": "{}", "value": load.value}]}
        tests.append({"interval": f"{STEP_S}s", "input_series": inputs(load.series), "promql_expr_test": [expected]})
        assert pods_wanted(trigger, load.value, load.pods) == load.wanted, name
        # KEDA takes no answer for an error
        nothing = {"expr": query, "eval_time": "4m", "exp_samples": [{"labels": "{}", "value": 0}]}
        tests.append({"interval": f"{STEP_S}s", "input_series": [], "promql_expr_test": [nothing]})
    promtool_test(promtool, tmp_path, tests, [])


def test_a_wrong_expectation_is_noticed(promtool: Path, tmp_path: Path) -> None:
    wrong: dict[str, Any] = {"expr": "vector(1)", "eval_time": "1m", "exp_samples": [{"labels": "{}", "value": 2}]}
    with pytest.raises(Exception, match="exp:"):
        promtool_test(promtool, tmp_path, [{"interval": "15s", "promql_expr_test": [wrong]}], [])


def test_pods_go_slowly(render: Render) -> None:
    for name in CASES:
        for item in render(name):
            if item["kind"] != "ScaledObject":
                continue
            behavior = item["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
            down = behavior["scaleDown"]
            assert down["stabilizationWindowSeconds"] >= 300
            [policy] = down["policies"]
            assert policy["type"] == "Pods"
            assert policy["value"] <= 2
            assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
