import pytest

from services.agent.actions.keys import LONGEST_ENTRY, KeySequences, KeysMatch


def pressed(sequences: list[str], *keys: str, pause_s: float = 2.0) -> list[tuple[int, str]]:
    """Presses keys half a second apart; `-` is a pause that ends a sequence."""
    machine, now = KeySequences(sequences, pause_s), 0.0
    matches: list[KeysMatch | None] = []
    for key in "".join(keys):
        now += pause_s + 0.1 if key == "-" else 0.5
        matches.append(machine.idle(now))
        if key != "-":
            matches.append(machine.press(now, key))
    return [(match.index, match.keys) for match in matches if match is not None]


@pytest.mark.parametrize(
    ("sequences", "keys", "expected"),
    [
        (["0"], "0", [(0, "0")]),
        (["0"], "00", [(0, "0"), (0, "0")]),
        (["0"], "1", []),
        (["12", "34"], "3412", [(1, "34"), (0, "12")]),
        (["12"], "112", [(0, "12")]),  # a slip before it
        (["12"], "1-2", []),  # too slow
        (["12"], "1-12", [(0, "12")]),
        (["1", "12"], "12", [(1, "12")]),
        (["1", "12"], "1", []),  # 2 may follow
        (["1", "12"], "1-", [(0, "1")]),
        (["1", "12"], "13-", []),  # neither of them: what the caller meant is not known
        (["9#"], "9#", [(0, "9#")]),
        (["...#"], "471#", [(0, "471#")]),
        (["...#"], "471-", []),
        (["...#"], "#", []),
        (["...#"], "4*71#", [(0, "71#")]),
        (["...#"], "4" * LONGEST_ENTRY + "#", [(0, "4" * LONGEST_ENTRY + "#")]),
        (["1...#"], "147#", [(0, "147#")]),
        (["1...#"], "1#", []),
        (["1...#"], "247#", []),
        (["0", "...#"], "0-", [(0, "0")]),
        (["0", "...#"], "05#", [(1, "05#")]),
        (["5#", "...#"], "5#", [(0, "5#")]),  # the fixed one goes first
        (["...#", "5#"], "5#", [(1, "5#")]),
        (["**"], "***", [(0, "**")]),
    ],
)
def test_which_sequences_are_seen(sequences: list[str], keys: str, expected: list[tuple[int, str]]) -> None:
    assert pressed(sequences, keys) == expected


def test_the_deadline_follows_the_last_key() -> None:
    machine = KeySequences(["123"], 2.0)
    assert machine.deadline is None
    machine.press(10.0, "1")
    machine.press(11.5, "2")
    assert machine.deadline == 13.5
    assert machine.idle(13.4) is None
    assert machine.deadline == 13.5
    assert machine.idle(13.5) is None
    assert machine.deadline is None, "what was begun is forgotten"
    machine.press(14.0, "9")
    assert machine.deadline is None, "a key that leads nowhere waits for nothing"


def test_keys_without_an_end_are_not_kept() -> None:
    machine = KeySequences(["...#"], 2.0)
    for _ in range(1000):
        assert machine.press(0.0, "7") is None
    assert len(machine._pressed) <= LONGEST_ENTRY
