"""What a persona's system prompt says, in English: names, hours, an address, prices; and personas made at random.

A persona is put together from four parts. Each part's combination is in training or kept for test by a hash of its
words, so a test persona has a name and company, an address and prices that no training prompt has together; the words
themselves are common to both. Opening hours are too few for that: all their combinations occur in training.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar, TypeVar

from training.domain.sentences import WEEKDAYS
from training.languages import Language
from training.splits import Split, split_of

NAMES = (
    "Mira", "Anna", "Tom", "Lucy", "Peter", "Nora", "Oscar", "Emma", "Leo", "Clara", "Hugo", "Julia", "Simon", "Alice",
    "Martin", "Sophie", "Daniel", "Helen", "Victor", "Grace", "Adam", "Rosa", "Felix", "Irene", "Max", "Laura", "Paul",
    "Diana", "Frank", "Ella", "Bruno", "Vera", "Olga", "Ruth", "George", "Kate", "Henry", "Mary", "Jack", "Linda",
)  # fmt: skip
_COMPANY_FIRST = (
    "Harbour", "North Star", "City", "River", "Golden", "Swift", "Blue", "Lion", "Eagle", "Metro", "Royal", "Union",
    "Silver", "Green", "Mountain", "Ocean", "Bridge", "Castle", "Falcon", "Sunrise", "Central", "Pioneer", "Atlas",
    "Red Fox", "Maple",
)  # fmt: skip
_COMPANY_LAST = ("Parcel", "Post", "Express", "Delivery", "Couriers", "Logistics", "Mail", "Cargo", "Shipping")
_STREETS = (
    "Quay", "Mill", "Church", "Park", "King", "Queen", "Market", "Station", "Garden", "Bridge", "Oak", "Maple", "River",
    "Lake", "Hill", "High", "London", "Castle", "Victoria", "Baker", "School", "Tower", "Rose", "Green", "Forest",
    "Harbour", "Mountain", "Bishop", "Spring", "Water", "Long", "Abbey", "Cherry", "Palace", "Museum",
)  # fmt: skip
_STREET_KINDS = ("Street", "Street", "Street", "Road", "Road", "Avenue", "Lane", "Square")
CURRENCIES = ("euros", "euros", "dollars", "pounds")
_ONES = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")

OPENS, CLOSES = ("seven", "eight", "nine", "ten"), ("four", "five", "six", "seven", "eight")
SATURDAY_OPENS, SATURDAY_CLOSES = ("nine", "ten", "eleven"), ("one", "two", "three", "four")

T = TypeVar("T")


def number_words(value: int) -> str:
    """1 to 99 in words, without a hyphen."""
    if not 1 <= value <= 99:
        raise ValueError(f"{value} is not between 1 and 99")
    if value < 20:
        return _ONES[value - 1]
    tens = _TENS[value // 10 - 2]
    return f"{tens} {_ONES[value % 10 - 1]}" if value % 10 else tens


@dataclass(frozen=True)
class Facts:
    """A persona's facts, in the words that are said, and the sentences that state them."""

    language: ClassVar[Language] = "en"

    name: str = "Mira"
    company: str = "Harbour Parcel"
    opens: str = "nine"
    closes: str = "six"
    saturday_opens: str = "ten"
    saturday_closes: str = "two"
    address: str = "twelve Quay Street"
    small: str = "four"
    medium: str = "seven"
    large: str = "eleven"
    currency: str = "euros"

    @property
    def languages(self) -> tuple[Language, ...]:
        return (self.language,)

    def speaking(self, language: Language) -> "Facts":
        """Themselves: a fact is stated in the language of the prompt where the prompt has no other."""
        return self

    @property
    def greeting(self) -> str:
        return f"Hello, this is {self.name} at {self.company}. How can I help you?"

    @property
    def identity(self) -> str:
        return f"I am {self.name}, the automated assistant of {self.company}."

    @property
    def hours(self) -> str:
        return (
            f"We are open Monday to Friday from {self.opens} to {self.closes}, Saturday from {self.saturday_opens} to "
            f"{self.saturday_closes}, closed on Sunday."
        )

    @property
    def weekend(self) -> str:
        return f"On Saturday we are open from {self.saturday_opens} to {self.saturday_closes}, on Sunday we are closed."

    @property
    def where(self) -> str:
        return f"Our address is {self.address}."

    @property
    def prices(self) -> str:
        return (
            f"A small parcel costs {self.small} {self.currency}, a medium one {self.medium}, a large one {self.large}."
        )

    @property
    def stated(self) -> dict[str, str]:
        """By name, every sentence that states facts and has nothing to fill in."""
        prices = {f"price_{size}": self.price_of(size) for size in ("small", "medium", "large")}
        return {
            "greeting": self.greeting,
            "hours": self.hours,
            "hours_weekend": self.weekend,
            "address": self.where,
            "price_all": self.prices,
            "identity": self.identity,
            **prices,
        }

    def hours_on(self, day: str) -> str:
        """`day` Monday to Saturday."""
        hours = (self.saturday_opens, self.saturday_closes) if day == "Saturday" else (self.opens, self.closes)
        return f"On {day} we are open from {hours[0]} to {hours[1]}."

    def price_of(self, size: str) -> str:
        """`size`: small, medium or large."""
        return f"A {size} parcel costs {getattr(self, size)} {self.currency}."

    def prompt(self) -> str:
        """In the wording of the default persona."""
        return f"You are {self.name} at {self.company}. {self.hours} {self.where} {self.prices}"

    def said_otherwise(self, rng: Random) -> str:
        """The same facts as another operator would write them: other sentences, in another order."""
        hours = rng.choice(
            [
                self.hours,
                f"Opening hours are {self.opens} to {self.closes} from Monday to Friday, and {self.saturday_opens} to "
                f"{self.saturday_closes} on Saturday. On Sunday we are closed.",
                f"We open at {self.opens} and close at {self.closes} Monday to Friday. On Saturday we are open from "
                f"{self.saturday_opens} to {self.saturday_closes}. Closed on Sunday.",
            ]
        )
        where = rng.choice([self.where, f"You find us at {self.address}.", f"The office is at {self.address}."])
        prices = rng.choice(
            [
                self.prices,
                f"A small parcel costs {self.small} {self.currency}, a medium parcel {self.medium} {self.currency}, a "
                f"large parcel {self.large} {self.currency}.",
                f"Prices: small {self.small} {self.currency}, medium {self.medium}, large {self.large}.",
            ]
        )
        facts = [hours, where, prices]
        rng.shuffle(facts)
        who = rng.choice(
            [
                f"You are {self.name} at {self.company}.",
                f"You are {self.name}, the assistant of {self.company}.",
                f"Your name is {self.name}. You work for {self.company}.",
            ]
        )
        return " ".join([who, *facts])


DEFAULT = Facts()


def in_split(make: Callable[[Random], T], key: Callable[[T], str], split: Split, rng: Random) -> T:
    while True:
        part = make(rng)
        if split_of(key(part)) == split:
            return part


def random_who(split: Split, rng: Random) -> tuple[str, str]:
    """Name and company."""

    def make(rng: Random) -> tuple[str, str]:
        return rng.choice(NAMES), f"{rng.choice(_COMPANY_FIRST)} {rng.choice(_COMPANY_LAST)}"

    return in_split(make, lambda who: f"who {who[0]} {who[1]}", split, rng)


def random_address(split: Split, rng: Random) -> str:
    def make(rng: Random) -> str:
        return f"{number_words(rng.randrange(1, 100))} {rng.choice(_STREETS)} {rng.choice(_STREET_KINDS)}"

    return in_split(make, lambda address: f"address {address}", split, rng)


def random_prices(split: Split, rng: Random, currencies: Sequence[str] = CURRENCIES) -> tuple[str, str, str, str]:
    """Small, medium, large, currency."""

    def make(rng: Random) -> tuple[str, str, str, str]:
        small = rng.randrange(2, 10)
        medium = small + rng.randrange(1, 8)
        large = medium + rng.randrange(1, 12)
        return number_words(small), number_words(medium), number_words(large), rng.choice(currencies)

    return in_split(make, lambda prices: "prices " + " ".join(prices), split, rng)


def random_hours(rng: Random) -> tuple[str, str, str, str]:
    return rng.choice(OPENS), rng.choice(CLOSES), rng.choice(SATURDAY_OPENS), rng.choice(SATURDAY_CLOSES)


def random_facts(split: Split, rng: Random, currencies: Sequence[str] = CURRENCIES) -> Facts:
    """A persona all of whose parts are of the split (hours of any)."""
    who, hours, where = random_who(split, rng), random_hours(rng), random_address(split, rng)
    return Facts(*who, *hours, where, *random_prices(split, rng, currencies))


def all_hours() -> list[tuple[str, str, str, str]]:
    return [(a, b, c, d) for a in OPENS for b in CLOSES for c in SATURDAY_OPENS for d in SATURDAY_CLOSES]


@dataclass(frozen=True)
class Pool:
    """Parts that training personas of one language are put together from; what is said of each has been recorded."""

    who: tuple[tuple[str, str], ...]
    addresses: tuple[str, ...]
    prices: tuple[tuple[str, str, str, str], ...]
    default: Facts = DEFAULT
    hours: tuple[tuple[str, str, str, str], ...] = field(default_factory=lambda: tuple(all_hours()))

    def facts(self, rng: Random) -> Facts:
        who, hours = rng.choice(self.who), rng.choice(self.hours)
        return self._with(who, hours, rng.choice(self.addresses), rng.choice(self.prices))

    def _with(
        self,
        who: tuple[str, str] | None = None,
        hours: tuple[str, str, str, str] | None = None,
        address: str | None = None,
        prices: tuple[str, str, str, str] | None = None,
    ) -> Facts:
        """The default persona with other parts."""
        d = self.default
        return type(d)(
            *(who or (d.name, d.company)),
            *(hours or (d.opens, d.closes, d.saturday_opens, d.saturday_closes)),
            address or d.address,
            *(prices or (d.small, d.medium, d.large, d.currency)),
        )

    def texts(self) -> list[str]:
        """Every answer that states a fact of some persona of the pool, and every greeting."""
        return list(dict.fromkeys(self._texts()))

    def _texts(self) -> Iterator[str]:
        for who in self.who:
            facts = self._with(who=who)
            yield from (facts.greeting, facts.identity)
        for address in self.addresses:
            yield self._with(address=address).where
        for prices in self.prices:
            facts = self._with(prices=prices)
            yield facts.prices
            yield from (facts.price_of(size) for size in ("small", "medium", "large"))
        for hours in self.hours:
            facts = self._with(hours=hours)
            yield from (facts.hours, facts.weekend, facts.hours_on("Saturday"))
            yield from (facts.hours_on(day) for day in WEEKDAYS)


@functools.cache
def training_pool(who: int = 500, addresses: int = 900, prices: int = 350, seed: int = 1) -> Pool:
    """The parts of training personas; the default persona's are among them."""
    rng = Random(f"pool {seed}")
    d = DEFAULT
    return Pool(
        tuple(dict.fromkeys([(d.name, d.company), *(random_who("train", rng) for _ in range(who))])),
        tuple(dict.fromkeys([d.address, *(random_address("train", rng) for _ in range(addresses))])),
        tuple(
            dict.fromkeys(
                [(d.small, d.medium, d.large, d.currency), *(random_prices("train", rng) for _ in range(prices))]
            )
        ),
    )
