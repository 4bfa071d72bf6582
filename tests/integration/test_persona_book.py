"""Where calls look their personas up, over a real Redis that comes, goes, and forgets."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.agent.persona_store.book import LiveBook
from services.agent.persona_store.catalogue import KEPT_VERSIONS, Catalogue
from services.agent.persona_store.versions import Change, Source
from services.agent.personas import Persona
from services.agent.state.connection import Connection
from services.agent.state.settings import StateSettings
from services.common.errors import InvalidInputError, UnknownIdError
from tests.integration.stack import HOST, Process, free_port


class Redis:
    """A server without persistence, which can be stopped and started."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self.process: Process | None = None

    def start(self) -> None:
        command = [
            "redis-server",
            "--port",
            str(self.port),
            "--bind",
            HOST,
            "--save",
            "",
            "--dir",
            str(self._directory),
        ]
        self.process = Process("redis", command, self._directory / "redis.log")
        self.process.wait_serving()

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()

    def catalogue(self) -> Catalogue:
        return Catalogue(Connection.from_settings(StateSettings(redis_url=f"redis://{HOST}:{self.port}/0")))


@pytest.fixture
def redis(tmp_path: Path, require_debian: object) -> Iterator[Redis]:
    require_debian("redis-server")  # type: ignore[operator]
    server = Redis(tmp_path)
    server.start()
    yield server
    server.stop()


def put(name: str, prompt: str, *numbers: str, variable: str = "") -> Change:
    hook = {"name": "h", "kind": "webhook", "keys": "1", "url": "http://x", "headers": {"X": f"${{{variable}}}"}}
    content = {"name": name, "prompt": prompt, "numbers": numbers, "actions": [hook] if variable else []}
    return Change(name, Persona.model_validate(content), Source.API, "ann")


async def test_calls_see_each_change_and_the_last_one_known_while_redis_is_away(redis: Redis) -> None:
    ours, theirs = redis.catalogue(), redis.catalogue()
    await ours.apply(put("default", "one"))
    book = LiveBook(ours, await ours.newest(), "default", patience_s=(20.0, 20.0))
    assert (await book.answering("sip:100@example.com")).persona.prompt == "one"
    await theirs.apply(put("default", "two"), put("desk", "you", "100"))
    assert (await book.answering("sip:100@example.com")).persona.name == "desk"
    assert ((await book.named("")).persona.prompt, (await book.named("")).version) == ("two", 2)
    with pytest.raises(InvalidInputError, match="there are: default, desk"):
        await book.named("nobody")
    redis.stop()
    assert (await book.answering("sip:100@example.com")).persona.name == "desk"
    redis.start()  # it comes back empty
    assert (await book.named("")).persona.prompt == "two"
    assert (await theirs.newest())["desk"].numbers == {"100"}, "it was given back what was known"
    await theirs.apply(put("default", "three"))
    assert (await book.named("")).persona.prompt == "three"


async def test_what_an_agent_cannot_use_changes_nothing_for_it(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = redis.catalogue(), redis.catalogue()
    await ours.apply(put("default", "one"), put("desk", "you"))
    book = LiveBook(ours, await ours.newest(), "default", patience_s=(20.0, 20.0))
    monkeypatch.setenv("TRUNKLINE_PERSONA_ONLY_THERE", "x")
    change = put("desk", "with a variable", variable="TRUNKLINE_PERSONA_ONLY_THERE")
    monkeypatch.delenv("TRUNKLINE_PERSONA_ONLY_THERE")
    await theirs.apply(change, Change("default", None, Source.API, "ann"))
    assert ((await book.named("desk")).persona.prompt, (await book.named("desk")).version) == ("you", 1)
    assert (await book.named("")).persona.prompt == "one", "somebody must answer"


async def test_changes_made_at_once_all_come_through_in_some_order(redis: Redis) -> None:
    several = [redis.catalogue() for _ in range(4)]
    await asyncio.gather(*(one.apply(put("default", f"by {number}")) for number, one in enumerate(several)))
    versions = await several[0].history("default")
    assert [version.number for version in versions] == [4, 3, 2, 1]
    assert {version.settings["prompt"] for version in versions} == {f"by {number}" for number in range(4)}


async def test_old_versions_are_forgotten(redis: Redis) -> None:
    catalogue = redis.catalogue()
    for number in range(KEPT_VERSIONS + 2):
        await catalogue.apply(put("default", f"number {number}"))
    assert len(await catalogue.history("default")) == KEPT_VERSIONS
    assert (await catalogue.version("default", 3)).settings["prompt"] == "number 2"
    with pytest.raises(UnknownIdError):
        await catalogue.version("default", 2)
