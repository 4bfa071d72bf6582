"""Step times of the three models by batch, measured with the engines' own modules on one thread of the CPU."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from loadtest.measure.timing import cpu_s, slowdown, typical
from loadtest.sim.costs import Table
from services.common.errors import SetupError
from services.decoder import weights as decoder_weights
from services.decoder.batcher import FRAME_BUDGET
from services.decoder.blocks import FIRST_BLOCK, NEXT_BLOCKS
from services.decoder.flow.solving import FlowSolver
from services.decoder.utterance import BlockWork, Utterance
from services.decoder.vocoder.stream import render
from services.decoder.voices import default_voice
from services.lm import weights as lm_weights
from services.lm.engine import GenerationSettings
from services.lm.prompt import ChatTemplate
from services.lm.torch_engine import parameters
from services.lm.torch_engine.build import chunks_for
from services.lm.torch_engine.runner import Runner
from services.lm.torch_engine.scheduler import Scheduler
from services.lm.torch_engine.sessions import SessionState
from services.tokenizer import streaming
from services.tokenizer import weights as tokenizer_weights
from services.tokenizer.engine import CPU_BATCH_FRAMES

FRAME_SAMPLES = 320  # of the tokenizer's encoder: 50 Hz at 16 kHz
BATCHES = (1, 2, 4, 8)
SESSIONS = (1, 2, 4, 8, 16)
PAST = (150, 500, 1000)
PROMPTS = (1, 4, 8, 16, 24, 32, 64, 128, 256)
REPEATS = 5
_ANSWER = GenerationSettings(temperature=0.2, top_p=0.8, max_new_tokens=400)

Progress = Callable[[str], None]


def tokenizer(directory: Path, progress: Progress) -> tuple[tokenizer_weights.Checkpoint, dict[str, object]]:
    """The tokenizer, and what the report says of it; `stream_s` is measured with calls."""
    checkpoint = tokenizer_weights.load(directory)
    block = checkpoint.encoder.config.block_frames
    lengths = sorted({max(1, block // 8), block // 4, block // 2, 3 * block // 4, block} - {0})
    seconds: list[list[float]] = []
    for batch in BATCHES:
        progress(f"tokenizer: batches of {batch}")
        seconds.append([_encoding(checkpoint, batch, frames) for frames in lengths])
    table = Table(axes=("batch", "frames"), rows=[*BATCHES], columns=[*lengths], seconds=seconds)
    return checkpoint, {
        "encode": table.model_dump(),
        "block_frames": block,
        "block_tokens": block // checkpoint.encoder.config.pooling,
        "batch_frames": CPU_BATCH_FRAMES,
    }


def _encoding(checkpoint: tokenizer_weights.Checkpoint, batch: int, frames: int) -> float:
    """A batch of utterances that have a block behind them and so many frames due."""
    block = checkpoint.encoder.config.block_frames
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(REPEATS):
        utterances = []
        for _ in range(batch):
            utterance = streaming.Utterance(checkpoint)
            utterance.push(0.1 * torch.randn((block + 1) * FRAME_SAMPLES, generator=generator))
            while utterance.due is not None:
                streaming.encode(checkpoint, [utterance])
            utterance.push(0.1 * torch.randn(max(0, frames - 1) * FRAME_SAMPLES, generator=generator))
            utterance.end()
            utterances.append(utterance)
        found.append(cpu_s(lambda due=utterances: streaming.encode(checkpoint, due)))  # type: ignore[misc]
    return typical(found)


class LmBench:
    """The language model, and sessions to time.

    Raises:
        SetupError: the checkpoint has no room for the contexts that are measured.
    """

    def __init__(self, directory: Path, capacity: int) -> None:
        self.network = parameters.load(lm_weights.inspect(directory), torch.float32)
        self.template = ChatTemplate.load(directory)
        architecture = self.network.architecture
        if architecture.context_length < PAST[-1] + PROMPTS[-1]:
            raise SetupError(f"a context of {architecture.context_length} tokens is too short to be measured")
        self.chunks = chunks_for(architecture, self.network.device)
        self.kv_tokens = capacity * architecture.context_length
        self._draw = random.Random(1)

    def scheduler(self) -> Scheduler:
        """As the service has it."""
        architecture = self.network.architecture
        runner = Runner(self.network, max(SESSIONS) * architecture.context_length)
        return Scheduler(runner, self.template, architecture.context_length, architecture.end_tokens, self.chunks)

    def ids(self, count: int) -> list[int]:
        """Text, drawn by chance."""
        return [self._draw.randrange(self.template.vocabulary.speech_offset) for _ in range(count)]


def run_all(scheduler: Scheduler) -> None:
    """Steps until nothing is pending."""
    while scheduler.has_work:
        scheduler.step()


def lm(bench: LmBench, progress: Progress) -> dict[str, object]:
    """What the report says of the language model; `token_s` is measured with calls."""
    decode = []
    for sessions in SESSIONS:
        progress(f"lm: {sessions} answers")
        decode.append([_decoding(bench, sessions, past) for past in PAST])
    prefill = []
    for tokens in PROMPTS:
        progress(f"lm: prompts of {tokens}")
        prefill.append([_prefilling(bench, tokens, past) for past in PAST])
    return {
        "decode": Table(axes=("batch", "past"), rows=[*SESSIONS], columns=[*PAST], seconds=decode).model_dump(),
        "prefill": Table(axes=("tokens", "past"), rows=[*PROMPTS], columns=[*PAST], seconds=prefill).model_dump(),
        "answering": bench.chunks.answering,
        "silent": bench.chunks.silent,
        "reach": bench.chunks.reach,
        "kv_tokens": bench.kv_tokens,
        "head_tokens": len(bench.template.assistant_head()),
    }


def _decoding(bench: LmBench, sessions: int, past: int) -> float:
    scheduler = bench.scheduler()
    states = [scheduler.open(bench.ids(past), lambda event: None) for _ in range(sessions)]
    run_all(scheduler)
    found: list[float] = []
    while len(found) < REPEATS + 3:
        for state in states:
            _keep_answering(scheduler, state, past)
        while any(state.pending > 1 for state in states):
            scheduler.step()
        if all(state.answer is not None for state in states):
            found.append(cpu_s(scheduler.step))
    return typical(found[3:])


def _keep_answering(scheduler: Scheduler, state: SessionState, past: int) -> None:
    if state.answer is None:
        scheduler.truncate(state, past)
        scheduler.generate(state, _ANSWER)


def _prefilling(bench: LmBench, tokens: int, past: int) -> float:
    scheduler = bench.scheduler()
    state = scheduler.open(bench.ids(past), lambda event: None)
    run_all(scheduler)
    found = []
    for _ in range(REPEATS):
        scheduler.truncate(state, past)
        scheduler.append(state, bench.ids(tokens))
        found.append(cpu_s(lambda: run_all(scheduler)))
    return typical(found)


def decoder(directory: Path, progress: Progress) -> tuple[decoder_weights.Checkpoint, dict[str, object]]:
    """The decoder, and what the report says of it."""
    checkpoint = decoder_weights.load(directory)
    blocks = (FIRST_BLOCK, *NEXT_BLOCKS, NEXT_BLOCKS[-1])
    steps = 1
    frames: list[int] = []
    first: list[list[float]] = []
    further: list[list[float]] = []
    rendered: list[float] = []
    for batch in BATCHES:
        progress(f"decoder: batches of {batch}")
        runs = [_synthesis(checkpoint, batch, blocks) for _ in range(3)]
        frames = [block.frames for block in runs[0]]
        steps = max(block.steps for block in runs[0])
        first.append([typical([run[i].first_s for run in runs]) for i in range(len(blocks))])
        further.append([typical([run[i].further_s for run in runs]) for i in range(len(blocks))])
        if batch == 1:
            rendered = [typical([run[i].render_s for run in runs]) for i in range(len(blocks))]
    flow = checkpoint.flow
    made = [flow.frames(sum(blocks[: i + 1])) - flow.frames(sum(blocks[:i])) for i in range(len(blocks))]
    return checkpoint, {
        "first": _by_frames(BATCHES, frames, first).model_dump(),
        "further": _by_frames(BATCHES, frames, further).model_dump(),
        "steps": steps,
        "render": _by_frames((1,), made, [rendered]).model_dump(),
        "render_batched": False,
        "frames_per_token": flow.frames_per_token,
        "voice_frames": default_voice(flow.mel_bins).mel.shape[2],
        "encoder_block": flow.encoder.block_size,
        "frame_budget": FRAME_BUDGET,
        "token_rate": checkpoint.config.flow.input_frame_rate,
    }


def _by_frames(batches: Sequence[int], frames: Sequence[int], seconds: Sequence[Sequence[float]]) -> Table:
    """Sizes in order, each once."""
    order = sorted({size: i for i, size in enumerate(frames)}.items())
    columns = [float(size) for size, _ in order]
    rows = [[row[i] for _, i in order] for row in seconds]
    return Table(axes=("batch", "frames"), rows=[*batches], columns=columns, seconds=rows)


class _Block:
    """Times of one block of each utterance of a batch."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.steps = 0
        self.first_s = self.further_s = self.render_s = 0.0


@torch.inference_mode()
def _synthesis(checkpoint: decoder_weights.Checkpoint, batch: int, blocks: Sequence[int]) -> list[_Block]:
    draw = random.Random(1)
    solver = FlowSolver(checkpoint.flow, checkpoint.config)
    voice = default_voice(checkpoint.flow.mel_bins)
    utterances = [Utterance(checkpoint, seed, voice) for seed in range(batch)]
    codes = [draw.randrange(checkpoint.config.flow.vocab_size) for _ in range(sum(blocks))]
    for utterance in utterances:
        utterance.push(codes)
    found = []
    for _ in blocks:
        works = [work for utterance in utterances if (work := utterance.next_work()) is not None]
        block = _Block(works[0].frames)
        block.first_s = cpu_s(lambda due=works: _begin(solver, utterances, due))  # type: ignore[misc]
        block.steps, further = 1, []
        flows = [work.flow for work in works if work.flow is not None]
        while not solver.is_done(flows[0]):
            further.append(cpu_s(lambda due=flows: solver.advance(due)))  # type: ignore[misc]
            block.steps += 1
        block.further_s = typical(further) if further else 0.0
        spent = []
        for utterance, work in zip(utterances, works, strict=True):
            mel = utterance.mel_of(work)
            audio: list[torch.Tensor] = []
            spent.append(
                cpu_s(lambda u=utterance, m=mel, a=audio: a.extend(render(checkpoint.vocoder, [(u.vocoder, m)])))  # type: ignore[misc]
            )
            utterance.pcm_of(work, audio[0])
        block.render_s = typical(spent)
        found.append(block)
    return found


def _begin(solver: FlowSolver, utterances: Sequence[Utterance], works: Sequence[BlockWork]) -> None:
    for utterance, work in zip(utterances, works, strict=True):
        utterance.prepare(work)
    solver.advance([work.flow for work in works if work.flow is not None])


def slower(bench: LmBench) -> list[float]:
    """How much steps of the language model slow down while other cores are busy too."""
    scheduler = bench.scheduler()
    state = scheduler.open(bench.ids(PAST[0]), lambda event: None)
    run_all(scheduler)

    def work() -> None:
        scheduler.truncate(state, PAST[0])
        scheduler.append(state, bench.ids(24))
        run_all(scheduler)

    return slowdown(work)
