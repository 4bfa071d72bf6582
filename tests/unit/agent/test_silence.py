import pytest
from pydantic import ValidationError

from services.agent.personas import Persona, SilencePolicy
from services.agent.silence import SilenceAction, SilenceStep, SilenceWatch

POLICY = SilencePolicy(after_s=5.0, say="Hello?", times=2, goodbye="Bye.")
PIECE = 0.5


def quiet(watch: SilenceWatch, seconds: float, floor_is_free: bool = True) -> list[tuple[float, SilenceStep]]:
    """Steps with the seconds after which they came."""
    steps = []
    for piece in range(1, round(seconds / PIECE) + 1):
        step = watch.quiet(PIECE, floor_is_free)
        if step is not None:
            steps.append((piece * PIECE, step))
    return steps


SAY = SilenceStep(SilenceAction.SAY, "Hello?")
GOODBYE = SilenceStep(SilenceAction.SAY, "Bye.")
HANG_UP = SilenceStep(SilenceAction.HANG_UP)


def test_it_asks_twice_says_goodbye_and_hangs_up() -> None:
    watch = SilenceWatch(POLICY)
    assert quiet(watch, 15.5) == [(5.0, SAY), (10.0, SAY), (15.0, GOODBYE), (15.5, HANG_UP)]


def test_without_a_policy_silence_is_never_broken() -> None:
    assert quiet(SilenceWatch(None), 3600.0) == []


def test_it_does_not_count_while_the_bot_speaks_or_thinks() -> None:
    watch = SilenceWatch(POLICY)
    quiet(watch, 4.5)
    assert quiet(watch, 60.0, floor_is_free=False) == []
    assert quiet(watch, 4.5) == []
    assert quiet(watch, 0.5) == [(0.5, SAY)]


def test_it_hangs_up_only_after_the_goodbye_was_said() -> None:
    watch = SilenceWatch(POLICY)
    quiet(watch, 15.0)
    assert quiet(watch, 3.0, floor_is_free=False) == []
    assert quiet(watch, 0.5) == [(0.5, HANG_UP)]


@pytest.mark.parametrize("after", [2.0, 7.0, 12.0, 15.0])
def test_a_caller_who_makes_a_sound_is_asked_anew(after: float) -> None:
    watch = SilenceWatch(POLICY)
    quiet(watch, after)
    watch.caller_made_sound()
    assert quiet(watch, 15.5) == [(5.0, SAY), (10.0, SAY), (15.0, GOODBYE), (15.5, HANG_UP)]


def test_without_prompts_and_goodbye_it_just_hangs_up() -> None:
    watch = SilenceWatch(SilencePolicy(after_s=3.0, times=0, goodbye=""))
    assert quiet(watch, 3.0) == [(3.0, HANG_UP)]


def test_a_persona_has_none_unless_it_says_so() -> None:
    assert Persona(name="a", prompt="b").silence is None
    persona = Persona.model_validate({"name": "a", "prompt": "b", "silence": {}})
    assert persona.silence == SilencePolicy()


@pytest.mark.parametrize(
    ("silence", "wrong"),
    [({"after_s": 1}, "after_s"), ({"say": "  "}, "say"), ({"times": -1}, "times"), ({"prompts": 3}, "prompts")],
)
def test_what_is_wrong_with_a_policy_is_named(silence: dict[str, object], wrong: str) -> None:
    with pytest.raises(ValidationError) as error:
        Persona.model_validate({"name": "a", "prompt": "b", "silence": silence})
    assert error.value.errors()[0]["loc"] == ("silence", wrong)
