"""Settings of a persona as a client sends them: JSON, or YAML, whose lines are told for each thing that is wrong."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import yaml
from fastapi import Depends, HTTPException, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from services.agent.api.access import AdminKey
from services.agent.api.answers import Problem
from services.agent.api.keys import ApiKey
from services.agent.persona_store.checks import UnusablePersonaError
from services.agent.personas import Persona
from services.common.errors import InvalidInputError

YAML = "application/yaml"  # RFC 9512
MAX_YAML_BYTES = 256 * 1024  # a prompt has 16,000 characters, and a thousand numbers may have 128 each

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": Persona.model_json_schema()},
            YAML: {"schema": {"type": "string"}},
        },
    }
}


class Flaw(BaseModel):
    """One thing that is wrong."""

    key: str = Field(description="such as actions.0.kind; empty when it is no single one")
    message: str
    line: int | None = Field(description="of YAML, counted from 1; null where there is none")


class Flawed(Problem):
    """All that is wrong with the settings."""

    problems: list[Flaw]


class FlawedSettingsError(InvalidInputError):
    """The settings cannot be used; `problems` says where."""

    def __init__(self, detail: str, problems: Sequence[Flaw]) -> None:
        super().__init__(detail)
        self.problems = tuple(problems)


async def flawed(_: Request, error: Exception) -> JSONResponse:
    """The answer to a `FlawedSettingsError`."""
    assert isinstance(error, FlawedSettingsError)
    return JSONResponse(Flawed(detail=str(error), problems=list(error.problems)).model_dump(), status_code=422)


@dataclass(frozen=True)
class SentSettings:
    """What was sent.

    Attributes:
        content: parsed; nothing is known of its form.
        text: as it was, when it was YAML.
    """

    content: object
    text: str = ""

    @contextmanager
    def judged(self) -> Iterator[None]:
        """Whatever is found wrong inside is told with its place.

        Raises:
            FlawedSettingsError: instead of InvalidInputError.
        """
        try:
            yield
        except UnusablePersonaError as error:
            found = [Flaw(key=".".join(map(str, at)), message=why, line=self._line(at)) for at, why in error.flaws]
            raise FlawedSettingsError(str(error), found) from None
        except InvalidInputError as error:
            raise FlawedSettingsError(str(error), [Flaw(key="", message=str(error), line=None)]) from None

    def _line(self, place: Sequence[str | int]) -> int | None:
        return line_of(self.text, place) if self.text else None


async def sent_settings(request: Request, _: ApiKey = AdminKey) -> SentSettings:
    """The body of a request, for those who may change personas.

    Raises:
        FlawedSettingsError: it is not what its Content-Type says.
        HTTPException: 415 for another type.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    body = await request.body()
    if kind in (YAML, "application/x-yaml", "text/yaml"):
        # some parse slowly: calls go on meanwhile
        return await asyncio.to_thread(_from_yaml, body)
    if kind != "application/json":
        raise HTTPException(415, f"the body must be application/json or {YAML}")
    try:
        return SentSettings(json.loads(body))
    except (ValueError, RecursionError) as error:
        raise _flaw(f"not JSON: {error}") from None


Sent = Annotated[SentSettings, Depends(sent_settings)]


def _from_yaml(body: bytes) -> SentSettings:
    if len(body) > MAX_YAML_BYTES:
        raise _flaw(f"the body must be at most {MAX_YAML_BYTES // 1024} KiB of YAML, not {len(body) // 1024}")
    try:
        text = body.decode("utf-8")
        return SentSettings(yaml.safe_load(text), text)
    except UnicodeDecodeError:
        raise _flaw("the body must be YAML in UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        why = " ".join(filter(None, (error.context, error.problem)))
        raise _flaw(f"not YAML: {why[:300]}", mark.line + 1 if mark is not None else None) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none is a ValueError
        raise _flaw(f"not YAML: {' '.join(str(error).split())[:300]}") from None


def _flaw(message: str, line: int | None = None) -> FlawedSettingsError:
    detail = message if line is None else f"line {line}: {message}"
    return FlawedSettingsError(detail, [Flaw(key="", message=message, line=line)])


def line_of(text: str, place: Sequence[str | int]) -> int | None:
    """The line of a YAML document, counted from 1, on which a key of its mapping stands, or an item of a list.

    Parts of the place that are not in the document (a key that is missing, the kind that pydantic read a union as) are
    left out: what is around them stands for them; None for nothing at all.
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = None
    for part in place:
        found = _inside(node, part)
        if found is not None:
            line, node = found
    return line


def _inside(node: yaml.Node | None, part: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line + 1, node.value[part]
    return None
