import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from services.common.telemetry import traces


def call(*metadata: tuple[str, str]) -> Any:
    return SimpleNamespace(invocation_metadata=lambda: metadata)


def test_off_nothing_is_said_and_nothing_is_told() -> None:
    span = traces.begin("turn")
    with traces.within(span):
        assert (traces.traceparent(), traces.current()) == ("", None)
        with traces.asking("Service", "Method") as asked:
            assert asked is None
        assert traces.metadata(asked) == ()


async def test_a_servers_span_is_its_clients_child_and_current_for_its_handler(spans: InMemorySpanExporter) -> None:
    async def handler(metadata: tuple[tuple[str, str], ...]) -> None:
        with traces.serving(call(*metadata), "Service", "Method"):
            parent = traces.current()
            assert parent is not None
            traces.tell("step", parent, 1.0, 2.0, {"n": 1}, clock=lambda: 3.0)

    turn = traces.begin("turn")
    with traces.within(turn), traces.asking("Service", "Method") as span:
        await asyncio.create_task(handler(traces.metadata(span)))
        assert trace.get_current_span() is turn
    turn.end()
    step, server, client, root = spans.get_finished_spans()
    assert [span.name for span in (step, server, client, root)] == ["step", *["Service/Method"] * 2, "turn"]
    assert (server.kind, client.kind) == (SpanKind.SERVER, SpanKind.CLIENT)
    for child, parent in ((step, server), (server, client), (client, root)):
        assert child.parent is not None
        assert child.parent.span_id == parent.context.span_id
    assert step.start_time is not None
    assert step.end_time is not None
    assert step.end_time - step.start_time == 1_000_000_000


@pytest.mark.parametrize("told", ["", "rubbish", "00-00000000000000000000000000000000-0000000000000000-01"])
async def test_a_call_without_a_trace_has_no_spans(told: str, spans: InMemorySpanExporter) -> None:
    with traces.serving(call(("traceparent", told)), "Service", "Method"):
        assert traces.current() is None
    assert not spans.get_finished_spans()


async def test_what_the_caller_does_not_want_recorded_is_not(spans: InMemorySpanExporter) -> None:
    unsampled = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00"
    with traces.serving(call(("traceparent", unsampled)), "Service", "Method"):
        assert traces.current() is None
    assert not spans.get_finished_spans()


async def test_a_failure_is_told_by_its_kind_and_a_cancellation_is_none(spans: InMemorySpanExporter) -> None:
    with traces.within(traces.begin("turn")):
        with pytest.raises(ZeroDivisionError), traces.asking("Service", "Broken"):
            raise ZeroDivisionError("+49 170 1234567")
        with pytest.raises(asyncio.CancelledError), traces.asking("Service", "Unwanted"):
            raise asyncio.CancelledError
    broken, unwanted = spans.get_finished_spans()
    assert broken.status.status_code is StatusCode.ERROR
    assert dict(broken.attributes or {})["error.type"] == "ZeroDivisionError"
    assert "1234567" not in broken.to_json()
    assert unwanted.status.status_code is StatusCode.UNSET
