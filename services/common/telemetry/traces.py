"""Spans, and how a turn's trace goes from process to process: as W3C Trace Context, in metadata or in a message.

Off, there is no recording span to begin with, so `current` says none and nothing below it is done.
"""

import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

TRACEPARENT = "traceparent"  # W3C Trace Context, section 3.2

Attributes = Mapping[str, str | int | float | bool]

_TRACER = trace.get_tracer("trunkline")
_W3C = TraceContextTextMapPropagator()


def traceparent(span: Span | None = None) -> str:
    """What to send so that the receiver's spans become children of this one, or of the current one; empty: nothing."""
    span = span or trace.get_current_span()
    if not span.is_recording():
        return ""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(span))
    return carrier[TRACEPARENT]


def metadata(span: Span | None) -> tuple[tuple[str, str], ...]:
    """The same as metadata of a gRPC call; none for no span."""
    return ((TRACEPARENT, traceparent(span)),) if span is not None else ()


def received(told: str) -> Context | None:
    """What `traceparent` said; None where it said nothing, or nothing that can be read."""
    if not told:
        return None
    found = _W3C.extract({TRACEPARENT: told}, Context())
    return found if trace.get_current_span(found).get_span_context().is_valid else None


def of_call(servicer_context: Any) -> str:
    """The traceparent of a gRPC call's metadata; empty where it has none."""
    for key, value in servicer_context.invocation_metadata() or ():
        if key == TRACEPARENT:
            return value if isinstance(value, str) else value.decode(errors="replace")
    return ""


def current() -> Context | None:
    """The parent for spans that are told of later, from another thread maybe; None where nobody records."""
    return context.get_current() if trace.get_current_span().is_recording() else None


def begin(
    name: str,
    parent: Context | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes | None = None,
    start_ns: int | None = None,
) -> Span:
    """A span that somebody will `end`; a root where there is no parent."""
    return _TRACER.start_span(name, parent or Context(), kind, attributes, start_time=start_ns)


def tell(
    name: str,
    parent: Context,
    start: float,
    end: float,
    attributes: Attributes | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """A span that is over; times are of the clock, seconds."""
    to_unix = time.time_ns() - int(clock() * 1e9)
    span = _TRACER.start_span(name, parent, attributes=attributes, start_time=to_unix + int(start * 1e9))
    span.end(to_unix + int(max(start, end) * 1e9))


def under(span: Span) -> Context:
    """The parent for children of a span."""
    return trace.set_span_in_context(span, Context())


@contextmanager
def within(span: Span) -> Iterator[None]:
    """The span is the current one in the block, and in the tasks that it starts."""
    if not span.is_recording():
        yield
        return
    token = context.attach(under(span))
    try:
        yield
    finally:
        context.detach(token)


@contextmanager
def asking(service: str, method: str) -> Iterator[Span | None]:
    """A client's span of a call, where there is a trace that it belongs to. It does not become the current one."""
    parent = current()
    if parent is None:
        yield None
        return
    with _ending(begin(f"{service}/{method}", parent, SpanKind.CLIENT, rpc(service, method))) as span:
        yield span


@contextmanager
def serving(servicer_context: Any, service: str, method: str) -> Iterator[None]:
    """The server's span of a call that belongs to a trace; it is the current one for the rest of the handler's task."""
    with continuing(f"{service}/{method}", of_call(servicer_context), rpc(service, method)):
        yield


@contextmanager
def continuing(name: str, told: str, attributes: Attributes) -> Iterator[None]:
    """A span of a request that says with `traceparent` of whose trace it is; current for the rest of the task."""
    parent = received(told)
    if parent is None:
        yield
        return
    with _ending(begin(name, parent, SpanKind.SERVER, attributes)) as span:
        context.attach(under(span))
        yield


@contextmanager
def _ending(span: Span) -> Iterator[Span]:
    try:
        yield span
    except (CancelledError, GeneratorExit):  # nobody wants the rest: no failure
        span.set_attribute("trunkline.cancelled", True)
        raise
    except BaseException as error:
        failed(span, error)
        raise
    finally:
        span.end()


def rpc(service: str, method: str) -> dict[str, str | int | float | bool]:
    """Attributes by the semantic conventions for gRPC."""
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}


def failed(span: Span, error: BaseException) -> None:
    """Says so; of the error its kind alone, for its message may quote anything."""
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(StatusCode.ERROR)
