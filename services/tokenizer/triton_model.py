"""The tokenizer engine as a model of the Triton repository."""

import json
from dataclasses import asdict

from services.common.errors import InvalidInputError
from services.common.triton_host import Command
from services.common.triton_metrics import Watched
from services.common.triton_python import HostSettings
from services.common.triton_reply import Reply
from services.common.triton_wire import Tensors, number, numbers
from services.tokenizer.build import Settings, build
from services.tokenizer.engine import LiveUtterance, TokenizerEngine


class TritonSettings(HostSettings, Settings):
    """The service's settings, and what Triton adds."""


class TritonTokenizer:
    """Implements `HostedModel`: a session is an utterance."""

    def __init__(self, engine: TokenizerEngine) -> None:
        self._engine = engine
        self.revision = engine.info.revision

    @classmethod
    def load(cls, settings: TritonSettings) -> "TritonTokenizer":
        """Loads the weights. Errors: see `build`."""
        return cls(build(settings))

    @property
    def watched(self) -> Watched:
        """See `HostedModel.watched`."""
        return Watched("tokenizer", lambda: self._engine.pending, self._engine.meter)

    async def start(self) -> None:
        """See `HostedModel.start`."""
        await self._engine.warm_up()

    def describe(self) -> str:
        """The fields of `TokenizerInfo`."""
        return json.dumps(asdict(self._engine.info))

    async def open(self, command: Command, hold: Reply) -> "TritonUtterance":
        """Parameter: `interim_results`."""
        return TritonUtterance(self._engine.open(bool(command.parameters.get("interim_results"))))

    async def ask(self, command: Command) -> Tensors:
        """There are no questions beside `info`."""
        raise InvalidInputError(f"command {command.name!r} outside a session; there are info and open")

    def stop(self) -> None:
        """See `HostedModel.stop`."""
        self._engine.close()


class TritonUtterance:
    """Implements `ModelSession`: push audio, then finish."""

    def __init__(self, utterance: LiveUtterance) -> None:
        self._utterance = utterance

    async def execute(self, command: Command, reply: Reply) -> None:
        """See `ModelSession.execute`."""
        if command.name == "push":
            found = self._utterance.push(command.bytes("PCM"))
        elif command.name == "finish":
            found = self._utterance.finish()
        else:
            raise InvalidInputError(f"command {command.name!r}; there are push, finish and close")
        async for tokens in found:
            reply.send({"TOKENS": numbers(tokens.ids), "START": number(tokens.start), "FINAL": number(tokens.final)})
        reply.finish()

    def close(self) -> None:
        """See `ModelSession.close`."""
        self._utterance.close()
