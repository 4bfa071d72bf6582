from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.agent.persona_store.versions import (
    Change,
    Source,
    StaleVersionError,
    TakenError,
    Version,
    as_yaml,
    difference,
    from_files,
    plan,
)
from services.agent.personas import Persona
from services.common.errors import ServiceError, UnknownIdError

STEADY = settings(deadline=None, derandomize=True, database=None, max_examples=150)
NOW = 1.0


def persona(name: str = "desk", prompt: str = "You are Ann.", numbers: tuple[str, ...] = ()) -> Persona:
    return Persona(name=name, prompt=prompt, numbers=numbers)


def put(persona: Persona, expected: int | None = None, source: Source = Source.API) -> Change:
    return Change(persona.name, persona, source, "ann", expected)


def delete(name: str, expected: int | None = None) -> Change:
    return Change(name, None, Source.API, "ann", expected)


def after(newest: dict[str, Version], *changes: Change) -> dict[str, Version]:
    return {**newest, **{version.name: version for version in plan(newest, changes, NOW)}}


def test_versions_count_up_and_a_deletion_is_one() -> None:
    one = after({}, put(persona(), 0))
    two = after(one, put(persona(prompt="You are Bob."), 1))
    gone = after(two, delete("desk", 2))
    back = after(gone, put(persona(), 3))
    assert [step["desk"].number for step in (one, two, gone, back)] == [1, 2, 3, 4]
    assert [step["desk"].removed for step in (one, two, gone, back)] == [False, False, True, False]


def test_what_is_as_wished_makes_no_version() -> None:
    newest = after({}, put(persona()))
    assert plan(newest, [put(persona())], NOW) == []


def test_an_import_of_the_same_settings_takes_a_persona_from_its_file() -> None:
    newest = after({}, put(persona(), source=Source.FILE))
    assert after(newest, put(persona()))["desk"].source is Source.API


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (put(persona(), 0), TakenError),
        (put(persona(), 1), StaleVersionError),
        (put(persona(), 3), StaleVersionError),
        (delete("desk", 1), StaleVersionError),
        (put(persona("other"), 1), UnknownIdError),
        (delete("other"), UnknownIdError),
        (put(persona("other", numbers=("100",))), TakenError),
        (put(persona("back"), 7), UnknownIdError),
        (delete("back"), UnknownIdError),
    ],
)
def test_what_cannot_be_is_refused(change: Change, error: type[ServiceError]) -> None:
    newest = after({}, put(persona(numbers=("100",))), put(persona("back")))
    newest = after(newest, put(persona(prompt="x", numbers=("100",))), delete("back"))
    with pytest.raises(error):
        plan(newest, [change], NOW)


def test_numbers_can_be_exchanged_in_one_step() -> None:
    newest = after({}, put(persona("a", numbers=("1",))), put(persona("b", numbers=("2",))))
    with pytest.raises(TakenError, match="'2' would be answered by both 'a' and 'b'"):
        plan(newest, [put(persona("a", numbers=("2",)))], NOW)
    both = after(newest, put(persona("a", numbers=("2",))), put(persona("b", numbers=("1",))))
    assert both["a"].numbers == {"2"}


def test_a_deleted_persona_s_number_is_free() -> None:
    newest = after({}, put(persona("a", numbers=("1",))), delete("a"))
    assert after(newest, put(persona("b", numbers=("1",))))["b"].numbers == {"1"}


def test_files_count_until_the_api_changes_their_persona() -> None:
    files = {"desk": persona(), "new": persona("new")}
    changes, _ = from_files({}, files, "desk", "agent")
    assert [change.name for change in changes] == ["desk", "new"]
    newest = after({}, *changes)
    assert from_files(newest, files, "desk", "agent") == ([], [])
    files["desk"] = persona(prompt="You are Bob.")
    assert [change.name for change in from_files(newest, files, "desk", "agent")[0]] == ["desk"]
    newest = after(newest, put(persona(prompt="By the API.")), delete("new"))
    assert from_files(newest, files, "desk", "agent") == ([], ["desk", "new"])


def test_the_default_persona_comes_back_from_its_file() -> None:
    newest = after({}, put(persona()), delete("desk"))
    changes, _ = from_files(newest, {"desk": persona()}, "desk", "agent")
    assert after(newest, *changes)["desk"].number == 3


def test_a_difference_is_one_of_yaml() -> None:
    old = after({}, put(persona()))
    new = after(old, put(persona(prompt="You are Bob.")))
    lines = difference(old["desk"], new["desk"]).splitlines()
    assert lines[:2] == ["--- desk version 1", "+++ desk version 2"]
    assert [line for line in lines[3:] if line[0] in "+-"] == ["-prompt: You are Ann.", "+prompt: You are Bob."]
    assert difference(old["desk"], old["desk"]) == ""
    assert as_yaml(old["desk"].settings) == "name: desk\nprompt: You are Ann.\n"


def test_a_version_survives_redis() -> None:
    version = plan({}, [put(Persona(name="desk", prompt="你好", numbers=("1",), top_p=0.3))], 12.25)[0]
    assert Version.from_fields("desk", {key: str(value) for key, value in version.fields().items()}) == version
    older = Version.from_fields("desk", {"version": "3", "settings": '{"name": "desk", "prompt": "x"}'})
    assert (older.source, older.number, older.removed) == (Source.FILE, 3, False)


NAMES = st.sampled_from(["a", "b", "c"])
WISHES = st.builds(
    lambda name, prompt, numbers, expected: (
        put(persona(name, prompt, tuple(numbers)), expected) if prompt else delete(name, expected)
    ),
    NAMES,
    st.sampled_from(["", "one", "two"]),
    st.sets(st.sampled_from(["1", "2", "3"]), max_size=2),
    st.none() | st.integers(0, 6),
)


@STEADY
@given(st.lists(st.lists(WISHES, min_size=1, max_size=3), max_size=12))
def test_whatever_is_wished_no_number_is_answered_twice_and_no_version_is_left_out(steps: list[list[Change]]) -> None:
    newest: dict[str, Version] = {}
    for changes in steps:
        before = newest
        try:
            newest = after(newest, *changes)
        except ServiceError:
            assert newest is before, "all of it or nothing"
            continue
        numbers = Counter(number for version in newest.values() for number in version.numbers)
        assert all(count == 1 for count in numbers.values())
        for name, version in newest.items():
            made = [change for change in changes if change.name == name]
            earlier = before[name].number if name in before else 0
            assert earlier <= version.number <= earlier + len(made)
            if version.number == earlier:
                assert version == before[name], "a version never changes"
