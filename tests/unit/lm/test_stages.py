import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.common.telemetry import traces
from services.lm.torch_engine.stages import AnswerStages


def told(
    monkeypatch: pytest.MonkeyPatch, *steps: tuple[float, float, int], end: float, length: int
) -> list[tuple[str, float]]:
    """Names and lengths in seconds of the stages of an answer that was asked for at 1.0, with 10 tokens before it."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(traces, "_TRACER", provider.get_tracer("test"))
    stages = AnswerStages(traces.under(traces.begin("generate")), 1.0, 10)
    for began, ended, after in steps:
        stages.served(began, ended, after)
    stages.tell(end, length)
    spans = exporter.get_finished_spans()
    return [(span.name, round(((span.end_time or 0) - (span.start_time or 0)) / 1e9, 3)) for span in spans]


def test_queue_prefill_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = ((1.5, 1.6, 10), (1.6, 2.0, 11), (2.0, 2.1, 12))
    assert told(monkeypatch, *steps, end=3.0, length=12) == [("queue", 0.5), ("prefill", 0.5), ("decode", 1.0)]


def test_cancelled_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, end=3.0, length=10) == [("queue", 2.0)]


def test_cancelled_before_its_first_token(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, (1.5, 1.6, 10), end=3.0, length=10) == [("queue", 0.5), ("prefill", 1.5)]
