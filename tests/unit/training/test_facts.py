from random import Random

import pytest

from training.domain.conversations import sample_call
from training.domain.facts import DEFAULT, Facts, number_words, random_facts, training_pool
from training.domain.replies import Receptionist, Request, all_fixed
from training.languages import Language
from training.splits import assert_disjoint


def test_personas_of_test_share_no_part_with_training() -> None:
    pool, rng = training_pool(), Random(1)
    test = [random_facts("test", rng) for _ in range(300)]
    assert_disjoint(
        (f"{n} {c}" for n, c in pool.who if c != DEFAULT.company), (f"{f.name} {f.company}" for f in test), "who"
    )
    assert_disjoint(pool.addresses, (f.address for f in test if f.address != DEFAULT.address), "addresses")
    prices = (f"{f.small} {f.medium} {f.large} {f.currency}" for f in test)
    assert_disjoint((" ".join(p) for p in pool.prices if p[0] != DEFAULT.small), prices, "prices")


def test_every_wording_of_a_prompt_has_all_facts() -> None:
    rng = Random(2)
    for _ in range(100):
        facts = random_facts("train", rng)
        for prompt in (facts.prompt(), facts.said_otherwise(rng)):
            for part in (facts.name, facts.company, facts.address, facts.small, facts.medium, facts.large):
                assert part in prompt
            for hour in (facts.opens, facts.closes, facts.saturday_opens, facts.saturday_closes):
                assert hour in prompt


def test_answers_come_from_the_facts() -> None:
    facts = Facts(
        "Tom", "Red Fox Mail", "eight", "five", "nine", "one", "forty two Mill Lane", "two", "five", "six", "pounds"
    )
    desk = Receptionist(greeted=False, persona=facts)
    assert desk.answer(Request("address")) == "Our address is forty two Mill Lane."
    assert desk.answer(Request("price_medium")) == "A medium parcel costs five pounds."
    assert desk.answer(Request("hours_day", day="Saturday")) == "On Saturday we are open from nine to one."
    assert desk.answer(Request("hours_day", day="Monday")) == "On Monday we are open from eight to five."
    assert desk.answer(Request("identity")) == "I am Tom, the automated assistant of Red Fox Mail."


def test_the_pool_has_everything_that_its_personas_state() -> None:
    pool, rng = training_pool(), Random(3)
    texts = set(pool.texts())
    facts_free = set(all_fixed())
    for _ in range(50):
        facts = pool.facts(rng)
        assert set(all_fixed(facts)) - facts_free <= texts
        assert facts.greeting in texts


def test_the_style_asked_for_is_kept_for_the_rest_of_the_call() -> None:
    def draw(intent: str, language: Language, rng: Random) -> tuple[int, Request]:
        return 0, Request(intent)

    script = ("address", "slower", "hours", "repeat_happy", "how", "normal", "bye")
    call = sample_call(draw, Random(1), lambda reply: True, script=script)
    assert [turn.style for turn in call if turn.request] == ["", "slow", "slow", "happy", "happy", "", ""]


@pytest.mark.parametrize(("value", "words"), [(1, "one"), (12, "twelve"), (40, "forty"), (99, "ninety nine")])
def test_numbers_in_words(value: int, words: str) -> None:
    assert number_words(value) == words


@pytest.mark.parametrize("value", [0, 100])
def test_numbers_out_of_range_are_refused(value: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 99"):
        number_words(value)
