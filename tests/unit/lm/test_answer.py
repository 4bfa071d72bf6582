import pytest

from services.lm.answer import Allowed, Answer, say_limit
from services.lm.engine import GenerationSettings, Kind, Reason
from services.lm.prompt import ChatTemplate, interleave


def run(answer: Answer, template: ChatTemplate, speech: int) -> tuple[list[int], Reason | None]:
    """Feeds the answer with a model that says `speech` speech tokens where it may, then the end."""
    ids: list[int] = []
    reason = None
    while reason is None:
        added = answer.forced()
        if not added:
            said = len(template.codes(ids))
            if said == speech and answer.allowed() is not Allowed.SPEECH:
                assert answer.ends_with(template.end)
                return ids, Reason.END_OF_TURN
            added = template.speech([said % 512])
        ids += added
        reason = answer.take(added)
    return ids, reason


def say(template: ChatTemplate, text: str, max_new_tokens: int = 2000) -> Answer:
    return Answer(template, GenerationSettings(say=text, max_new_tokens=max_new_tokens), {template.end})


@pytest.mark.parametrize("length", [1, 12, 13, 14, 26, 40])
def test_said_text_is_laid_out_like_the_training_data(template: ChatTemplate, length: int) -> None:
    text = "z" * length
    speech = 2 * length + 22
    ids, reason = run(say(template, text), template, speech)
    assert reason is Reason.END_OF_TURN
    assert ids == interleave(template.text.encode(text), template.speech(range(speech)), 13, 26)


def test_the_end_may_come_only_when_the_text_is_used_up(template: ChatTemplate) -> None:
    answer = say(template, "z" * 14)
    answer.take(answer.forced())
    assert answer.allowed() is Allowed.SPEECH
    for i in range(26):
        assert answer.forced() == []
        answer.take(template.speech([i]))
    assert answer.forced() == [ord("z")]
    answer.take(answer.forced())
    assert answer.allowed() is Allowed.SPEECH_OR_END


def test_a_model_that_never_ends_is_stopped(template: ChatTemplate) -> None:
    text = "good morning"
    ids, reason = run(say(template, text), template, speech=10**6)
    assert reason is Reason.MAX_TOKENS
    assert len(template.codes(ids)) == say_limit(text) < 80


def test_limit_gives_digits_and_other_scripts_more_time() -> None:
    assert say_limit("1030") > say_limit("abcd")
    assert say_limit("你好你好") > say_limit("abcd")


def test_max_tokens_counts_forced_text_too(template: ChatTemplate) -> None:
    ids, reason = run(say(template, "z" * 13, max_new_tokens=5), template, speech=3)
    assert (len(ids), reason) == (5, Reason.MAX_TOKENS)


def test_free_answers_force_nothing(template: ChatTemplate) -> None:
    answer = Answer(template, GenerationSettings(max_new_tokens=3), {template.end, 270})
    assert answer.forced() == []
    assert answer.allowed() is Allowed.ANSWER
    assert answer.ends_with(270)
    assert not answer.ends_with(65)
    assert answer.take([65]) is None
    assert answer.take(template.speech([1])) is None
    assert answer.take([66]) is Reason.MAX_TOKENS


@pytest.mark.parametrize("cut", range(0, 70, 3))
def test_resumed_saying_goes_on_where_it_was(template: ChatTemplate, cut: int) -> None:
    text = "z" * 30
    whole, _ = run(say(template, text), template, speech=60)
    resumed = Answer(template, GenerationSettings(say=text), {template.end}, whole[:cut])
    rest: list[int] = []
    while True:
        added = resumed.forced() or ([whole[cut + len(rest)]] if cut + len(rest) < len(whole) else [])
        if not added:
            break
        rest += added
        resumed.take(added)
    assert whole[:cut] + rest == whole


@pytest.mark.parametrize("text", ["", "z", "z" * 13, "z" * 14, "z" * 40])
@pytest.mark.parametrize("limit", [1, 13, 20, 39, 60, 2000])
def test_steps_reach_to_the_next_forced_text_or_to_the_end(template: ChatTemplate, text: str, limit: int) -> None:
    answer, reason = say(template, text, limit), None
    while reason is None:
        if forced := answer.forced():
            reason = answer.take(forced)
            continue
        steps, allowed = answer.steps(), answer.allowed()
        for left in range(steps, 0, -1):
            assert (answer.forced(), answer.allowed(), answer.steps(), reason) == ([], allowed, left, None)
            reason = answer.take(template.speech([5]))
        assert answer.forced() or reason is Reason.MAX_TOKENS


def test_kinds(template: ChatTemplate) -> None:
    answer = Answer(template, GenerationSettings(), {template.end})
    assert answer.kind(template.speech([5])[0]) is Kind.SPEECH
    assert answer.kind(65) is Kind.TEXT
