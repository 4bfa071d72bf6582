"""Which of the waiting utterances go through the encoder together. Pure logic: no thread, no clock."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


@dataclass(slots=True)
class _Waiting:
    frames: int
    urgent: bool
    overtaken: int = 0


class Batcher(Generic[T]):
    """Collects items and cuts batches of them, urgent ones first, otherwise in the order of arrival.

    A batch costs what its padded shape costs: its items times its longest one. Work that nobody waits for is overtaken
    by urgent work only so often: after `patience` batches it counts as urgent itself, so that no caller starves.

    Args:
        budget: frames of a batch, padding included. An item longer than that goes alone.
        patience: batches in which an item may be overtaken.

    Raises:
        ValueError: no budget.
    """

    def __init__(self, budget: int, patience: int = 8) -> None:
        if budget < 1:
            raise ValueError(f"the budget must be at least 1 frame, is {budget}")
        self._budget = budget
        self._patience = patience
        self._waiting: dict[T, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, item: T, frames: int, urgent: bool) -> None:
        """Queues an item.

        Args:
            item: what to give back in a batch; not waiting already.
            frames: its length.
            urgent: whether someone waits for it.
        """
        assert item not in self._waiting
        self._waiting[item] = _Waiting(frames, urgent)

    def discard(self, item: T) -> None:
        """Forgets an item, if it still waits."""
        self._waiting.pop(item, None)

    def take(self) -> list[T]:
        """The next batch; empty when nothing waits."""
        # Stable: the order of arrival stays among equals.
        order = sorted(self._waiting.items(), key=lambda entry: not self._comes_first(entry[1]))
        batch: list[T] = []
        longest = 0
        for item, waiting in order:
            longest = max(longest, waiting.frames)
            if batch and longest * (len(batch) + 1) > self._budget:
                break
            batch.append(item)
        for item in batch:
            del self._waiting[item]
        for waiting in self._waiting.values():
            waiting.overtaken += 1
        return batch

    def _comes_first(self, waiting: _Waiting) -> bool:
        return waiting.urgent or waiting.overtaken >= self._patience
