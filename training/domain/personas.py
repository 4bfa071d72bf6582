"""Whom a caller speaks to: facts in one language, or in both."""

from dataclasses import dataclass
from random import Random

from training.domain import facts as english
from training.domain.facts import Facts
from training.domain.mandarin import facts as mandarin
from training.languages import Language
from training.splits import Split


@dataclass(frozen=True)
class Bilingual:
    """The facts in two languages, one prompt behind the other; the first is that of the greeting."""

    first: Facts
    second: Facts

    @property
    def language(self) -> Language:
        return self.first.language

    @property
    def languages(self) -> tuple[Language, ...]:
        return self.first.language, self.second.language

    @property
    def greeting(self) -> str:
        return self.first.greeting

    def speaking(self, language: Language) -> Facts:
        return self.second if self.second.language == language else self.first

    def prompt(self) -> str:
        return f"{self.first.prompt()} {self.second.prompt()}"

    def said_otherwise(self, rng: Random) -> str:
        return f"{self.first.said_otherwise(rng)} {self.second.said_otherwise(rng)}"


Persona = Facts | Bilingual
Languages = tuple[Language, ...]  # of a prompt, the greeting's first

DEFAULTS: dict[Language, Facts] = {"en": english.DEFAULT, "zh": mandarin.DEFAULT}


def _in_order(languages: Languages, found: dict[Language, Facts]) -> Persona:
    if len(languages) == 1:
        return found[languages[0]]
    return Bilingual(found[languages[0]], found[languages[1]])


def default_persona(languages: Languages) -> Persona:
    return _in_order(languages, DEFAULTS)


def random_persona(split: Split, rng: Random, languages: Languages) -> Persona:
    """One all of whose parts are of the split (hours of any); hours and prices are the same in both languages."""
    if languages == ("zh",):
        return mandarin.random_facts(split, rng)
    facts = english.random_facts(split, rng)
    if languages == ("en",):
        return facts
    other = mandarin.translate(facts, mandarin.random_who(split, rng), mandarin.random_address(split, rng))
    return _in_order(languages, {"en": facts, "zh": other})


def pool_persona(rng: Random, languages: Languages) -> Persona:
    """One of training's, all of whose answers are recorded."""
    pool = mandarin.training_pool()
    if languages == ("zh",):
        return pool.facts(rng)
    if languages == ("en",):
        return english.training_pool().facts(rng)
    facts = mandarin.shared_pool().facts(rng)
    other = mandarin.translate(facts, rng.choice(pool.who), rng.choice(pool.addresses))
    return _in_order(languages, {"en": facts, "zh": other})
