"""What a call has to write, and how much of it Redis has. Pure."""

from services.agent.conversation import Entry, Role, replay

MAX_WEIGHT = 400_000  # token ids kept for one call; hours of speech
ENTRY_WEIGHT = 16  # of an entry besides its ids
BATCH = 64  # entries written with one command


class Journal:
    """All entries of one live call by number, from 1 on, so that what Redis loses can be written again.

    When they get too many, the oldest become one entry of role RESET: the exact ids stay, the texts of these turns do
    not. It is written only if Redis has lost, or never got, what it stands for.
    """

    def __init__(self, max_weight: int = MAX_WEIGHT) -> None:
        self._max_weight = max_weight
        self._entries: list[Entry] = []
        self._first = 1  # number of the first one kept
        self._weight = 0
        self._confirmed = 0

    @property
    def last(self) -> int:
        """Number of the newest entry."""
        return self._first + len(self._entries) - 1

    @property
    def weight(self) -> int:
        """How much is kept, in token ids."""
        return self._weight

    def add(self, entry: Entry) -> None:
        """Takes the next entry."""
        self._entries.append(entry)
        self._weight += len(entry.ids) + ENTRY_WEIGHT
        if self._weight > self._max_weight and len(self._entries) > 1:
            self._fold()

    def confirm(self, last: int) -> None:
        """Redis has the entries up to number `last`: more than before, or fewer when it lost some."""
        self._confirmed = min(last, self.last)

    def pending(self) -> list[tuple[int, Entry]]:
        """The next entries to write, with their numbers; none when Redis has all."""
        start = max(self._confirmed + 1 - self._first, 0)
        return [(self._first + at, self._entries[at]) for at in range(start, min(start + BATCH, len(self._entries)))]

    def _fold(self) -> None:
        count = len(self._entries) // 2 + 1
        if self._weight - sum(len(entry.ids) + ENTRY_WEIGHT for entry in self._entries[:count]) > self._max_weight // 2:
            count = len(self._entries)
        folded = self._entries[:count]
        ids = tuple(replay(folded))
        self._entries[:count] = [Entry(Role.RESET, ids, len(ids), turn=folded[-1].turn)]
        self._first += count - 1
        self._weight = sum(len(entry.ids) + ENTRY_WEIGHT for entry in self._entries)
