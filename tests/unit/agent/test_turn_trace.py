from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.agent.turn_trace import TurnTrace
from services.agent.waterfall import Waterfall


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return round((span.end_time - span.start_time) / 1e9, 3)


def test_the_stages_follow_one_another_from_the_end_of_speech(spans: InMemorySpanExporter) -> None:
    now = [10.0]
    turn = TurnTrace("a-call", 2, lambda: now[0])
    waterfall = Waterfall(2)
    waterfall.begin(12.0)
    for stage, at in (("last_tokens", 12.25), ("turn_decided", 12.5), ("first_packet", 13.5)):
        waterfall.mark(stage, at)
    now[0] = 13.5
    turn.stages(waterfall)
    turn.over("interrupted")
    turn.over("answered")
    *stages, root = spans.get_finished_spans()
    assert [(span.name, seconds(span)) for span in stages] == [
        ("caller_speech", 2.0),
        ("last_tokens", 0.25),
        ("turn_decided", 0.25),
        ("first_packet", 1.0),
    ]
    assert {span.parent and span.parent.span_id for span in stages} == {root.context.span_id}
    assert dict(root.attributes or {}) == {
        "trunkline.call.id": "a-call",
        "trunkline.turn.number": 2,
        "trunkline.turn.outcome": "interrupted",
    }
