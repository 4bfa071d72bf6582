"""Which line of YAML a flaw of a persona stands on, and what is no persona at all."""

import json

import pytest
from fastapi import HTTPException
from starlette.requests import Request
from starlette.types import Message

from services.agent.api.keys import ApiKey, Role
from services.agent.api.persona_bodies import (
    MAX_YAML_BYTES,
    FlawedSettingsError,
    SentSettings,
    line_of,
    sent_settings,
)
from services.agent.persona_store.checks import checked
from services.common.errors import InvalidInputError

TEXT = """\
# a comment
name: desk
prompt: >-
  You are at the desk,
  every day.
actions:
  - name: bye
    kind: hang_up
    phrases: [goodbye]

  - name: person
    kind: transfer
"""
ADMIN = ApiKey("admin", Role.ADMIN, b"")


async def sent(body: bytes, kind: str) -> SentSettings:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", kind.encode())] if kind else []
    return await sent_settings(Request({"type": "http", "headers": headers}, receive), ADMIN)


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("prompt",), 3),
        (("actions",), 6),
        (("actions", 0, "phrases", 0), 9),
        (("actions", 1), 11),
        (("actions", 1, "transfer", "kind"), 12),  # the kind that a union was read as is no part of the text
        (("actions", 1, "target"), 11),
        (("actions", 7), 6),
        (("greeting",), None),
        ((), None),
    ],
)
def test_a_place_has_its_line(place: tuple[str | int, ...], line: int | None) -> None:
    assert line_of(TEXT, place) == line


@pytest.mark.parametrize("text", ["", "- a\n", "word"])
def test_what_is_no_mapping_has_no_lines(text: str) -> None:
    assert line_of(text, ("name",)) is None


async def test_yaml_and_json_say_the_same() -> None:
    as_yaml = await sent(TEXT.encode(), "application/yaml; charset=utf-8")
    for kind in ("application/json", ""):
        assert (await sent(json.dumps(as_yaml.content).encode(), kind)).content == as_yaml.content


async def test_each_flaw_is_told_with_its_key_and_line() -> None:
    body = await sent(TEXT.replace("kind: hang_up", "kind: hangup").replace("prompt", "promt").encode(), "text/yaml")
    with pytest.raises(FlawedSettingsError) as told, body.judged():
        checked(body.content, ())
    found = {flaw.key: flaw.line for flaw in told.value.problems}
    assert found["promt"] == 3
    assert found["prompt"] is None, "it is missing"
    assert found["actions.0"] == 7
    assert "Field required" in str(told.value)


async def test_a_flaw_of_json_has_no_line() -> None:
    body = await sent(b'{"name": "a"}', "application/json")
    with pytest.raises(FlawedSettingsError) as told, body.judged():
        checked(body.content, (), "b")
    assert [(flaw.key, flaw.line) for flaw in told.value.problems] == [("name", None)]


async def test_what_is_wrong_as_a_whole_is_told_without_a_key() -> None:
    body = await sent(b"- 1", "application/yaml")
    with pytest.raises(FlawedSettingsError, match="must be a mapping") as told, body.judged():
        raise InvalidInputError("a persona must be a mapping")
    assert [(flaw.key, flaw.line) for flaw in told.value.problems] == [("", None)]


@pytest.mark.parametrize(
    ("body", "kind", "why", "line"),
    [
        (b"name: a\nprompt: [b\n", "application/yaml", "not YAML", 3),
        (b"a: 1\n---\nb: 2\n", "application/yaml", "single document", 2),
        (b"when: 2026-13-45\n", "application/yaml", "not YAML", None),
        (b"[" * 1000, "application/yaml", "not YAML", None),
        (b" " * (MAX_YAML_BYTES + 1), "application/yaml", "at most 256 KiB", None),
        (b"\xff", "application/yaml", "UTF-8", None),
        (b"{", "application/json", "not JSON", None),
        (b"[" * 100_000, "application/json", "not JSON", None),
        (b"\xff", "", "not JSON", None),
    ],
)
async def test_what_cannot_be_read_is_told(body: bytes, kind: str, why: str, line: int | None) -> None:
    with pytest.raises(FlawedSettingsError, match=why) as told:
        await sent(body, kind)
    assert [flaw.line for flaw in told.value.problems] == [line]


async def test_another_type_is_refused() -> None:
    with pytest.raises(HTTPException) as refused:
        await sent(b"name: a", "text/plain")
    assert refused.value.status_code == 415
