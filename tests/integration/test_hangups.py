"""Phone calls hung up at random moments by either side leave nothing; tests/acceptance/hangups.py makes 300 of them."""

from pathlib import Path

from tests.integration.hangups import WAYS, hang_ups, line
from tests.integration.personas import short_persona
from tests.integration.stack import Stack

CALLS = 16


async def test_nothing_is_left_of_calls_hung_up_at_random(tiny_stack: Stack, tmp_path: Path) -> None:
    async with line(tiny_stack, short_persona(tmp_path)) as agent:
        before, after = [sample async for sample in hang_ups(agent, CALLS, seed=5, every=CALLS)]
    assert after.residue == before.residue
    assert not after.residue.objects
    for way in WAYS:
        assert any(how.startswith(way) for how in after.ways), after.ways
