from random import Random

import pytest

from training.domain import requests as english
from training.domain.facts import Facts
from training.domain.mandarin.facts import (
    DEFAULT,
    MandarinFacts,
    random_facts,
    say_hours,
    say_prices,
    training_pool,
)
from training.domain.mandarin.requests import INTENTS, PATTERNS, bare_number, make_request, random_wording, time_as_said
from training.domain.mandarin.sentences import MANDARIN
from training.domain.mandarin.words import numeral
from training.domain.numbers import number_split
from training.domain.personas import Languages, pool_persona, random_persona
from training.domain.replies import Receptionist, Request, all_fixed
from training.domain.sentences import DAYS, ENGLISH, TIMES
from training.grammar import count, expand, makes, tidy
from training.languages import language_of
from training.questions import ROWS, needed_phrases, test_questions
from training.splits import Split, assert_disjoint


def _some(split: Split, each: int) -> set[str]:
    rng = Random(0)
    return {random_wording(intent, split, rng) for intent in PATTERNS for _ in range(each)}


def test_wordings_of_test_are_not_in_training() -> None:
    train, validation, test = (_some(split, 200) for split in ("train", "validation", "test"))
    assert_disjoint(train, test, "wordings")
    assert_disjoint(train, validation, "wordings")
    assert len(train) > 5_000
    assert len(test) > 1_000


def test_there_are_many_wordings() -> None:
    assert sum(count(pattern) for patterns in PATTERNS.values() for pattern in patterns) > 100_000


def test_a_pattern_makes_what_it_expands_to() -> None:
    rng = Random(5)
    for patterns in PATTERNS.values():
        for pattern in patterns:
            assert makes(pattern, expand(pattern, rng))


@pytest.mark.parametrize(
    ("text", "tidied"),
    [
        ("你们 几点 开门", "你们几点开门"),
        (" ok  谢谢 ", "ok谢谢"),
        ("帮我cancel pick up", "帮我cancel pick up"),
        ("对， 好。", "对，好。"),
    ],
)
def test_chinese_is_joined_without_blanks(text: str, tidied: str) -> None:
    assert tidy(text) == tidied


def test_requests_mean_what_english_ones_mean() -> None:
    rng = Random(1)
    for intent in INTENTS:
        for _ in range(20):
            text, request = make_request(intent, "train", rng)
            assert request.intent == intent
            assert request.language == "zh"
            assert "{" not in text
            assert language_of(text) == "zh"
            assert tidy(text) == text
            if request.number:
                assert number_split(request.number) == "train"
            if request.time:
                assert request.time in TIMES


def test_numbers_are_said_digit_by_digit_now_and_then_with_yao() -> None:
    rng = Random(2)
    said = {bare_number("train", rng, "one zero nine one")[0] for _ in range(60)}
    assert said == {"一零九一", "幺零九幺"}
    text, request = make_request("number", "test", rng, "one zero nine one")
    assert request.number == "one zero nine one"
    assert any(number in text for number in said)


def test_the_same_digits_are_in_the_same_split_in_both_languages() -> None:
    rng = Random(4)
    test = {make_request("number", "test", rng)[1].number for _ in range(300)}
    train = {request("number", "train", rng)[1].number for request in (make_request, english.make_request) * 300}
    assert_disjoint(train, test, "numbers")


@pytest.mark.parametrize("time", TIMES)
def test_times_are_said_with_their_hour(time: str) -> None:
    rng = Random(3)
    said = {time_as_said(time, rng) for _ in range(200)}
    assert len(said) >= 4
    assert all(("半" in text or "三十" in text) == ("thirty" in time) for text in said)


def test_the_intents_are_those_of_english() -> None:
    assert set(english.INTENTS) == set(INTENTS)


def test_mandarin_says_what_english_says() -> None:
    assert set(MANDARIN.texts) == set(ENGLISH.texts)
    for name, text in MANDARIN.texts.items():
        slots = {slot for slot in ("{number}", "{day}", "{time}") if slot in ENGLISH.texts[name]}
        assert all(slot in text for slot in slots)
        assert language_of(text) == "zh"
    assert all(text.endswith(("。", "？")) for text in all_fixed(DEFAULT))


def _parts(facts: Facts) -> tuple[str, str, str]:
    prices = (facts.small, facts.medium, facts.large, facts.currency)
    return f"{facts.name} {facts.company}", facts.address, " ".join(prices)


def test_personas_of_test_share_no_part_with_training() -> None:
    pool, rng = training_pool(), Random(1)
    train = [_parts(random_facts("train", rng)) for _ in range(300)]
    test = [_parts(random_facts("test", rng)) for _ in range(300)]
    test += [_parts(random_persona("test", rng, ("zh", "en")).speaking("zh")) for _ in range(100)]
    pooled = ([" ".join(who) for who in pool.who[1:]], pool.addresses[1:], [" ".join(p) for p in pool.prices[1:]])
    for place, what in enumerate(("who", "addresses", "prices")):
        known = {parts[place] for parts in train} | set(pooled[place])
        assert_disjoint(known, (parts[place] for parts in test), what)


def test_every_wording_of_a_prompt_has_all_facts() -> None:
    rng = Random(2)
    for _ in range(100):
        facts = random_facts("train", rng)
        for prompt in (facts.prompt(), facts.said_otherwise(rng)):
            for part in (facts.name, facts.company, facts.address, facts.opens, facts.closes):
                assert part in prompt
            for price in (facts.small, facts.medium, facts.large):
                assert f"{price}{facts.currency}" in prompt
            for hour in (facts.saturday_opens, facts.saturday_closes):
                assert hour in prompt


@pytest.mark.parametrize("languages", [("zh",), ("zh", "en"), ("en", "zh")])
def test_the_pool_has_everything_that_its_personas_state(languages: Languages) -> None:
    rng = Random(3)
    texts = {*training_pool().texts(), *all_fixed(DEFAULT)}
    for _ in range(30):
        facts = pool_persona(rng, languages).speaking("zh")
        assert set(all_fixed(facts)) <= texts
        assert {facts.hours_on(day) for day in DAYS} <= texts


def test_a_persona_of_two_languages_says_the_same_in_both() -> None:
    rng = Random(4)
    for _ in range(50):
        persona = random_persona("train", rng, ("en", "zh"))
        ours, theirs = persona.speaking("zh"), persona.speaking("en")
        prices = say_prices((theirs.small, theirs.medium, theirs.large, theirs.currency))
        assert prices == (ours.small, ours.medium, ours.large, ours.currency)
        hours = say_hours((theirs.opens, theirs.closes, theirs.saturday_opens, theirs.saturday_closes))
        assert hours == (ours.opens, ours.closes, ours.saturday_opens, ours.saturday_closes)


def test_answers_come_from_the_facts() -> None:
    facts = MandarinFacts(
        "王芳", "红狐速递", "早上八点", "下午五点", "上午九点", "下午一点", "人民路四十二号", "两", "五", "六", "元"
    )
    desk = Receptionist(greeted=False, persona=facts)

    def answer(intent: str, day: str = "", time: str = "", number: str = "") -> str:
        return desk.answer(Request(intent, number, day, time, "zh"))

    assert answer("address") == "我们的地址是人民路四十二号。"
    assert answer("price_small") == "寄一个小件两元。"
    assert answer("hours_day", "Saturday") == "我们周六上午九点到下午一点营业。"
    assert answer("hours_day", "Monday") == "我们周一早上八点到下午五点营业。"
    assert answer("identity") == "我是红狐速递的智能语音助手王芳。"
    assert answer("number", number="one zero two") == "您的单号是一零二，对吗？"
    assert answer("book", "Saturday", "ten thirty") == "已经帮您预约了周六上午十点半上门取件。"


@pytest.mark.parametrize(("value", "words"), [(1, "一"), (10, "十"), (12, "十二"), (20, "二十"), (99, "九十九")])
def test_numerals(value: int, words: str) -> None:
    assert numeral(value) == words


@pytest.mark.parametrize("value", [0, 100])
def test_numerals_out_of_range_are_refused(value: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 99"):
        numeral(value)


def test_questions_know_a_right_answer() -> None:
    questions = test_questions(40, 7, language="zh")
    assert {question.row for question in questions} >= {1, 2, 3, 4, 5, 6, 9, 10, 11, 13, 14, 15, 17}
    assert {language_of(question.text) for question in questions} == {"zh"}
    rng = Random(6)
    for intent in ROWS:
        _, request = make_request(intent, "test", rng)
        right = Receptionist(greeted=False, persona=DEFAULT).answer(request)
        question = type(questions[0])("", ROWS[intent], intent, needed_phrases(request))
        assert question.is_right(right), (intent, right, question.needed)
        assert not question.is_right("我不知道您的意思。")
        assert not question.is_right("I do not know what you mean.")
