import pytest

from services.agent.outbound.answering_machine import Callee, CalleeSettings, Verdict

WINDOW_S = 0.032


def verdicts(*line: tuple[str, float]) -> list[tuple[Verdict, float]]:
    """What is reported, each with the time on the line: (`speech` | `silence` | `beep` | `nothing`, seconds)."""
    callee, told, at = Callee(CalleeSettings()), [], 0.0
    for what, seconds in line:
        for _ in range(round(seconds / WINDOW_S)):
            at += WINDOW_S
            if what == "nothing":
                verdict = callee.silence(WINDOW_S)
            else:
                verdict = callee.window(WINDOW_S, 0.9 if what in ("speech", "beep") else 0.1, what == "beep")
            if verdict is not None:
                told.append((verdict, round(at, 1)))
    return told


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # A person says hello and waits.
        ([("silence", 0.5), ("speech", 0.5), ("silence", 2)], [(Verdict.PERSON, 1.8)]),
        # Two words with a breath between them are one utterance.
        ([("speech", 0.4), ("silence", 0.5), ("speech", 0.4), ("silence", 2)], [(Verdict.PERSON, 2.1)]),
        # A longer sentence needs a longer pause: machines make such between theirs.
        ([("speech", 2.0), ("silence", 2)], [(Verdict.PERSON, 3.2)]),
        ([("speech", 2.0), ("silence", 1.0), ("speech", 1.0)], [(Verdict.MACHINE, 3.0)]),
        # Who says nothing is spoken to, with audio or without.
        ([("silence", 4)], [(Verdict.PERSON, 2.0)]),
        ([("nothing", 4)], [(Verdict.PERSON, 2.0)]),
        # A click is no word.
        ([("speech", 0.064), ("silence", 4)], [(Verdict.PERSON, 2.1)]),
        # A machine: three seconds without a real pause, then a beep.
        (
            [("speech", 2), ("silence", 0.4), ("speech", 3), ("silence", 0.5), ("beep", 0.5), ("silence", 1)],
            [(Verdict.MACHINE, 3.0), (Verdict.RECORDING, 6.4)],
        ),
        # One with pauses in its greeting: they end nothing once it is known.
        (
            [("speech", 3.2), ("silence", 2.0), ("speech", 4.0), ("silence", 1.0), ("beep", 0.3), ("silence", 1)],
            [(Verdict.MACHINE, 3.0), (Verdict.RECORDING, 10.6)],
        ),
        # One that only beeps.
        ([("silence", 0.5), ("beep", 0.5), ("silence", 1)], [(Verdict.MACHINE, 0.7), (Verdict.RECORDING, 1.0)]),
        # One that never beeps: silence tells.
        ([("speech", 4.0), ("silence", 5)], [(Verdict.MACHINE, 3.0), (Verdict.RECORDING, 7.0)]),
        # A tone without an end is no beep; nor is a blip.
        ([("speech", 4.0), ("beep", 5.0), ("silence", 2)], [(Verdict.MACHINE, 3.0)]),
        ([("speech", 4.0), ("beep", 0.1), ("speech", 1.0)], [(Verdict.MACHINE, 3.0)]),
        # One that talks on and on.
        ([("speech", 60)], [(Verdict.MACHINE, 3.0), (Verdict.ENDLESS, 48.0)]),
    ],
)
def test_who_has_answered(line: list[tuple[str, float]], expected: list[tuple[Verdict, float]]) -> None:
    told = verdicts(*line)
    assert [verdict for verdict, _ in told] == [verdict for verdict, _ in expected]
    for (_, at), (_, wanted) in zip(told, expected, strict=True):
        assert at == pytest.approx(wanted, abs=0.11)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="hello_pause_s"):
        CalleeSettings(pause_s=4)
    with pytest.raises(ValueError, match="beep_s"):
        CalleeSettings(beep_s=4)
    with pytest.raises(ValueError, match="hold_confidence"):
        CalleeSettings(hold_confidence=0.9)
