import itertools
import random
import time

import pytest

from services.agent.actions.matcher import LONGEST_SENTENCE, Match, PatternError, TextMatcher, Wanted, words

GOODBYE = Wanted(("goodbye", "see you soon"))
CONNECT = Wanted(("i will connect you",))
PARCEL = Wanted((), r"(your )?parcel( \d)+ is on its way")


def found(text: str, *wanted: Wanted, cuts: tuple[int, ...] = ()) -> list[Match]:
    matcher = TextMatcher(wanted)
    edges = [0, *cuts, len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(edges)]
    return [*itertools.chain.from_iterable(matcher.feed(piece) for piece in pieces), *matcher.finish()]


@pytest.mark.parametrize(
    ("text", "wanted", "sentence"),
    [
        ("Thank you for calling. Goodbye.", GOODBYE, "Goodbye."),
        ("GOODBYE!", GOODBYE, "GOODBYE!"),
        ("Well, see you… soon", GOODBYE, None),  # a sentence's end lies between
        ("Well, see you, soon", GOODBYE, "Well, see you, soon"),
        ("One moment: I will -- connect you; to Ann.", CONNECT, "One moment: I will -- connect you; to Ann."),
        ("I will connect your parcel.", CONNECT, None),
        ("Ai will connect you.", CONNECT, None),
        ("I’ll call you.", Wanted(("i'll call",)), "I’ll call you."),
        ("ｇｏｏｄｂｙｅ", GOODBYE, "ｇｏｏｄｂｙｅ"),
        ("好的，祝您愉快，再见！谢谢", Wanted(("再见",)), "好的，祝您愉快，再见！"),
        ("再三见面", Wanted(("再见",)), None),
        ("Of course <transfer> one moment.", Wanted(("<transfer>",)), "Of course <transfer> one moment."),
        ("I can transfer you.", Wanted(("<transfer>",)), None),
        ("Hold on. [send-1] ok", Wanted(("[send-1]",)), "[send-1] ok"),
        ("Your parcel 4 7 1 is on its way.", PARCEL, "Your parcel 4 7 1 is on its way."),
        ("I think your parcel 4 is on its way.", PARCEL, None),  # anchored
        ("It costs 3.5 euros to say goodbye.", GOODBYE, "It costs 3.5 euros to say goodbye."),
        ("...", GOODBYE, None),
        ("", GOODBYE, None),
    ],
)
def test_what_is_found_however_the_text_is_cut(text: str, wanted: Wanted, sentence: str | None) -> None:
    expected = [] if sentence is None else [Match(0, sentence)]
    assert found(text, wanted) == expected
    assert found(text, wanted, cuts=tuple(range(1, len(text)))) == expected, "one character at a time"
    dice = random.Random(text)
    for _ in range(50):
        cuts = tuple(sorted(dice.sample(range(len(text) + 1), min(3, len(text)))))
        assert found(text, wanted, cuts=cuts) == expected, cuts


def test_each_is_found_once_and_in_the_order_of_the_text() -> None:
    text = "I will connect you. Goodbye. Goodbye. I will connect you."
    assert found(text, GOODBYE, CONNECT) == [Match(1, "I will connect you."), Match(0, "Goodbye.")]


def test_a_sentence_is_reported_before_the_next_one_is_there() -> None:
    matcher = TextMatcher([GOODBYE])
    assert matcher.feed("Good") == []
    assert matcher.feed("bye") == []
    assert matcher.feed(".") == [Match(0, "Goodbye.")]
    assert matcher.feed(" Thank you.") == matcher.finish() == []


def test_a_full_stop_after_a_digit_waits_for_what_follows() -> None:
    matcher = TextMatcher([Wanted((), "it costs 3( 5)?")])
    assert matcher.feed("It costs 3.") == []
    assert matcher.feed("5") == []
    assert matcher.finish() == [Match(0, "It costs 3.5")]


def test_a_text_without_an_end_costs_neither_memory_nor_time() -> None:
    matcher = TextMatcher([GOODBYE, Wanted((), "(a+)+b")])
    began = time.process_time()
    for _ in range(300):
        assert matcher.feed("a" * LONGEST_SENTENCE) == []
    assert time.process_time() - began < 5.0, "a backtracking engine would need years"
    assert len(matcher._sentence) <= LONGEST_SENTENCE


@pytest.mark.parametrize("pattern", ["(", "a{9999}", r"(a)\1", "(?=a)", "[z-a]"])
def test_a_pattern_that_re2_does_not_take_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        TextMatcher([Wanted((), pattern)])


def test_words_are_compared_without_case_and_punctuation() -> None:
    assert words("Ｗell—„STRASSE“, it's 3.5!") == ("well", "strasse", "it's", "3", "5")
