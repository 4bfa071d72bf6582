"""How answers are counted: digits and kinds in both languages, what is held out, sounds that are no speech."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from training import evaluation, quality
from training.domain.mandarin.requests import PATTERNS
from training.domain.replies import Receptionist, Request
from training.grammar import makes
from training.languages import Language, language_of
from training.lm import sounds
from training.lm.measures import digits_of, held_out, in_unseen_voice, kind_of
from training.paths import CACHE, Models
from training.questions import answered_in, mandarin_by_hand, speaker_of, test_questions
from training.shards import Clip
from training.tokenizer.encode import Utterance
from training.unseen_zh import UNSEEN_ZH


def heard(text: str, voice: str, number: str = "") -> Utterance:
    return Utterance(Clip(text, voice, "number", {"number": number}), [np.zeros(3, np.int16)])


def test_digits_and_kinds_in_both_languages() -> None:
    assert digits_of("I have four seven one. Is that right?") == ["four", "seven", "one"]
    assert digits_of("您的单号是四七一，对吗？") == ["four", "seven", "one"]
    for language in ("en", "zh"):
        desk = Receptionist()
        one, other = (
            desk.answer(Request("book", day=day, time=time, language=language))
            for day, time in (("Monday", "ten thirty"), ("Saturday", "two"))
        )
        assert one != other
        assert kind_of(one) == kind_of(other)
        assert kind_of(one) != kind_of(desk.answer(Request("cancel", language=language)))


def test_voices_for_tests_are_told_and_must_not_be_in_training() -> None:
    known = [heard("a", "kokorozf_xiaobei+af_bella@0.40@1.00x1.10")]
    stranger = heard("b", "kokorozm_yunxia@1.00x0.90")
    assert in_unseen_voice(stranger)
    assert not in_unseen_voice(known[0])
    assert held_out([stranger, heard("a", "hibari@1.00x1.00")], known) == [stranger]
    with pytest.raises(AssertionError, match="voices"):
        held_out([stranger], [*known, heard("c", "kokorozf_xiaobei+zm_yunxia@0.50@1.00x1.00")])
    with pytest.raises(AssertionError, match="numbers"):
        held_out([heard("d", "x@", "one two three")], [heard("e", "x@", "one two three")])


def test_mandarin_sentences_by_hand_are_made_by_no_pattern() -> None:
    patterns = [pattern for patterns in PATTERNS.values() for pattern in patterns]
    texts = [text for texts in UNSEEN_ZH.values() for text in texts]
    assert len(texts) == len(set(texts)) > 100
    assert not [text for text in texts if any(makes(pattern, text) for pattern in patterns)]
    assert set(UNSEEN_ZH) <= set(PATTERNS)


def test_half_of_the_mandarin_questions_are_by_hand() -> None:
    questions = test_questions(80, 1, language="zh")
    assert {language_of(question.text) for question in questions} == {"zh"}
    assert all(question.needed for question in questions)
    rng = Random(1)
    for intent in UNSEEN_ZH:
        text, request = mandarin_by_hand(intent, rng)
        assert "{" not in text
        assert answered_in(request) in ("en", "zh")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_strangers_are_in_voices_for_tests_alone(language: Language) -> None:
    for seed in range(20):
        assert in_unseen_voice(heard("a", speaker_of(language, Random(seed), strangers=True).name))


def test_sounds_that_are_no_speech_are_sounds() -> None:
    for name, waves in sounds.no_speech(5, 1).items():
        assert len(waves) == 5, name
        for wave in waves:
            assert wave.dtype == np.float32
            assert 0 < np.abs(wave).max() <= 1
    assert all(np.abs(wave).max() < 0.03 for wave in sounds.no_speech(5, 2)["silence"])


def test_likeness_of_a_set_with_itself_leaves_out_each_own_pair() -> None:
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    found = [one, other]
    assert quality.alike(found, found) == 0
    assert quality.alike([one], [one, other]) == 0.5


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(SystemExit, match="no part 'x'"):
        evaluation.evaluate(Models(), ("tokenizer", "x"), 1, 0)


def test_states_of_training_lie_under_the_name_of_the_weights() -> None:
    models = Models(Path("somewhere") / "bilingual")
    assert models.checkpoint("lm") == CACHE / "bilingual" / "lm.pt"
    assert models.tokenizer == Path("somewhere/bilingual/tokenizer")
