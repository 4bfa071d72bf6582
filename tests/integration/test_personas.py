"""What a persona's prompt says is what callers are told: hours and prices that are not the default persona's."""

from pathlib import Path

import yaml

from tests.integration.patience import until_right
from tests.integration.stack import Stack
from tests.integration.test_webrtc import ask, in_order
from tests.integration.webrtc_caller import calling, sample
from training.domain.facts import Facts
from training.splits import split_of

# Each part is of the test split: no training prompt has it.
FACTS = Facts(
    "Oscar",
    "North Star Parcel",
    "eight",
    "five",
    "nine",
    "one",
    "eight Station Lane",
    "three",
    "ten",
    "twelve",
    "pounds",
)


def test_the_facts_are_of_the_test_split() -> None:
    parts = [f"who {FACTS.name} {FACTS.company}", f"address {FACTS.address}"]
    parts.append(f"prices {FACTS.small} {FACTS.medium} {FACTS.large} {FACTS.currency}")
    assert {split_of(part) for part in parts} == {"test"}


async def test_another_persona_tells_its_own_facts(stack: Stack, tmp_path: Path) -> None:
    persona = {"name": "default", "prompt": FACTS.prompt(), "greeting": FACTS.greeting, "temperature": 0}
    (tmp_path / "default.yaml").write_text(yaml.safe_dump(persona))
    with stack.agent(capacity=1, personas=tmp_path) as agent:
        async with calling(agent.page) as caller:
            await caller.bot_is_quiet()
            assert caller.captions() == [FACTS.greeting]
            hours, price = sample("opening-hours"), sample("price-medium")
            await until_right(lambda: ask(caller, hours), lambda told: in_order(told, "eight five saturday nine one"))
            await until_right(lambda: ask(caller, price), lambda told: in_order(told, FACTS.medium))
