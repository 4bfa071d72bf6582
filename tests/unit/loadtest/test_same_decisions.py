"""The simulated services decide as the real ones do: the same trace, the same admissions, step for step."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from loadtest.sim.call import block_due_s
from loadtest.sim.clock import Clock
from loadtest.sim.costs import Outside
from loadtest.sim.models import Decoder, LanguageModel, Script, Synthesis
from loadtest.sim.processors import Processors
from loadtest.sim.report import Steps
from services.decoder import weights as decoder_weights
from services.decoder.batcher import Due
from services.decoder.blocks import FIRST_BLOCK, NEXT_BLOCKS
from services.decoder.utterance import Utterance
from services.decoder.voices import default_voice
from services.lm import weights as lm_weights
from services.lm.engine import Added, Event, Finished, GenerationSettings, Kind, Reason
from services.lm.prompt import ChatTemplate
from services.lm.torch_engine import parameters
from services.lm.torch_engine.planning import Chunks, Planner
from services.lm.torch_engine.runner import Runner
from services.lm.torch_engine.scheduler import Scheduler
from services.lm.torch_engine.sessions import SessionState
from services.tokenizer import streaming
from services.tokenizer.weights import load as load_tokenizer
from tests.unit.lm.checkpoint import write_checkpoint
from tests.unit.loadtest.reports import steps
from tests.unit.tokenizer.checkpoint import write as write_tokenizer

STEPS = 90
CHUNKS = Chunks(answering=16, silent=48, reach=200.0)
Batches = list[list[tuple[str, int]]]


@dataclass(frozen=True)
class Command:
    """Before a step: what is asked of which session; `amount` is tokens, or the most that an answer may have."""

    step: int
    what: str
    session: str
    amount: int = 0


TRACE = (
    Command(0, "open", "a", 100),
    Command(0, "open", "b", 230),
    Command(2, "open", "c", 40),
    Command(4, "generate", "a", 40),
    Command(6, "append", "c", 9),
    Command(9, "open", "d", 150),
    Command(11, "generate", "c", 25),
    Command(14, "append", "b", 30),
    Command(16, "generate", "b", 30),
    Command(30, "truncate", "b", 200),
    Command(31, "append", "b", 33),
    Command(33, "generate", "d", 12),
    Command(50, "close", "c"),
    Command(52, "generate", "b", 20),
)


def recorded(planner: Planner, names: dict[SessionState, str], into: Batches) -> None:
    """Notes each batch that the planner decides."""
    plan = planner.plan

    def noting(live: list[SessionState], fail: Callable[[SessionState, Exception], None]) -> Any:
        batch = plan(live, fail)
        if batch:
            into.append([(names[state], count) for state, count in batch])
        return batch

    planner.plan = noting  # type: ignore[method-assign]


def real(checkpoint: Path, kv_tokens: int) -> tuple[Batches, dict[str, list[int]], set[str], int]:
    """Batches, sizes of what each step added to answers, answers that the model ended itself, and the head's length."""
    template = ChatTemplate.load(checkpoint)
    network = parameters.load(lm_weights.inspect(checkpoint), torch.float32)
    runner = Runner(network, kv_tokens)
    scheduler = Scheduler(runner, template, 1024, network.architecture.end_tokens, CHUNKS)
    states: dict[str, SessionState] = {}
    names: dict[SessionState, str] = {}
    batches: Batches = []
    added: dict[str, list[int]] = {}
    ended: set[str] = set()
    recorded(scheduler._planner, names, batches)

    def emit(name: str) -> Callable[[Event], None]:
        def take(event: Event) -> None:
            key = f"{name}{answers[name]}"
            if isinstance(event, Added) and event.kind is not Kind.CONTROL:
                added.setdefault(key, []).append(len(event.tokens))
            elif isinstance(event, Finished) and event.reason is Reason.END_OF_TURN:
                ended.add(key)

        return take

    answers: dict[str, int] = {}
    for step in range(STEPS):
        for command in (command for command in TRACE if command.step == step):
            name, amount = command.session, command.amount
            if command.what == "open":
                answers[name] = 0
                states[name] = scheduler.open([1] * amount, emit(name))
                names[states[name]] = name
            elif command.what == "append":
                scheduler.append(states[name], [1] * amount)
            elif command.what == "generate":
                answers[name] += 1
                scheduler.generate(states[name], GenerationSettings(max_new_tokens=amount))
            elif command.what == "truncate":
                scheduler.truncate(states[name], amount)
            else:
                scheduler.close(states[name])
        if scheduler.has_work:
            scheduler.step()
    return batches, added, ended, len(template.assistant_head())


def simulated(kv_tokens: int, added: dict[str, list[int]], ended: set[str], head: int) -> Batches:
    """The same with the planner's language model, whose steps take a second each."""
    clock = Clock()
    record = steps()
    second = {"axes": ["batch", "past"], "rows": [1], "columns": [0], "seconds": [[1.0]]}
    sizes = {"answering": CHUNKS.answering, "silent": CHUNKS.silent, "reach": CHUNKS.reach}
    record["lm"] |= {"decode": second, "prefill": second, "token_s": 0, "head_tokens": head, "kv_tokens": kv_tokens}
    record["lm"] |= sizes
    lm = LanguageModel(clock, Processors(clock, 1), Steps.model_validate(record).lm, Outside())
    states: dict[str, SessionState] = {}
    names: dict[SessionState, str] = {}
    answers: dict[str, int] = {}
    batches: Batches = []
    recorded(lm._planner, names, batches)

    def script(name: str) -> Script:
        key = f"{name}{answers[name]}"
        left = list(added.get(key, []))

        def tokens(count: int, is_speech: bool) -> None:
            left.pop()
            if not left and key not in ended:
                states[name].answer = None  # it was full

        return Script(iter([(count, True) for count in left]), tokens, lambda: None)

    def apply(command: Command) -> None:
        name, amount = command.session, command.amount
        if command.what == "open":
            answers[name] = 0
            states[name] = lm.open(amount)
            names[states[name]] = name
        elif command.what == "append":
            lm.append(states[name], amount)
        elif command.what == "generate":
            answers[name] += 1
            lm.generate(states[name], script(name))
        elif command.what == "truncate":
            lm.truncate(states[name], amount)
        else:
            lm.close(states[name])

    for command in TRACE:
        clock.at(float(command.step), lambda c=command: lm.command(lambda: apply(c)))  # type: ignore[misc]
    clock.run(STEPS - 0.5)
    return batches


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, golden_dir: Path) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("lm") / "weights", golden_dir, context_length=1024)


@pytest.mark.parametrize("kv_tokens", [4096, 544])
def test_the_language_model_serves_the_same_sessions_in_each_step(checkpoint: Path, kv_tokens: int) -> None:
    batches, added, ended, head = real(checkpoint, kv_tokens)
    assert len(batches) > 50
    assert {name for batch in batches for name, _ in batch} == {"a", "b", "c", "d"}
    assert simulated(kv_tokens, added, ended, head) == batches


def test_little_memory_changes_what_is_served(checkpoint: Path) -> None:
    assert real(checkpoint, 544)[0] != real(checkpoint, 4096)[0]


def test_the_decoder_computes_the_same_frames_for_each_block(golden_dir: Path) -> None:
    checkpoint = decoder_weights.load(golden_dir / "decoder")
    flow = checkpoint.flow
    tokens = FIRST_BLOCK + sum(NEXT_BLOCKS) + 2 * NEXT_BLOCKS[-1] + 7
    utterance = Utterance(checkpoint, 1, default_voice(flow.mel_bins))
    utterance.push([1] * tokens)
    utterance.finish()
    frames = []
    while (work := utterance.next_work()) is not None:
        frames.append(work.frames)
        flow_frames = work.flow.frames if work.flow is not None else work.frames
        assert flow_frames == work.frames
        if work.frames:  # as if it had been computed
            made = flow.frames(work.block.stop) - utterance._first_frame
            utterance._mel = torch.zeros(1, flow.mel_bins, made)

    record = steps()
    record["decoder"] |= {
        "frames_per_token": flow.frames_per_token,
        "encoder_block": flow.encoder.block_size,
        "voice_frames": default_voice(flow.mel_bins).mel.shape[2],
    }
    clock = Clock()
    decoder = Decoder(clock, Processors(clock, 1), Steps.model_validate(record).decoder, Outside())
    dues: list[Due] = []
    cost = decoder._cost

    def noting(group: list[Any]) -> float:
        dues.extend(job.due for job in group)
        return cost(group)

    decoder._cost = noting  # type: ignore[method-assign]
    given: list[float] = []
    synthesis = Synthesis(given.append)
    decoder.push(synthesis, tokens)
    decoder.finish(synthesis)
    clock.run(100.0)
    assert [due.frames for due in dues] == frames
    assert sum(given) == pytest.approx(tokens / 12.5)


def test_blocks_of_the_tokenizer_are_due_when_the_planner_thinks(tmp_path: Path) -> None:
    checkpoint = load_tokenizer(write_tokenizer(tmp_path))
    block = checkpoint.encoder.config.block_frames
    utterance = streaming.Utterance(checkpoint)
    due: list[float] = []
    pushed = 0
    while len(due) < 3:
        utterance.push(torch.zeros(16))  # a millisecond
        pushed += 16
        if utterance.due is not None:
            due.append(pushed / 16_000)
            assert streaming.encode(checkpoint, [utterance])[0].final
    assert due == pytest.approx([block_due_s(number, block) for number in (1, 2, 3)], abs=0.011)
