import pytest

from services.agent.conversation import Answer, Conversation, Entry, Role, replay


def answer_at(start: int) -> Answer:
    """Control head, 2 text, 3 speech, 2 text, 3 speech."""
    answer = Answer(start)
    answer.add([900, 901], is_speech=False)
    answer.add([1, 2], is_speech=False, text="Good day")
    answer.add([500, 501], is_speech=True)
    answer.add([502], is_speech=True)
    answer.add([3, 4], is_speech=False, text=", friend")
    answer.add([503, 504, 505], is_speech=True)
    return answer


@pytest.mark.parametrize(
    ("heard", "ids", "text"),
    [
        (0, [], ""),
        (1, [900, 901, 1, 2, 500], "Good day"),
        (3, [900, 901, 1, 2, 500, 501, 502], "Good day"),
        (4, [900, 901, 1, 2, 500, 501, 502, 3, 4, 503], "Good day, friend"),
        (6, [900, 901, 1, 2, 500, 501, 502, 3, 4, 503, 504, 505], "Good day, friend"),
        (99, [900, 901, 1, 2, 500, 501, 502, 3, 4, 503, 504, 505], "Good day, friend"),
    ],
)
def test_an_answer_is_cut_after_the_last_token_heard(heard: int, ids: list[int], text: str) -> None:
    kept = answer_at(10).cut(heard)
    assert kept.ids == ids
    assert kept.text == text
    assert kept.start == 10


def test_a_cut_answer_can_be_cut_again() -> None:
    assert answer_at(0).cut(4).cut(2).ids == answer_at(0).cut(2).ids


@pytest.mark.parametrize(
    ("heard", "text"),
    [
        (0, ""),
        (5, "We are"),
        (10, "We are open"),
        (25, "We are open Monday to Friday"),
        (40, "We are open Monday to Friday from nine to six."),
    ],
)
def test_the_text_heard_follows_the_speech_and_not_the_text_generated(heard: int, text: str) -> None:
    answer = Answer(0)
    answer.add([1, 2, 3], is_speech=False, text="We are open Monday to Friday")
    answer.add(range(500, 520), is_speech=True)
    answer.add([4, 5], is_speech=False, text=" from nine to six.")
    answer.add(range(520, 540), is_speech=True)
    answer.complete = True
    assert answer.text_heard(heard) == text


def test_the_text_heard_of_an_answer_under_way_goes_by_a_usual_pace() -> None:
    answer = Answer(0)
    answer.add([1, 2, 3], is_speech=False, text="We are open Monday to Friday from nine to six, Saturday from ten")
    answer.add(range(500, 526), is_speech=True)
    assert answer.text_heard(13) == "We are open Monday"


def test_of_a_text_without_spaces_characters_are_heard() -> None:
    answer = Answer(0)
    answer.add([1, 2, 3], is_speech=False, text="我们九点开门。")
    answer.add(range(500, 528), is_speech=True)
    answer.complete = True
    assert answer.text_heard(13) == "我们九"


def conversation_with(turns: int) -> tuple[Conversation, list[Entry]]:
    conversation = Conversation()
    entries = [conversation.system(range(10))]
    for turn in range(1, turns + 1):
        entries.append(conversation.user([100 + turn] * 5, turn))
        answer = Answer(len(conversation.ids))
        answer.add([200 + turn] * 5, is_speech=True)
        entries.append(conversation.assistant(answer, interrupted=False, turn=turn))
    return conversation, entries


def test_entries_rebuild_the_ids() -> None:
    conversation, entries = conversation_with(3)
    assert replay(entries) == conversation.ids
    assert [entry.length for entry in entries] == [10, 15, 20, 25, 30, 35, 40]


def test_a_rewind_is_recorded_and_rebuilt() -> None:
    conversation, entries = conversation_with(2)
    entries.append(conversation.user([7, 7], 3))
    entries.append(conversation.rewind(30, 3))
    assert entries[-1].role is Role.REWIND
    entries.append(conversation.user([8, 8, 8], 4))
    assert conversation.ids[30:] == [8, 8, 8]
    assert replay(entries) == conversation.ids


def test_a_rewind_may_not_touch_the_system_prompt_or_the_future() -> None:
    conversation, _ = conversation_with(1)
    for length in (9, 21):
        with pytest.raises(ValueError, match="between 10 and 20"):
            conversation.rewind(length, 1)


def test_an_answer_must_follow_the_ids() -> None:
    conversation, _ = conversation_with(1)
    with pytest.raises(ValueError, match="starts at 19"):
        conversation.assistant(Answer(19), interrupted=False, turn=1)


def test_trimming_leaves_out_the_oldest_turns_and_keeps_the_system_prompt() -> None:
    conversation, entries = conversation_with(4)
    entry = conversation.trim(35, turn=5)
    assert entry is not None
    assert entry.role is Role.RESET
    assert conversation.ids == [*range(10), *[103] * 5, *[203] * 5, *[104] * 5, *[204] * 5]
    assert replay([*entries, entry]) == conversation.ids
    assert conversation.trim(35, turn=5) is None


def test_trimming_twice_counts_from_the_new_ids() -> None:
    conversation, _ = conversation_with(4)
    conversation.trim(35, turn=5)
    conversation.trim(20, turn=6)
    assert conversation.ids == [*range(10), *[104] * 5, *[204] * 5]


def test_trimming_below_the_latest_turn_leaves_the_system_prompt() -> None:
    conversation, _ = conversation_with(2)
    conversation.trim(12, turn=3)
    assert conversation.ids == list(range(10))
    assert conversation.user([1], 3).length == 11


def test_what_a_recogniser_wrote_down_changes_no_ids() -> None:
    conversation = Conversation()
    entries = [conversation.system([1, 2]), conversation.user([3, 4], 1)]
    entries.append(Entry(Role.TRANSCRIPT, (), 4, "What are your opening hours?", turn=1))
    entries.append(conversation.assistant(answer_at(4), interrupted=False, turn=1))
    assert replay(entries) == conversation.ids
    rebuilt = Conversation.rebuilt(entries)
    assert rebuilt.ids == conversation.ids
    trimmed = rebuilt.trim(len(conversation.ids) - 1, 2)
    assert trimmed is not None
    assert trimmed.ids == (1, 2)
