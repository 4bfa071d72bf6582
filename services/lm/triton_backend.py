"""The engine's interface over a language model that runs at Triton."""

import asyncio
import contextlib
import tempfile
from base64 import b64decode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from services.common.errors import UnavailableError
from services.common.triton import Outputs, TritonModel, TritonSession, in_trace
from services.common.triton_wire import REVISION, Tensors, read_json
from services.lm.engine import Added, Emit, Failed, GenerationSettings
from services.lm.prompt import ChatTemplate
from services.lm.triton_codec import of_settings, to_event


class TritonEngine:
    """Implements `services.lm.engine.Engine`.

    Args:
        model: where the sessions are.
        template: the chat template of its weights.
        info: what it said of itself.

    Attributes:
        revision: of its weights; a server that has others by now is not talked to.
        kv_tokens: tokens whose keys and values it can hold; 0 when it does not say.
    """

    def __init__(self, model: TritonModel, template: ChatTemplate, info: Mapping[str, Any]) -> None:
        self._model = model
        self.template = template
        self._context_length = int(info["context_length"])
        self.revision = str(info["revision"])
        self.kv_tokens = int(info["kv_tokens"])

    @classmethod
    async def connect(cls, model: TritonModel) -> "TritonEngine":
        """Learns from Triton what a service must know, so that it needs no weights.

        Raises:
            ServiceError: see `TritonModel.ask`.
            WeightsError: the tokenizer's files at Triton are not usable.
        """
        info = await model.info()
        files = read_json(await model.ask("files"))
        with tempfile.TemporaryDirectory() as directory:
            for name, content in files.items():
                (Path(directory) / Path(name).name).write_bytes(b64decode(content))
            template = ChatTemplate.load(Path(directory))
        return cls(model, template, info)

    @property
    def context_length(self) -> int:
        """Tokens of the longest session."""
        return self._context_length

    async def check(self) -> None:
        """Raises UnavailableError where Triton does not answer, or has other weights than at the start."""
        self._model.check_revision(await self._model.info(), self.revision)

    async def open(self, tokens: Sequence[int], emit: Emit) -> "TritonLmSession":
        """See `Engine.open`; also raises UnavailableError."""
        session = self._model.session(lambda error: emit(Failed(error)))
        try:
            await session.open({REVISION: self.revision}, _ids(tokens))
        except BaseException:
            session.close()
            raise
        return TritonLmSession(session, list(tokens), emit)

    def stop(self) -> None:
        """Nothing: the model is its owner's."""


class TritonLmSession:
    """Implements `services.lm.engine.Session`."""

    def __init__(self, session: TritonSession, tokens: list[int], emit: Emit) -> None:
        self._session = session
        self._tokens = tokens
        self._emit = emit
        self._answer: asyncio.Task[None] | None = None

    @property
    def tokens(self) -> Sequence[int]:
        """All ids of the session; stable while nothing is being generated."""
        return self._tokens

    async def append(self, tokens: Sequence[int]) -> int:
        """See `Session.append`."""
        length = _length(await self._session.call("append", _ids(tokens)))
        self._tokens.extend(tokens)
        return length

    async def generate(self, settings: GenerationSettings) -> None:
        """See `Session.generate`."""
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answer = asyncio.create_task(self._receive(settings, accepted), name="triton-answer")
        await accepted

    async def truncate(self, length: int) -> int:
        """See `Session.truncate`."""
        left = _length(await self._session.call("truncate", length=length))
        await self._answered()
        del self._tokens[left:]
        return left

    async def cancel(self) -> None:
        """See `Session.cancel`."""
        await self._session.call("cancel")
        await self._answered()

    def close(self) -> None:
        """See `Session.close`."""
        if self._answer is not None:
            self._answer.cancel()
        self._session.close()

    async def _answered(self) -> None:
        """Until the end of an answer that was cancelled has come, so that its event precedes what follows."""
        if self._answer is not None:
            await asyncio.wait([self._answer])

    async def _receive(self, settings: GenerationSettings, accepted: "asyncio.Future[None]") -> None:
        try:
            async with contextlib.aclosing(
                self._session.request("generate", parameters={**of_settings(settings), **in_trace()})
            ) as responses:
                async for outputs in responses:
                    if not accepted.done():
                        accepted.set_result(None)
                    event = to_event(outputs)
                    if isinstance(event, Added):
                        self._tokens.extend(event.tokens)
                    if event is not None:
                        self._emit(event)
        except Exception as error:  # to whoever waits; after that the session's own failure tells it
            if not accepted.done():
                accepted.set_exception(error)
            elif not isinstance(error, UnavailableError):
                self._emit(Failed(error))


def _ids(tokens: Sequence[int]) -> Tensors:
    return {"TOKENS": np.array(tokens, np.uint32)} if tokens else {}


def _length(outputs: Outputs) -> int:
    return int(outputs["LENGTH"][0])
