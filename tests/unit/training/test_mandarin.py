from random import Random

import pytest

from training.domain import requests as english
from training.domain.mandarin.requests import INTENTS, PATTERNS, bare_number, make_request, random_wording, time_as_said
from training.domain.numbers import number_split
from training.domain.replies import TIMES
from training.grammar import count, expand, makes, tidy
from training.splits import Split, assert_disjoint


def _some(split: Split, each: int) -> set[str]:
    rng = Random(0)
    return {random_wording(intent, split, rng) for intent in PATTERNS for _ in range(each)}


def test_every_intent_of_english_has_wordings() -> None:
    assert set(english.INTENTS) <= set(INTENTS)


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


@pytest.mark.parametrize("time", TIMES)
def test_times_are_said_with_their_hour(time: str) -> None:
    rng = Random(3)
    said = {time_as_said(time, rng) for _ in range(200)}
    assert len(said) >= 4
    assert all(("半" in text or "三十" in text) == ("thirty" in time) for text in said)
