from services.agent.conversation import Entry, Role, replay
from services.agent.state.journal import BATCH, Journal


def entry(*ids: int) -> Entry:
    return Entry(Role.USER, ids, 0)


def numbers(journal: Journal) -> list[int]:
    return [number for number, _ in journal.pending()]


def test_entries_are_pending_until_confirmed() -> None:
    journal = Journal()
    assert numbers(journal) == []
    for token in range(3):
        journal.add(entry(token))
    assert numbers(journal) == [1, 2, 3]
    journal.confirm(2)
    assert numbers(journal) == [3]
    journal.confirm(3)
    assert numbers(journal) == []


def test_what_redis_lost_is_pending_again() -> None:
    journal = Journal()
    for token in range(3):
        journal.add(entry(token))
    journal.confirm(3)
    journal.confirm(1)
    assert numbers(journal) == [2, 3]


def test_long_gaps_are_written_in_batches() -> None:
    journal = Journal()
    for token in range(BATCH + 5):
        journal.add(entry(token))
    assert numbers(journal) == list(range(1, BATCH + 1))
    journal.confirm(BATCH)
    assert numbers(journal) == list(range(BATCH + 1, BATCH + 6))


def test_memory_is_bounded_and_the_ids_stay_exact() -> None:
    journal = Journal(max_weight=1000)
    entries = []
    for number in range(400):
        added = Entry(Role.REWIND, (), number) if number % 7 == 6 else entry(*range(number, number + 9))
        entries.append(added)
        journal.add(added)
        kept = journal.pending()
        assert journal.last == number + 1
        assert replay(one for _, one in kept) == replay(entries)
        assert [number for number, _ in kept] == list(range(kept[0][0], journal.last + 1))
        assert journal.weight <= max(1000, len(replay(entries)) + 32)
    assert kept[0][1].role is Role.RESET
    journal.confirm(journal.last - 1)
    assert numbers(journal) == [journal.last], "what was folded is not written when Redis has it"
