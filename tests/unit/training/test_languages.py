from random import Random

import pytest

from training.domain.agent import style_of
from training.domain.conversations import INTENTS, sample_call
from training.domain.facts import Facts
from training.domain.manners import MANNERS
from training.domain.personas import DEFAULTS, Bilingual
from training.domain.replies import REPEATED, STYLE_ASKED, Receptionist, Request
from training.domain.requests import make_request
from training.languages import Language, language_of
from training.shards import Clip
from training.splits import Split

BOTH = Bilingual(DEFAULTS["en"], DEFAULTS["zh"])
ADDRESS = {"en": "Our address is twelve Quay Street.", "zh": "我们的地址是码头街十二号。"}
NOTED = "Thank you, it is noted. A text message will follow."


def test_the_answer_follows_the_caller_turn_by_turn() -> None:
    desk = Receptionist(persona=BOTH)
    assert desk.answer(Request("address", language="zh")) == ADDRESS["zh"]
    assert desk.answer(Request("address")) == ADDRESS["en"]
    assert desk.answer(Request("bye", language="zh")) == "感谢您的来电，再见。"


def test_what_is_remembered_is_common_to_both_languages() -> None:
    desk = Receptionist(persona=BOTH)
    desk.answer(Request("number", number="four seven one nine", language="zh"))
    assert desk.answer(Request("yes")) == NOTED
    assert desk.answer(Request("recall")) == "The number is four seven one nine."
    assert desk.answer(Request("repeat", language="zh")) == "单号是四七一九。"
    desk.answer(Request("book_day", day="Tuesday", language="zh"))
    assert desk.answer(Request("book_time", time="two")) == "I have booked your pick-up for Tuesday at two."


def test_the_last_answer_comes_again_in_the_language_asked_for() -> None:
    desk = Receptionist(persona=BOTH)
    desk.answer(Request("address"))
    assert desk.answer(Request("repeat_chinese")) == ADDRESS["zh"]
    assert desk.answer(Request("repeat_english", language="zh")) == ADDRESS["en"]
    assert desk.answer(Request("chinese")) == "好的，我说中文。"
    assert desk.answer(Request("english", language="zh")) == "Of course, I will speak English."


def test_without_a_last_answer_a_repetition_asks_for_the_manner_alone() -> None:
    desk = Receptionist(greeted=False)
    assert desk.answer(Request("repeat_happy")) == "Of course, I will sound happy."
    assert desk.memory.style == "happy"
    assert Receptionist(greeted=False).answer(Request("repeat_chinese")) == "好的，我说中文。"


@pytest.mark.parametrize(("intent", "style"), STYLE_ASKED.items())
def test_a_style_is_kept_until_another_is_asked_for(intent: str, style: str) -> None:
    desk = Receptionist(persona=BOTH)
    desk.answer(Request("repeat_sad"))
    assert desk.memory.style == "sad"
    desk.answer(Request(intent, language="zh"))
    desk.answer(Request("address"))
    assert desk.memory.style == style


def test_a_repetition_in_a_style_is_the_last_answer_and_keeps_what_was_asked() -> None:
    desk = Receptionist()
    asked = desk.answer(Request("number", number="one two three"))
    assert desk.answer(Request("repeat_slow")) == asked
    assert desk.memory.style == "slow"
    assert desk.answer(Request("yes")) == NOTED


def test_noise_is_answered_in_the_language_spoken_last() -> None:
    desk = Receptionist(persona=BOTH)
    desk.answer(Request("hours", language="zh"))
    assert desk.answer(Request("noise")) == "不好意思，我没有听清。"
    assert Receptionist(persona=DEFAULTS["zh"]).answer(Request("noise")) == "不好意思，我没有听清。"


def test_facts_that_the_prompt_lacks_in_a_language_are_stated_in_the_other() -> None:
    desk = Receptionist(persona=DEFAULTS["en"])
    assert desk.answer(Request("address", language="zh")) == ADDRESS["en"]
    assert desk.answer(Request("parcel", language="zh")) == "请告诉我您的包裹单号。"
    assert Receptionist(persona=DEFAULTS["zh"]).answer(Request("address")) == ADDRESS["zh"]


@pytest.mark.parametrize("first", ["en", "zh"])
def test_a_prompt_of_two_languages_has_the_facts_of_both(first: Language) -> None:
    second = next(language for language in DEFAULTS if language != first)
    persona = Bilingual(DEFAULTS[first], DEFAULTS[second])
    assert persona.greeting == DEFAULTS[first].greeting
    for prompt in (persona.prompt(), persona.said_otherwise(Random(1))):
        assert all(facts.address in prompt for facts in DEFAULTS.values())


def _calls(known: dict[Language, tuple[str, ...]], persona: Facts | Bilingual) -> list[list[Request]]:
    def draw(intent: str, language: Language, rng: Random) -> tuple[int, Request]:
        return 0, Request(intent, number="one two three", day="Monday", time="two", language=language)

    rng = Random(1)
    calls = [sample_call(draw, rng, lambda reply: True, persona=persona, known=known) for _ in range(400)]
    return [[turn.request for turn in call if turn.request] for call in calls]


def test_callers_switch_between_the_languages_that_are_known() -> None:
    both = _calls({"en": INTENTS, "zh": INTENTS}, BOTH)
    languages = [{request.language for request in call} for call in both]
    assert any(len(spoken) == 2 for spoken in languages)
    assert 0.3 < sum(call[0].language == "zh" for call in both) / len(both) < 0.7
    foreign = _calls({"en": INTENTS, "zh": INTENTS}, DEFAULTS["en"])
    assert 0.0 < sum(call[0].language == "zh" for call in foreign) / len(foreign) < 0.3
    assert {request.language for call in _calls({"en": INTENTS}, BOTH) for request in call} == {"en"}


def test_callers_ask_only_what_is_known() -> None:
    known = ("address", "yes", "no", "number", "recall", "bye", "book", "book_day", "book_time")
    assert {request.intent for call in _calls({"en": known}, BOTH) for request in call} <= set(known)


def test_manners_have_wordings_for_every_style_and_language() -> None:
    assert {*REPEATED, *REPEATED.values(), *STYLE_ASKED} - {"slower", "faster"} == set(MANNERS)
    rng = Random(1)
    splits: tuple[Split, ...] = ("train", "test")
    for intent in MANNERS:
        texts = {make_request(intent, split, rng)[0] for split in splits for _ in range(60)}
        assert len(texts) > 60
        assert {language_of(text) for text in texts} == {"en"}


def test_a_recording_says_its_style() -> None:
    assert style_of(Clip("a", "b", slots={"style": "sad"})) == "sad"
    assert style_of(Clip("a", "b", slots={"pace": "slow"})) == "slow"
    assert style_of(Clip("a", "b")) == ""
