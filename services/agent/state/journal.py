"""What a call has to write, and how much of it Redis has. Pure."""

from services.agent.conversation import Entry, Role, replay

MAX_WEIGHT = 400_000  # token ids kept for one call; hours of speech
ENTRY_WEIGHT = 16  # of an entry besides its ids
BATCH = 64  # entries written with one command


class Journal:
    """All entries of one live call by number, from 1 on, so that what Redis loses can be written again.

    When they get too many, the oldest become one entry of role RESET, after the system prompt: the exact ids stay, the
    texts of these turns do not. It is written only if Redis has lost, or never got, what it stands for.
    """

    def __init__(self, max_weight: int = MAX_WEIGHT) -> None:
        self._max_weight = max_weight
        self._entries: list[tuple[int, Entry]] = []
        self._confirmed = 0
        self.weight = 0  # of what is kept, in token ids

    @property
    def last(self) -> int:
        """Number of the newest entry."""
        return self._entries[-1][0] if self._entries else 0

    def add(self, entry: Entry) -> None:
        """Takes the next entry."""
        self._entries.append((self.last + 1, entry))
        self.weight += _weight(entry)
        if self.weight > self._max_weight:
            self._fold()

    def confirm(self, last: int) -> None:
        """Redis has the entries up to number `last`: more than before, or fewer when it lost some."""
        self._confirmed = min(last, self.last)

    def pending(self) -> list[tuple[int, Entry]]:
        """The next entries to write, with their numbers; none when Redis has all."""
        first = len(self._entries)
        while first and self._entries[first - 1][0] > self._confirmed:
            first -= 1
        return self._entries[first : first + BATCH]

    def _fold(self) -> None:
        """Halves what is kept, if the ids themselves leave room for that."""
        keep, weight = len(self._entries), 0
        while keep and weight + _weight(self._entries[keep - 1][1]) <= self._max_weight // 2:
            keep -= 1
            weight += _weight(self._entries[keep][1])
        folded = self._entries[:keep]
        if len(folded) < 2:
            return
        number, last = folded[-1]
        ids = tuple(replay(entry for _, entry in folded))
        head = folded[:1] if folded[0][1].role is Role.SYSTEM else []
        self._entries[:keep] = [*head, (number, Entry(Role.RESET, ids, len(ids), turn=last.turn))]
        self.weight = sum(_weight(entry) for _, entry in self._entries)


def _weight(entry: Entry) -> int:
    return len(entry.ids) + ENTRY_WEIGHT
