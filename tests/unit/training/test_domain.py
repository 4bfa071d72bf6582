from pathlib import Path
from random import Random

import pytest
import yaml

from services.lm.prompt import DEFAULT_TEXT_BLOCK
from training.domain.conversations import sample_call
from training.domain.facts import DEFAULT
from training.domain.numbers import number_split, random_number
from training.domain.replies import Memory, Receptionist, Request, all_fixed
from training.domain.requests import INTENTS, make_request
from training.domain.sentences import ENGLISH
from training.domain.wordings import PATTERNS, random_wording
from training.grammar import count, expand, makes
from training.languages import Language
from training.questions import ROWS, needed_phrases, test_questions
from training.splits import Split, assert_disjoint
from training.unseen import UNSEEN

ROOT = Path(__file__).parents[3]
NOTED = "Thank you, it is noted. A text message will follow."


def _some(split: Split, each: int) -> set[str]:
    rng = Random(0)
    return {random_wording(intent, split, rng) for intent in PATTERNS for _ in range(each)}


def test_wordings_of_test_are_not_in_training() -> None:
    train, validation, test = (_some(split, 300) for split in ("train", "validation", "test"))
    assert_disjoint(train, test, "wordings")
    assert_disjoint(train, validation, "wordings")
    assert len(train) > 5_000
    assert len(test) > 1_000


def test_there_are_many_wordings() -> None:
    assert sum(count(pattern) for patterns in PATTERNS.values() for pattern in patterns) > 100_000


def test_assert_disjoint_names_what_leaked() -> None:
    with pytest.raises(AssertionError, match=r"1 wordings .* 'b'"):
        assert_disjoint(["a", "b"], ["b", "c"], "wordings")


def test_hand_written_wordings_are_made_by_no_pattern() -> None:
    patterns = [pattern for patterns in PATTERNS.values() for pattern in patterns]
    made = [text for texts in UNSEEN.values() for text in texts if any(makes(pattern, text) for pattern in patterns)]
    assert not made


def test_a_pattern_makes_what_it_expands_to() -> None:
    rng = Random(5)
    for patterns in PATTERNS.values():
        for pattern in patterns:
            assert makes(pattern, expand(pattern, rng))
    assert not makes("[a|b] [c|]", "a d")
    assert count("[a|b [x|y]] [c|]") == 6


def test_numbers_of_a_split_stay_in_it() -> None:
    rng = Random(1)
    train = {random_number(rng, "train") for _ in range(500)}
    test = {random_number(rng, "test") for _ in range(500)}
    assert_disjoint(train, test, "numbers")
    assert {number_split(number) for number in test} == {"test"}


def test_every_intent_has_test_wordings_and_an_answer() -> None:
    rng = Random(2)
    for intent in INTENTS:
        _, request = make_request(intent, "test", rng)
        assert Receptionist().answer(request).endswith((".", "?", "。"))


def test_facts_are_those_of_the_default_persona() -> None:
    persona = yaml.safe_load((ROOT / "personas" / "default.yaml").read_text())
    assert persona["prompt"].strip() == DEFAULT.prompt()
    assert persona["greeting"] == DEFAULT.greeting


def test_a_number_is_confirmed_and_recalled_later() -> None:
    desk = Receptionist()
    assert desk.answer(Request("number", number="four seven one nine")) == "I have four seven one nine. Is that right?"
    assert desk.answer(Request("yes")) == NOTED
    assert desk.answer(Request("address")) == "Our address is twelve Quay Street."
    assert desk.answer(Request("recall")) == "The number is four seven one nine."
    assert desk.answer(Request("repeat")) == "The number is four seven one nine."


def test_a_denied_number_is_forgotten() -> None:
    desk = Receptionist()
    desk.answer(Request("number", number="one two three"))
    assert desk.answer(Request("no")) == ENGLISH.texts["again"]
    assert desk.answer(Request("recall")) == ENGLISH.texts["no_number"]


def test_yes_means_what_was_asked() -> None:
    desk = Receptionist()
    assert desk.answer(Request("yes")) == ENGLISH.texts["what_else"]
    desk.answer(Request("thanks"))
    assert desk.answer(Request("no")) == "Thank you for calling. Goodbye."


def test_a_pick_up_is_put_together_over_turns() -> None:
    desk = Receptionist()
    desk.answer(Request("book_open"))
    assert desk.answer(Request("book_day", day="Tuesday")) == "At what time on Tuesday?"
    assert (
        desk.answer(Request("book_time", time="ten thirty")) == "I have booked your pick-up for Tuesday at ten thirty."
    )
    desk.answer(Request("change_open"))
    assert desk.answer(Request("book", day="Friday", time="two")) == "Your pick-up is now on Friday at two."
    assert desk.answer(Request("book", day="Sunday", time="two")) == ENGLISH.texts["another_day"]


def test_calls_leave_out_answers_that_may_not_be_used() -> None:
    rng = Random(3)
    forbidden = DEFAULT.hours_on("Monday")

    def draw(intent: str, language: Language, rng: Random) -> tuple[int, Request]:
        if intent == "noise":
            return 0, Request("noise")
        return 0, make_request(intent, "train", rng)[1]

    calls = [sample_call(draw, rng, lambda reply: reply != forbidden) for _ in range(300)]
    said = [turn.reply for call in calls for turn in call]
    assert forbidden not in said
    assert any(reply.startswith("The number is") for reply in said)


def test_memory_starts_empty() -> None:
    assert Receptionist(greeted=False).memory == Memory()


def test_answers_are_short() -> None:
    longest = max(all_fixed(), key=lambda text: len(text.split()))
    assert len(longest.split()) <= 20
    assert DEFAULT_TEXT_BLOCK == 13


def test_questions_cover_the_rows_and_know_a_right_answer() -> None:
    questions = test_questions(40, 7)
    assert len(questions) == 40
    assert {question.row for question in questions} >= {1, 2, 3, 4, 5, 6, 9, 10, 11, 13, 14, 15, 17}
    rng = Random(4)
    for intent in ROWS:
        _, request = make_request(intent, "test", rng)
        right = Receptionist(greeted=False).answer(request)
        question = type(questions[0])("", ROWS[intent], intent, needed_phrases(request))
        assert question.is_right(right), (intent, right, question.needed)
        assert not question.is_right("I do not know what you mean.")
