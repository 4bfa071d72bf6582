from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch

from services.common.errors import AtCapacityError, ContextFullError, InvalidInputError, WrongOrderError
from services.lm.engine import Added, Event, Failed, Finished, GenerationSettings, Kind, Reason
from services.lm.prompt import ChatTemplate, interleave
from services.lm.torch_engine.planning import Chunks
from services.lm.torch_engine.runner import Span
from services.lm.torch_engine.scheduler import Scheduler
from services.lm.torch_engine.sessions import SessionState

Make = Callable[..., Scheduler]
GREEDY = GenerationSettings(max_new_tokens=60)
SAMPLED = GenerationSettings(temperature=1.0, top_p=0.95, seed=17, max_new_tokens=60)


@dataclass
class Client:
    """One session and what it was told."""

    scheduler: Scheduler
    events: list[Event] = field(default_factory=list)
    state: SessionState = field(init=False)

    def open(self, tokens: list[int]) -> "Client":
        self.state = self.scheduler.open(tokens, self.events.append)
        return self

    @property
    def answer(self) -> list[int]:
        return [i for e in self.events if isinstance(e, Added) and e.kind is not Kind.CONTROL for i in e.tokens]

    @property
    def reason(self) -> Reason | None:
        last = self.events[-1] if self.events else None
        return last.reason if isinstance(last, Finished) else None


def prompt(template: ChatTemplate, text: str = "hello world", turns: int = 1) -> list[int]:
    ids = [*template.prefix, *template.system("be kind")]
    for turn in range(turns):
        ids += template.user_speech_head() + template.speech(range(turn, 40 + turn)) + template.end_of_speech()
        ids += template.user_text(text)
    return ids


def finish(scheduler: Scheduler) -> None:
    while scheduler.has_work:
        scheduler.step()


def alone(make: Make, tokens: list[int], settings: GenerationSettings, chunk: int = 64) -> Client:
    scheduler = make(chunk=chunk, silent=chunk)
    client = Client(scheduler).open(tokens)
    scheduler.generate(client.state, settings)
    finish(scheduler)
    return client


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED])
def test_answer_does_not_depend_on_how_the_prompt_was_cut(
    make_scheduler: Make, template: ChatTemplate, settings: GenerationSettings
) -> None:
    ids = prompt(template, turns=4)
    whole = alone(make_scheduler, ids, settings, chunk=1000)
    assert len(whole.answer) > 10
    for chunk in (1, 7, 64):
        assert alone(make_scheduler, ids, settings, chunk).answer == whole.answer
    scheduler = make_scheduler()
    client = Client(scheduler).open(ids[:5])
    for start in range(5, len(ids), 11):
        scheduler.append(client.state, ids[start : start + 11])
        scheduler.step()
    scheduler.generate(client.state, settings)
    finish(scheduler)
    assert client.answer == whole.answer


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED])
def test_sessions_together_are_as_alone(
    make_scheduler: Make, template: ChatTemplate, settings: GenerationSettings
) -> None:
    texts = ["a", "what?", "st", "more", "hello", "hello world", "stream", "re"]
    prompts = [prompt(template, text, turns) for turns, text in enumerate(texts, start=1)]
    expected = [alone(make_scheduler, ids, settings).answer for ids in prompts]
    assert len({tuple(answer) for answer in expected}) == 8
    scheduler = make_scheduler()
    clients = []
    for ids in prompts:
        client = Client(scheduler).open(ids)
        scheduler.generate(client.state, settings)
        for _ in range(3):
            scheduler.step()
        clients.append(client)
    finish(scheduler)
    assert [client.answer for client in clients] == expected


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED])
def test_truncated_session_is_a_fresh_one_of_those_ids(
    make_scheduler: Make, template: ChatTemplate, settings: GenerationSettings
) -> None:
    scheduler = make_scheduler()
    client = Client(scheduler).open(prompt(template))
    scheduler.generate(client.state, settings)
    finish(scheduler)
    length = len(client.state.tokens) - 20
    assert scheduler.truncate(client.state, length) == length
    kept = list(client.state.tokens)
    assert len(kept) == length
    follow = template.user_text("and now?")
    scheduler.append(client.state, follow)
    client.events.clear()
    scheduler.generate(client.state, settings)
    finish(scheduler)
    assert client.answer == alone(make_scheduler, kept + follow, settings).answer


@pytest.mark.parametrize(
    "settings",
    [
        GREEDY,
        SAMPLED,
        GenerationSettings(temperature=0.8, top_p=0.9, seed=3, max_new_tokens=90, say="hello there, you"),
    ],
)
def test_another_replica_goes_on_in_mid_answer(
    make_scheduler: Make, template: ChatTemplate, settings: GenerationSettings
) -> None:
    first = alone(make_scheduler, prompt(template), settings)
    head = len(prompt(template)) + len(template.assistant_head())
    assert len(first.answer) > 30
    for cut in (0, 1, 5, 17, 30):
        resumed = GenerationSettings(
            settings.temperature, settings.top_p, settings.seed, len(first.answer) - cut, settings.say, resume=True
        )
        second = alone(make_scheduler, first.state.tokens[: head + cut], resumed)
        assert Kind.CONTROL not in [event.kind for event in second.events if isinstance(event, Added)]
        assert first.answer[:cut] + second.answer == first.answer


def test_resume_needs_an_answer(make_scheduler: Make, template: ChatTemplate) -> None:
    scheduler = make_scheduler()
    client = Client(scheduler).open(prompt(template))
    with pytest.raises(WrongOrderError, match="does not end in an answer"):
        scheduler.generate(client.state, GenerationSettings(resume=True))


def test_head_comes_first_and_the_end_token_stays_out(make_scheduler: Make, template: ChatTemplate) -> None:
    client = alone(make_scheduler, prompt(template), GenerationSettings(say="hello", temperature=3.0, seed=1))
    first = client.events[0]
    assert isinstance(first, Added)
    assert first.kind is Kind.CONTROL
    assert list(first.tokens) == template.assistant_head()
    assert client.state.tokens == prompt(template) + template.assistant_head() + client.answer
    assert template.end not in client.answer
    lengths = [event.length for event in client.events if not isinstance(event, Failed)]
    assert lengths == sorted(lengths)
    assert lengths[-1] == len(client.state.tokens)


def test_model_that_ends_finishes_the_turn(
    make_scheduler: Make, template: ChatTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = make_scheduler()
    steps = 0

    def end_at_sixth(spans: list[Span]) -> torch.Tensor:
        nonlocal steps
        logits = torch.zeros(len(spans), 1024)
        for span in spans:
            span.cache.advance(len(span.tokens))
        steps += 1
        logits[:, template.end if steps == 6 else template.vocabulary.speech_offset + 3] = 5.0
        return logits

    monkeypatch.setattr(scheduler._runner, "forward", end_at_sixth)
    client = Client(scheduler).open([])
    scheduler.generate(client.state, GREEDY)
    finish(scheduler)
    assert client.reason is Reason.END_OF_TURN
    assert client.answer == template.speech([3] * 5)
    assert client.state.tokens[-1] != template.end


@pytest.mark.parametrize("seed", range(3))
def test_only_text_and_speech_come_out(make_scheduler: Make, template: ChatTemplate, seed: int) -> None:
    settings = GenerationSettings(temperature=10.0, seed=seed, max_new_tokens=200)
    client = alone(make_scheduler, prompt(template), settings)
    assert client.answer
    for token in client.answer:
        assert template.text.knows(token) or template.vocabulary.is_speech(token)


def test_said_text_is_word_for_word(make_scheduler: Make, template: ChatTemplate) -> None:
    text = "hello, this is the desk; how may I help you?"
    client = alone(make_scheduler, prompt(template), GenerationSettings(say=text, temperature=1.0, seed=9))
    text_ids = [i for i in client.answer if template.text.knows(i)]
    assert template.text.decode(text_ids) == text
    speech_ids = [i for i in client.answer if template.vocabulary.is_speech(i)]
    assert client.answer == interleave(text_ids, speech_ids, 13, 26)
    assert client.reason in (Reason.END_OF_TURN, Reason.MAX_TOKENS)


def test_seeds_differ(make_scheduler: Make, template: ChatTemplate) -> None:
    answers = {
        tuple(alone(make_scheduler, prompt(template), GenerationSettings(1.0, 1.0, seed, 20)).answer)
        for seed in range(4)
    }
    assert len(answers) == 4


def test_cancel_and_truncate_in_mid_generation(make_scheduler: Make, template: ChatTemplate) -> None:
    scheduler = make_scheduler()
    client = Client(scheduler).open(prompt(template))
    scheduler.generate(client.state, GREEDY)
    for _ in range(6):
        scheduler.step()
    scheduler.cancel(client.state)
    assert client.reason is Reason.CANCELLED
    told = len(client.events)
    finish(scheduler)
    scheduler.cancel(client.state)
    assert len(client.events) == told
    scheduler.generate(client.state, GREEDY)
    scheduler.step()
    scheduler.truncate(client.state, 4)
    assert client.reason is Reason.CANCELLED
    assert len(client.state.tokens) == 4
    assert not scheduler.has_work


def test_commands_in_the_wrong_order(make_scheduler: Make, template: ChatTemplate) -> None:
    scheduler = make_scheduler()
    client = Client(scheduler).open(prompt(template))
    scheduler.generate(client.state, GREEDY)
    with pytest.raises(WrongOrderError, match="append while"):
        scheduler.append(client.state, [1])
    with pytest.raises(WrongOrderError, match="generate while"):
        scheduler.generate(client.state, GREEDY)
    finish(scheduler)
    with pytest.raises(InvalidInputError, match=r"truncate to 9999: the session has \d+ tokens"):
        scheduler.truncate(client.state, 9999)


def test_context_is_never_exceeded(make_scheduler: Make, template: ChatTemplate) -> None:
    scheduler = make_scheduler(context_length=120)
    client = Client(scheduler).open([65] * 40)
    with pytest.raises(ContextFullError, match="121 tokens do not fit; the context holds 120"):
        scheduler.append(client.state, [65] * 81)
    assert len(client.state.tokens) == 40
    scheduler.generate(client.state, GenerationSettings(say="z" * 60))
    finish(scheduler)
    assert client.reason is Reason.CONTEXT_FULL
    assert len(client.state.tokens) == 120
    with pytest.raises(ContextFullError):
        scheduler.generate(client.state, GREEDY)


def test_forced_text_stops_at_the_context_too(make_scheduler: Make, template: ChatTemplate) -> None:
    head = len(template.assistant_head())
    scheduler = make_scheduler(context_length=40 + head + 7)
    client = Client(scheduler).open([65] * 40)
    scheduler.generate(client.state, GenerationSettings(say="z" * 60))
    finish(scheduler)
    assert client.answer == [ord("z")] * 7
    assert client.reason is Reason.CONTEXT_FULL


def test_ids_outside_the_vocabulary(make_scheduler: Make, template: ChatTemplate) -> None:
    size = template.vocabulary.size
    with pytest.raises(InvalidInputError, match=f"token {size} is not of the vocabulary; allowed are 0 to {size - 1}"):
        Client(make_scheduler()).open([1, size])


def test_long_prompts_do_not_hold_up_answers(make_scheduler: Make, template: ChatTemplate) -> None:
    scheduler = make_scheduler(chunk=32)
    talker = Client(scheduler).open(prompt(template))
    scheduler.generate(talker.state, GREEDY)
    while not talker.answer:
        scheduler.step()
    readers = [Client(scheduler).open([65] * 500) for _ in range(3)]
    said = len(talker.answer)
    for step in range(1, 20):
        scheduler.step()
        assert len(talker.answer) == said + step
    left = [reader.state.pending for reader in readers]
    assert max(left) < 500
    assert max(left) - min(left) <= 32


def test_closed_session_costs_nothing(make_scheduler: Make, template: ChatTemplate) -> None:
    scheduler = make_scheduler()
    client = Client(scheduler).open(prompt(template))
    scheduler.generate(client.state, GREEDY)
    scheduler.step()
    told = len(client.events)
    scheduler.close(client.state)
    assert not scheduler.has_work
    scheduler.step()
    assert len(client.events) == told


def test_failed_step_tells_its_sessions_and_spares_the_others(
    make_scheduler: Make, template: ChatTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = make_scheduler(silent=8)
    first = Client(scheduler).open([65] * 8)
    second = Client(scheduler).open([66] * 8)
    forward = scheduler._runner.forward
    calls = 0

    def fail_once(spans: list[Span]) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("out of memory")
        return forward(spans)

    monkeypatch.setattr(scheduler._runner, "forward", fail_once)
    with pytest.raises(RuntimeError):
        scheduler.step()
    assert isinstance(first.events[-1], Failed)
    scheduler.generate(second.state, GREEDY)
    finish(scheduler)
    assert second.reason is not None


def blocks(*clients: Client) -> list[int]:
    return [len(client.state.cache.blocks) for client in clients]


def test_idle_sessions_give_up_memory_longest_unused_first(make_scheduler: Make) -> None:
    scheduler = make_scheduler(context_length=256, kv_tokens=512)
    old, middle, new = [Client(scheduler).open([65] * 128) for _ in range(3)]
    finish(scheduler)
    assert blocks(old, middle, new) == [4, 4, 4]
    scheduler.append(old.state, [66])
    finish(scheduler)
    late = Client(scheduler).open([67] * 160)
    finish(scheduler)
    assert blocks(old, middle, new, late) == [5, 2, 4, 5]
    assert middle.state.asleep
    assert not middle.state.pending
    Client(scheduler).open([68] * 256)
    finish(scheduler)
    assert blocks(old, middle, new, late) == [3, 0, 0, 5]


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED])
def test_a_session_that_gave_up_memory_comes_back_from_its_tokens(
    make_scheduler: Make, template: ChatTemplate, settings: GenerationSettings
) -> None:
    expected = alone(make_scheduler, prompt(template, turns=3), settings).answer
    scheduler = make_scheduler(context_length=512, kv_tokens=512)
    client = Client(scheduler).open(prompt(template, turns=3))
    finish(scheduler)
    other = Client(scheduler).open([65] * 400)
    finish(scheduler)
    assert client.state.asleep
    scheduler.generate(client.state, settings)
    finish(scheduler)
    assert client.answer == expected
    assert other.state.asleep


def test_truncating_a_session_that_gave_up_memory(make_scheduler: Make, template: ChatTemplate) -> None:
    scheduler = make_scheduler(context_length=512, kv_tokens=512)
    client = Client(scheduler).open(prompt(template, turns=3))
    finish(scheduler)
    Client(scheduler).open([65] * 490)
    finish(scheduler)
    held = client.state.cache.length
    for length in (held + 5, held - 5 if held > 5 else 0):
        scheduler.truncate(client.state, length)
        assert client.state.cache.length <= length == len(client.state.tokens)
    assert not scheduler.has_work
    scheduler.append(client.state, prompt(template)[client.state.cache.length :])
    scheduler.generate(client.state, GREEDY)
    finish(scheduler)
    ids = client.state.tokens[: -len(client.answer) - len(template.assistant_head())]
    assert client.answer == alone(make_scheduler, ids, GREEDY).answer


def test_prompts_wait_for_memory_that_answers_hold(make_scheduler: Make) -> None:
    scheduler = make_scheduler(context_length=512, kv_tokens=512)
    talker = Client(scheduler).open([65] * 300)
    scheduler.generate(talker.state, GenerationSettings(say="z" * 20))
    for _ in range(12):
        scheduler.step()
    reader = Client(scheduler).open([66] * 400)
    while talker.reason is None:
        scheduler.step()
    assert reader.state.pending
    assert not [event for event in reader.events if isinstance(event, Failed)]
    finish(scheduler)
    assert not reader.state.pending
    assert talker.state.asleep


def test_prompts_that_wait_for_each_other_leave_nothing_to_do_until_one_must_answer(make_scheduler: Make) -> None:
    scheduler = make_scheduler(context_length=512, kv_tokens=512, silent=32)
    first, second = [Client(scheduler).open([65] * 480) for _ in range(2)]
    finish(scheduler)
    assert first.state.pending
    assert second.state.pending
    scheduler.generate(second.state, GenerationSettings(max_new_tokens=2))
    finish(scheduler)
    assert second.reason is Reason.MAX_TOKENS
    assert first.state.cache.length == 480


def test_when_answers_outgrow_the_memory_the_last_to_start_is_refused(make_scheduler: Make) -> None:
    scheduler = make_scheduler(context_length=512, kv_tokens=512)
    clients = [Client(scheduler).open([65] * 100) for _ in range(3)]
    finish(scheduler)
    settings = GenerationSettings(say="z" * 20)
    for client in (clients[1], clients[0], clients[2]):
        scheduler.generate(client.state, settings)
        scheduler.step()
    finish(scheduler)
    failed = [client for client in clients if isinstance(client.events[-1], Failed)]
    assert failed == [clients[2]]
    error = failed[0].events[-1]
    assert isinstance(error, Failed)
    assert isinstance(error.error, AtCapacityError)
    assert "512 tokens, is used up by 3 answers" in str(error.error)
    assert scheduler.sessions == 2
    for client in clients[:2]:
        assert client.reason is not None
        assert client.answer == alone(make_scheduler, [65] * 100, settings).answer
    for client in clients:
        scheduler.close(client.state)
    assert scheduler._runner.pool.free == scheduler._runner.pool.blocks


def test_prompts_take_a_chunk_beside_answers_and_a_larger_one_in_silence(make_scheduler: Make) -> None:
    scheduler = make_scheduler(chunk=16, silent=100)
    reader = Client(scheduler).open([65] * 600)
    scheduler.step()
    assert reader.state.pending == 500
    talker = Client(scheduler).open([66] * 8)
    scheduler.generate(talker.state, GREEDY)
    while not talker.answer:
        scheduler.step()
    left = reader.state.pending
    scheduler.step()
    assert reader.state.pending == left - 16


def test_far_into_a_session_chunks_are_smaller() -> None:
    chunks = Chunks(answering=30, silent=60, reach=100)
    assert [chunks.cost(past) for past in (0, 100, 200)] == [1, 2, 3]


def test_a_step_costs_the_same_wherever_the_prompt_is(make_scheduler: Make) -> None:
    scheduler = make_scheduler(silent=60, reach=100)
    reader = Client(scheduler).open([65] * 600)
    taken = []
    while scheduler.has_work:
        before = reader.state.pending
        scheduler.step()
        taken.append(before - reader.state.pending)
    assert taken[:3] == [60, 37, 30]
    assert taken[-2] == 8


def test_the_text_of_an_answer_does_not_wait_for_long_prompts(make_scheduler: Make) -> None:
    scheduler = make_scheduler(chunk=13, silent=13)
    reader = Client(scheduler).open([65] * 900)
    scheduler.generate(reader.state, GREEDY)
    scheduler.step()
    talker = Client(scheduler).open([66] * 8)
    scheduler.generate(talker.state, GenerationSettings(say="z" * 40))
    while not talker.answer:
        scheduler.step()
    for _ in range(45):
        said = len(talker.answer)
        scheduler.step()
        assert len(talker.answer) > said
    assert reader.state.pending > 100


def test_negative_ids_are_refused(make_scheduler: Make) -> None:
    with pytest.raises(InvalidInputError, match="token -1 is not of the vocabulary"):
        Client(make_scheduler()).open([1, -1])
