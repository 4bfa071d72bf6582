"""Whatever is appended and rewound, and whatever Redis loses: what it has in the end gives the conversation's ids."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.agent.conversation import Answer, Conversation, Entry, Role, replay
from services.agent.state.journal import Journal

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("user"), st.integers(1, 12)),
        st.tuples(st.just("answer"), st.integers(0, 12)),
        st.tuples(st.just("rewind"), st.integers(0, 100)),
        st.tuples(st.just("trim"), st.integers(4, 60)),
        st.tuples(st.just("write"), st.booleans()),
        st.tuples(st.just("lose"), st.integers(0, 5)),
    ),
    max_size=60,
)


class Stream:
    """The stream at Redis, with the rule of its script."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}

    @property
    def top(self) -> int:
        return max(self.entries, default=0)

    def append(self, entries: list[tuple[int, Entry]]) -> int:
        for number, entry in entries:
            if number > self.top:
                if self.top < (0 if entry.role is Role.RESET else number - 1):
                    break
                self.entries[number] = entry
        return self.top

    def lose(self, count: int) -> None:
        for number in sorted(self.entries)[max(len(self.entries) - count, 0) :]:
            del self.entries[number]


def change(conversation: Conversation, kind: str, amount: int, turn: int) -> Entry | None:
    start = len(conversation.ids)
    ids = range(1000 * turn, 1000 * turn + amount)
    if kind == "user":
        return conversation.user(ids, turn)
    if kind == "answer":
        answer = Answer(start)
        answer.add(ids, is_speech=True, text="word")
        return conversation.assistant(answer, interrupted=False, turn=turn)
    if kind == "rewind":
        return conversation.rewind(3 + (start - 3) * amount // 100, turn)
    return conversation.trim(amount, turn)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(steps=STEPS, max_weight=st.sampled_from([60, 200, 10_000]))
def test_redis_ends_up_with_exactly_the_conversation(steps: list[tuple[str, int]], max_weight: int) -> None:
    conversation, journal, stream = Conversation(), Journal(max_weight), Stream()
    journal.add(conversation.system([1, 2, 3]))
    for turn, (kind, amount) in enumerate(steps, 1):
        if kind == "lose":
            stream.lose(amount)
        elif kind == "write":
            if pending := journal.pending():
                last = stream.append(pending)
                if amount:  # else its answer is lost
                    journal.confirm(last)
        elif (entry := change(conversation, kind, amount, turn)) is not None:
            journal.add(entry)
    journal.confirm(stream.top)
    rounds = 0
    while pending := journal.pending():
        journal.confirm(stream.append(pending))
        rounds += 1
        assert rounds <= len(steps) + 2, "it comes to an end"
    entries = [stream.entries[number] for number in sorted(stream.entries)]
    assert replay(entries) == conversation.ids
    rebuilt = Conversation.rebuilt(entries)
    assert rebuilt.ids == conversation.ids
    if max_weight == 10_000:  # nothing was folded: the turns' boundaries are known too
        for budget in (4, 20, 40):
            rebuilt.trim(budget, 0)
            conversation.trim(budget, 0)
            assert rebuilt.ids == conversation.ids
