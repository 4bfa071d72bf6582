import socket

import pytest

from services.agent.replicas.discovery import Targets, look_up


async def records(name: str) -> list[str]:
    return {"pods": ["10.0.0.1", "10.0.0.2", "fd00::1"], "none": []}[name]


@pytest.mark.parametrize(
    ("value", "addresses", "names"),
    [
        ("127.0.0.1:50051", ("127.0.0.1:50051",), ()),
        ("a:1, b:2,[::1]:3", ("a:1", "b:2", "[::1]:3"), ()),
        ("dns:lm.voice.svc:50052", (), (("lm.voice.svc", 50052),)),
        ("a:1,dns:pods:2", ("a:1",), (("pods", 2),)),
    ],
)
def test_lists_and_names(value: str, addresses: tuple[str, ...], names: tuple[tuple[str, int], ...]) -> None:
    assert Targets.parse(value) == Targets(addresses, names)


@pytest.mark.parametrize(
    "value", ["", " , ", "host", "host:", "host:0", "host:65536", "dns:name", "a:1;b:2", "http://a:1"]
)
def test_anything_else_is_refused_in_words(value: str) -> None:
    with pytest.raises(ValueError, match=r"must (be|name)"):
        Targets.parse(value)


async def test_each_address_of_a_name_is_a_replica_and_none_counts_twice() -> None:
    found = await Targets.parse("10.0.0.2:7,dns:pods:7,dns:none:7").resolve(records)
    assert found == {"10.0.0.2:7": "", "10.0.0.1:7": "pods", "[fd00::1]:7": "pods"}


async def test_the_systems_resolver_is_asked() -> None:
    assert set(await look_up("localhost")) <= {"127.0.0.1", "::1"}
    assert await look_up("localhost")


async def test_a_name_without_records_has_no_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    assert await look_up("gone.example") == []


async def test_a_resolver_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    with pytest.raises(OSError, match="Temporary failure"):
        await look_up("pods")
