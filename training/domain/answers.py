"""Everything the agent may have to say, in each language and style."""

from collections.abc import Collection, Iterator
from random import Random

from training import corpus, corpus_zh
from training.domain.facts import Pool
from training.domain.facts import training_pool as english_pool
from training.domain.mandarin.facts import training_pool as mandarin_pool
from training.domain.numbers import random_number
from training.domain.personas import DEFAULTS
from training.domain.replies import SENTENCES, all_fixed
from training.domain.sentences import DAYS, STYLES, TIMES, Answer, Style
from training.languages import Language
from training.splits import Split, split_of

Said = tuple[str, Style]  # an answer and how it is spoken

_STYLED = 0.09
_FACTS_MIXED = 0.55


def pool_of(language: Language) -> Pool:
    """Training personas' parts."""
    return english_pool() if language == "en" else mandarin_pool()


def stated(language: Language) -> Iterator[str]:
    """Answers of which there is a limited number: fixed ones, days and times, and every fact of a training persona."""
    facts, sentences = DEFAULTS[language], SENTENCES[language]
    yield from all_fixed(facts)
    for day in DAYS:
        yield from (facts.hours_on(day), sentences.say(Answer("ask_time", day=day)))
        for time in TIMES:
            yield from (sentences.say(Answer(name, day=day, time=time)) for name in ("booked", "moved"))
    yield from pool_of(language).texts()


def confirmation(number: str, language: Language) -> str:
    return SENTENCES[language].say(Answer("confirmation", number=number))


def recollection(number: str, language: Language) -> str:
    return SENTENCES[language].say(Answer("recollection", number=number))


def _bare(number: str, language: Language) -> str:
    return corpus.written(number) if language == "en" else SENTENCES[language].number(number) + "。"


def wide_text(rng: Random, language: Language) -> str:
    """Words that the domain does not have."""
    return corpus.wide_text(rng) if language == "en" else corpus_zh.wide_text(rng)


def _endless(rng: Random, split: Split, language: Language) -> Iterator[str]:
    """Numbers without end, and sentences of any kind."""
    while True:
        number = random_number(rng, split, rng.choice([2, 7, 8]) if rng.random() < 0.03 else None)
        yield confirmation(number, language)
        if rng.random() < 0.5:
            yield recollection(number, language)
        if rng.random() < 0.2:
            yield _bare(random_number(rng, split, rng.choice([1, 2, 3, 4, 5, 6])), language)
        if rng.random() < 0.3:
            text = wide_text(rng, language)
            if split_of(text) == split:
                yield corpus.written(text) if language == "en" else f"{text}。"


def answers(rng: Random, split: Split, language: Language = "en") -> Iterator[str]:
    """What there is a limited number of first, then without end. In Mandarin, whose speech is slow to make, what every
    call has comes first, then facts and numbers mixed: however many there are, there are some of all."""
    limited: list[str] = list(stated(language)) if split == "train" else []
    endless = _endless(rng, split, language)
    if language == "zh":
        usual = set(_usual(language))
        yield from (text for text in limited if text in usual)
        limited = [text for text in limited if text not in usual]
        rng.shuffle(limited)
        while limited:
            yield limited.pop() if rng.random() < _FACTS_MIXED else next(endless)
    yield from limited
    yield from endless


def _usual(language: Language) -> Iterator[str]:
    """What callers of the default persona hear, and every pick-up."""
    yield from all_fixed(DEFAULTS[language])
    of_personas = set(pool_of(language).texts())
    yield from (text for text in stated(language) if text not in of_personas)


def styles_of(text: str, language: Language, usual: Collection[str], rng: Random) -> list[Style]:
    """In which styles an answer is learnt beside the plain one: every call's answers in all, others in some or none."""
    share = 1.0 if text in usual else _STYLED
    return [style for style in STYLES if rng.random() < share]
