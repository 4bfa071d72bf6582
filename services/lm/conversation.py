"""One stream of VoiceLM.Converse: commands in order to the engine, the engine's events back as responses."""

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeGuard

from opentelemetry.trace import Span, SpanKind

from services.common.errors import InvalidInputError, WrongOrderError
from services.common.telemetry import catalogue, traces
from services.common.telemetry.metrics import counter
from services.lm.engine import Added, Engine, Event, Failed, Finished, GenerationSettings, Kind, Reason, Session
from services.lm.prompt import ChatTemplate, TextStream
from trunkline.v1 import lm_pb2

log = logging.getLogger(__name__)

SERVICE = "trunkline.v1.VoiceLM"
DEFAULT_MAX_NEW_TOKENS = 2000
_MAX_TEMPERATURE = 10.0
_KINDS = {
    Kind.TEXT: lm_pb2.TOKEN_KIND_TEXT,
    Kind.SPEECH: lm_pb2.TOKEN_KIND_SPEECH,
    Kind.CONTROL: lm_pb2.TOKEN_KIND_CONTROL,
}
# the head of an answer is the template's
_COUNTED = {Kind.TEXT: "text", Kind.SPEECH: "speech", Kind.CONTROL: "prompt"}
_TOKENS = counter(catalogue.LM_TOKENS)
_REASONS = {
    Reason.END_OF_TURN: lm_pb2.FINISH_REASON_END_OF_TURN,
    Reason.MAX_TOKENS: lm_pb2.FINISH_REASON_MAX_TOKENS,
    Reason.CANCELLED: lm_pb2.FINISH_REASON_CANCELLED,
    Reason.CONTEXT_FULL: lm_pb2.FINISH_REASON_CONTEXT_FULL,
}


Item = lm_pb2.ConverseResponse | Exception | None


class Outgoing:
    """What the client is to be sent: responses, an error to end with, or None at the end.

    Generated ids of one kind that wait together become one response, so that a client or a network that is slower than
    the model costs messages, never latency.
    """

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._filled = asyncio.Event()

    def put(self, item: Item) -> None:
        """Adds an item behind the others."""
        last = self._items[-1] if self._items else None
        if _is_generated(item) and _is_generated(last) and item.generated.kind == last.generated.kind:
            into, more = last.generated, item.generated
            into.tokens.extend(more.tokens)
            into.speech.extend(more.speech)
            into.text += more.text
            into.length = more.length
        else:
            self._items.append(item)
        self._filled.set()

    async def next(self) -> Item:
        """Takes the first item, when there is one."""
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        return self._items.popleft()


def _is_generated(item: Item) -> TypeGuard[lm_pb2.ConverseResponse]:
    return isinstance(item, lm_pb2.ConverseResponse) and item.HasField("generated")


class Conversation:
    """Lives as long as the stream."""

    def __init__(self, engine: Engine, template: ChatTemplate) -> None:
        self._engine = engine
        self._template = template
        self._session: Session | None = None
        self._text = TextStream(template.text)
        self._idle = asyncio.Event()
        self._idle.set()
        self._out = Outgoing()
        self._answering: Span | None = None  # the answer under way, where it belongs to a trace

    async def run(
        self, requests: AsyncIterator[lm_pb2.ConverseRequest]
    ) -> AsyncGenerator[lm_pb2.ConverseResponse, None]:
        """Executes commands while responses go out; both at once, so that a command can end a generation.

        When the client has said its last command, a generation under way is still finished.

        Raises:
            ServiceError: a command was wrong.
        """
        reader = asyncio.create_task(self._read(requests))
        try:
            while (item := await self._out.next()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            reader.cancel()
            if self._session is not None:
                self._session.close()
            self._end_span()

    async def _read(self, requests: AsyncIterator[lm_pb2.ConverseRequest]) -> None:
        try:
            async for request in requests:
                if request.WhichOneof("command") == "close":
                    break
                await self._traced(request)
            else:
                await self._idle.wait()
        except Exception as error:  # raised again by `run`, to the client
            self._out.put(error)
        else:
            self._out.put(None)

    async def _traced(self, request: lm_pb2.ConverseRequest) -> None:
        """Executes a command as part of the trace that it names."""
        parent = traces.received(request.traceparent)
        if parent is None:
            await self._execute(request)
            return
        command = request.WhichOneof("command") or "nothing"
        attributes = {**traces.rpc(SERVICE, "Converse"), "trunkline.lm.command": command}
        span = traces.begin(f"{SERVICE}/Converse {command}", parent, SpanKind.SERVER, attributes)
        if command == "generate":
            self._end_span()
            self._answering = span  # until it is over
        try:
            with traces.within(span):
                await self._execute(request)
        except Exception as error:
            traces.failed(span, error)
            raise
        finally:
            if span is not self._answering:
                span.end()

    def _end_span(self) -> None:
        if self._answering is not None:
            self._answering.end()
            self._answering = None

    async def _execute(self, request: lm_pb2.ConverseRequest) -> None:
        command = request.WhichOneof("command")
        if command is None:
            raise InvalidInputError("the request holds no command that this service knows")
        if self._session is None:
            if command != "open":
                raise WrongOrderError(f"the first command must be open, not {command}")
            await self._open(request.open)
            return
        session = self._session
        if command == "open":
            raise WrongOrderError("the session is open already; one stream is one session")
        if command == "append":
            ids = self._ids(request.append, session)
            length = await session.append(ids)
            _TOKENS.add(len(ids), {"kind": "prompt"})
            self._out.put(lm_pb2.ConverseResponse(appended=lm_pb2.Appended(tokens=ids, length=length)))
        elif command == "generate":
            await self._generate(request.generate, session)
        elif command == "truncate":
            length = await session.truncate(request.truncate.length)
            self._out.put(lm_pb2.ConverseResponse(truncated=lm_pb2.Truncated(length=length)))
        elif command == "cancel":
            await session.cancel()

    async def _open(self, command: lm_pb2.OpenSession) -> None:
        session = await self._engine.open(list(command.tokens), self._on_event)
        self._session = session
        _TOKENS.add(len(command.tokens), {"kind": "prompt"})
        log.info("session opened", extra={"session_id": command.session_id, "tokens": len(command.tokens)})
        self._out.put(lm_pb2.ConverseResponse(opened=lm_pb2.Opened(length=len(command.tokens))))

    def _ids(self, append: lm_pb2.Append, session: Session) -> list[int]:
        self._require_idle("append")
        template, part = self._template, append.WhichOneof("part")
        speaking = template.speech_is_open(session.tokens)
        if part in ("system", "user_text") and speaking:
            raise WrongOrderError(f"append of {part}: a user turn of speech is open; close it with end_of_speech")
        ids = [] if session.tokens else list(template.prefix)
        if part == "system":
            return ids + template.system(append.system)
        if part == "user_text":
            return ids + template.user_text(append.user_text)
        if part == "user_speech":
            if not speaking:
                ids += template.user_speech_head()
            return ids + template.speech(append.user_speech.tokens)
        if part == "end_of_speech":
            if not speaking:
                raise WrongOrderError("append of end_of_speech: no user turn of speech is open")
            return template.end_of_speech()
        raise InvalidInputError("append holds no part that this service knows")

    async def _generate(self, command: lm_pb2.Generate, session: Session) -> None:
        self._require_idle("generate")
        if not session.tokens:
            raise WrongOrderError("generate: the session is empty; append a prompt first")
        if self._template.speech_is_open(session.tokens):
            raise WrongOrderError("generate: a user turn of speech is open; close it with end_of_speech")
        settings = _settings(command)
        self._text = TextStream(self._template.text)
        if settings.resume:
            self._text.feed(self._template.open_answer(session.tokens) or [])
        self._idle.clear()
        await session.generate(settings)

    def _require_idle(self, command: str) -> None:
        if not self._idle.is_set():
            raise WrongOrderError(f"{command} while an answer is being generated; cancel or truncate first")

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Added):
            _TOKENS.add(len(event.tokens), {"kind": _COUNTED[event.kind]})
            response = lm_pb2.ConverseResponse(generated=self._generated(event))
        elif isinstance(event, Finished):
            self._idle.set()
            self._end_span()
            response = lm_pb2.ConverseResponse(
                finished=lm_pb2.Finished(reason=_REASONS[event.reason], length=event.length)
            )
        elif isinstance(event, Failed):
            if self._answering is not None:
                traces.failed(self._answering, event.error)
            self._end_span()
            self._out.put(event.error)
            return
        self._out.put(response)

    def _generated(self, event: Added) -> lm_pb2.Generated:
        return lm_pb2.Generated(
            tokens=event.tokens,
            kind=_KINDS[event.kind],
            text=self._text.feed(event.tokens) if event.kind is Kind.TEXT else "",
            speech=self._template.codes(event.tokens) if event.kind is Kind.SPEECH else (),
            length=event.length,
        )


def _settings(command: lm_pb2.Generate) -> GenerationSettings:
    if not (math.isfinite(command.temperature) and 0 <= command.temperature <= _MAX_TEMPERATURE):
        raise InvalidInputError(f"temperature {command.temperature} is out of range; allowed are 0 to 10")
    if not 0 <= command.top_p <= 1:
        raise InvalidInputError(f"top_p {command.top_p} is out of range; allowed are 0 to 1")
    return GenerationSettings(
        temperature=command.temperature,
        top_p=command.top_p or 1.0,
        seed=command.seed,
        max_new_tokens=command.max_new_tokens or DEFAULT_MAX_NEW_TOKENS,
        say=command.say,
        resume=command.resume,
    )
