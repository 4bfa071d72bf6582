"""Where an utterance is cut into blocks: by token counts alone, so that messages may be split in any way."""

from collections.abc import Sequence
from dataclasses import dataclass

FIRST_BLOCK = 10
NEXT_BLOCKS = (20, 30, 50)  # multiples of the encoder's block of 10; the last size repeats
HISTORY_TOKENS = 50  # what a block sees of the utterance before it: bounded, so cost grows with length, not its square


def history_start(block_start: int, encoder_block: int) -> int:
    """Where the history of the block at token `block_start` begins: at the start of an encoder block."""
    return max(0, block_start - HISTORY_TOKENS) // encoder_block * encoder_block


@dataclass(frozen=True)
class Block:
    """Tokens `start` up to `stop` of the utterance. A last block may be empty: only held back audio is due then."""

    start: int
    stop: int
    last: bool


class BlockSchedule:
    """Says which block can be synthesised next. A full block is never the last: what it holds back comes after it.

    Args:
        sizes: tokens of the first block, the second and so on; the last size repeats.
    """

    def __init__(self, sizes: Sequence[int] = (FIRST_BLOCK, *NEXT_BLOCKS)) -> None:
        self.received = 0
        self._sizes = sizes
        self._done = 0
        self._full_blocks = 0
        self._finished = False
        self._last_given = False

    def push(self, count: int) -> None:
        """`count` more tokens are there."""
        self.received += count

    def finish(self) -> None:
        """No more tokens will come."""
        self._finished = True

    def next(self) -> Block | None:
        """The next block, or none when more tokens are needed or all is done."""
        size = self._sizes[min(self._full_blocks, len(self._sizes) - 1)]
        if self.received - self._done >= size:
            self._full_blocks += 1
            block = Block(self._done, self._done + size, last=False)
        elif self._finished and self.received and not self._last_given:
            self._last_given = True
            block = Block(self._done, self.received, last=True)
        else:
            return None
        self._done = block.stop
        return block
