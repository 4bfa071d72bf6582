"""What a persona must fulfil to be stored: checked before anything is written."""

import fnmatch
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import grpc
import yaml
from pydantic import ValidationError

from services.agent.models import ModelServices
from services.agent.personas import Persona, problems
from services.agent.replicas.pool import Pool
from services.agent.replicas.replica import Replica
from services.agent.voices.keeper import VoiceKeeper
from services.common.errors import InvalidInputError, UnavailableError
from trunkline.v1 import decoder_pb2, lm_pb2

S = TypeVar("S")

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
ANSWER_S = 10.0
_TEMPLATE_IDS = 16  # more than the template puts around a system prompt
_NO_ROOM = (grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.INVALID_ARGUMENT)


class UnusablePersonaError(InvalidInputError):
    """A persona cannot be used.

    Attributes:
        flaws: each thing that is wrong: its place in the settings, and why.
    """

    def __init__(self, message: str, flaws: Sequence[tuple[tuple[str | int, ...], str]]) -> None:
        super().__init__(message)
        self.flaws = tuple(flaws)


def checked(settings: object, variables: Sequence[str], name: str = "") -> Persona:
    """A persona from what a client sent.

    Args:
        variables: patterns of environment variables that it may name.
        name: that it must have; empty: any.

    Raises:
        UnusablePersonaError: its values cannot be used; the message names each key and what is wrong with it.
        InvalidInputError: it is no mapping, or names a variable that it may not.
    """
    if not isinstance(settings, Mapping):
        raise InvalidInputError("a persona must be a mapping with at least name and prompt")
    content = {"name": name, **settings} if name else dict(settings)
    if name and content["name"] != name:
        why = f"must be {name!r}: a persona cannot be renamed"
        raise UnusablePersonaError(f"name: {why}", [(("name",), why)])
    # Looked at first: the checks of actions read the environment.
    for variable in sorted(set(_variables(content))):
        if not any(fnmatch.fnmatchcase(variable, pattern) for pattern in variables):
            allowed = ", ".join(variables) or "none"
            raise InvalidInputError(f"environment variable {variable!r} may not be used; allowed are: {allowed}")
    try:
        return Persona.model_validate(content)
    except ValidationError as error:
        flaws = [(tuple(item["loc"]), item["msg"]) for item in error.errors()]
        raise UnusablePersonaError(problems(error), flaws) from None


def _variables(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield from _VARIABLE.findall(content)
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _variables(value)
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from _variables(value)


def from_yaml(text: str, variables: Sequence[str]) -> list[Persona]:
    """The personas of a YAML stream: one document each.

    Raises:
        InvalidInputError: it is not YAML, holds no persona, a name twice, or one that cannot be used.
    """
    try:
        documents: list[Any] = [document for document in yaml.safe_load_all(text) if document is not None]
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none is a ValueError
        raise InvalidInputError(f"not YAML: {' '.join(str(error).split())[:300]}") from None
    if not documents:
        raise InvalidInputError("no persona in it")
    personas: list[Persona] = []
    for number, document in enumerate(documents, 1):
        try:
            persona = checked(document, variables)
        except InvalidInputError as error:
            raise InvalidInputError(f"document {number}: {error}") from None
        if persona.name in [other.name for other in personas]:
            raise InvalidInputError(f"document {number}: the name {persona.name!r} stands there twice")
        personas.append(persona)
    return personas


class ModelChecks:
    """Checks personas against the models: prompts fit the context, half of which is for them, and voices are there."""

    def __init__(self, models: ModelServices, voices: VoiceKeeper) -> None:
        self._models = models
        self._voices = voices

    async def check(self, persona: Persona) -> None:
        """Asks the services only when need be: for a voice that is not the default one, for a prompt that is long.

        Raises:
            InvalidInputError: the voice is not there, or the prompt does not fit.
            UnavailableError: nobody can tell now.
        """
        if persona.voice:
            await self._check_voice(persona)
        await self._check_prompt(persona)

    async def _check_voice(self, persona: Persona) -> None:
        names = await self._voices.names()
        if persona.voice in names:
            return
        request = decoder_pb2.SpeechDecoderInfoRequest()
        try:
            info = await _serving(self._models.decoder).stub.Info(request, timeout=ANSWER_S)
        except grpc.aio.AioRpcError as error:
            raise UnavailableError("the decoder cannot tell its voices now") from error
        if persona.voice not in info.voices:
            known = ", ".join(sorted(names)) or "none but the default one (an empty name)"
            raise _unusable(persona, "voice", f"no {persona.voice!r}; there are: {known}")

    async def _check_prompt(self, persona: Persona) -> None:
        context = self._models.limits.context_length
        room = context // 2  # a call needs the other half: see `SessionKeeper.make_room`
        text = persona.system_prompt
        if len(text.encode()) + _TEMPLATE_IDS <= room:
            return  # no id of the tokenizer stands for less than a byte
        try:
            taken = await self._count(text)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _NO_ROOM:
                raise UnavailableError("the prompt is long, and the language model cannot count it now") from error
            taken = context
        if taken > room:
            raise _unusable(
                persona, "prompt", f"takes {taken} tokens or more; {room} of the model's {context} are for prompts"
            )

    async def _count(self, text: str) -> int:
        async def commands() -> AsyncIterator[lm_pb2.ConverseRequest]:
            yield lm_pb2.ConverseRequest(open=lm_pb2.OpenSession(session_id="persona-check"))
            yield lm_pb2.ConverseRequest(append=lm_pb2.Append(system=text))

        count = 0
        async for event in _serving(self._models.lm).stub.Converse(commands(), timeout=ANSWER_S):
            count += len(event.appended.tokens)
        return count


def _unusable(persona: Persona, key: str, why: str) -> UnusablePersonaError:
    return UnusablePersonaError(f"persona {persona.name!r}: {key}: {why}", [((key,), why)])


def _serving(pool: Pool[S]) -> Replica[S]:
    if not pool.serving:
        raise UnavailableError(f"no {pool.stage.name} service can be asked now")
    return pool.random.choice(pool.serving)
