import random

import pytest

from services.decoder.blocks import FIRST_BLOCK, NEXT_BLOCKS, Block, BlockSchedule


def blocks_of(messages: list[int]) -> list[Block]:
    schedule, found = BlockSchedule(), []
    for count in messages:
        schedule.push(count)
        while (block := schedule.next()) is not None:
            found.append(block)
    schedule.finish()
    while (block := schedule.next()) is not None:
        found.append(block)
    assert schedule.next() is None
    return found


@pytest.mark.parametrize("total", [1, 9, 10, 11, 29, 30, 31, 60, 110, 160, 333])
def test_cuts_do_not_depend_on_messages(total: int) -> None:
    whole = blocks_of([total])
    assert whole == blocks_of([1] * total)
    rng = random.Random(total)
    messages: list[int] = []
    while sum(messages) < total:
        messages.append(min(rng.randrange(0, 30), total - sum(messages)))
    assert whole == blocks_of(messages)


@pytest.mark.parametrize("total", [1, 10, 60, 61, 500])
def test_blocks_cover_the_utterance_and_end_once(total: int) -> None:
    blocks = blocks_of([total])
    assert [block.start for block in blocks] == [0, *(block.stop for block in blocks[:-1])]
    assert blocks[-1].stop == total
    assert [block.last for block in blocks] == [False] * (len(blocks) - 1) + [True]


def test_sizes_grow() -> None:
    sizes = [block.stop - block.start for block in blocks_of([1000])]
    assert tuple(sizes[:4]) == (FIRST_BLOCK, *NEXT_BLOCKS)
    assert set(sizes[4:-1]) == {NEXT_BLOCKS[-1]}


def test_nothing_in_nothing_out() -> None:
    assert blocks_of([]) == []
