"""A language model engine as a model of the Triton repository."""

import json
from base64 import b64encode
from pathlib import Path

from services.common.errors import InvalidInputError
from services.common.triton_host import Command
from services.common.triton_metrics import Watched
from services.common.triton_python import HostSettings
from services.common.triton_reply import Reply
from services.common.triton_wire import JSON, Tensors, number, text
from services.lm.build import Built, Settings, build
from services.lm.engine import Event, Failed, Finished, Session
from services.lm.prompt import ChatTemplate
from services.lm.triton_codec import of_event, to_settings


class TritonSettings(HostSettings, Settings):
    """The service's settings, and what Triton adds."""


class TritonLanguageModel:
    """Implements `HostedModel`: a session is a conversation.

    Args:
        built: the engine that does the work.
        files: what a chat template is read from.
    """

    def __init__(self, built: Built, files: list[Path]) -> None:
        self._built = built
        self._engine = built.engine
        self._kv_tokens = built.kv_tokens
        self.revision = built.revision
        self._files = files

    @classmethod
    def load(cls, settings: TritonSettings) -> "TritonLanguageModel":
        """Loads the weights. Errors: see `build`."""
        template = ChatTemplate.load(settings.weights)
        names = ("config.json", "tokenizer.model", "tokenizer_config.json")
        return cls(build(settings, template), [settings.weights / name for name in names])

    @property
    def watched(self) -> Watched:
        """See `HostedModel.watched`."""
        return Watched("lm", self._built.pending, self._built.meter, self._built.kv_used)

    async def start(self) -> None:
        """Nothing: the engine started when it was loaded."""

    def describe(self) -> str:
        """Limits."""
        described = {
            "context_length": self._engine.context_length,
            "revision": self.revision,
            "kv_tokens": self._kv_tokens,
        }
        return json.dumps(described)

    async def open(self, command: Command, hold: Reply) -> "TritonConversation":
        """Input: TOKENS, the session's ids so far."""
        conversation = TritonConversation(hold)
        conversation.session = await self._engine.open(command.list("TOKENS"), conversation.on_event)
        return conversation

    async def ask(self, command: Command) -> Tensors:
        """`files`: the checkpoint's small files by name, base64."""
        if command.name != "files":
            raise InvalidInputError(f"command {command.name!r} outside a session; there are info, files and open")
        found = {path.name: b64encode(path.read_bytes()).decode() for path in self._files}
        return {JSON: text(json.dumps(found))}

    def stop(self) -> None:
        """See `HostedModel.stop`."""
        self._engine.stop()


class TritonConversation:
    """Implements `ModelSession`: the commands of `services.lm.engine.Session`."""

    session: Session

    def __init__(self, hold: Reply) -> None:
        self._hold = hold
        self._answer: Reply | None = None

    async def execute(self, command: Command, reply: Reply) -> None:
        """See `ModelSession.execute`."""
        if command.name == "generate":
            await self._generate(command, reply)
            return
        if command.name == "append":
            length = await self.session.append(command.list("TOKENS"))
        elif command.name == "truncate":
            length = await self.session.truncate(int(command.required("length")))
        elif command.name == "cancel":
            await self.session.cancel()
            length = len(self.session.tokens)
        else:
            raise InvalidInputError(f"command {command.name!r}; there are append, generate, truncate, cancel, close")
        reply.send({"LENGTH": number(length)})
        reply.finish()

    def on_event(self, event: Event) -> None:
        """Passes an engine's event on."""
        if isinstance(event, Failed):
            self._hold.fail(event.error)
        elif self._answer is not None:
            self._answer.send(of_event(event))
            if isinstance(event, Finished):
                self._answer.finish()
                self._answer = None

    def close(self) -> None:
        """See `ModelSession.close`."""
        self.session.close()
        if self._answer is not None:
            self._answer.finish()

    async def _generate(self, command: Command, reply: Reply) -> None:
        before, self._answer = self._answer, reply
        try:
            await self.session.generate(to_settings(command.parameters))
        except BaseException:
            self._answer = before
            raise
        reply.send({"LENGTH": number(len(self.session.tokens))})  # taken; the first token may be long in coming
