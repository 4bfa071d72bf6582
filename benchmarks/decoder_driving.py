"""Two ways of driving the decoder's modules: the service's, and the public reference demo's schedule."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from services.decoder.batcher import Due, choose
from services.decoder.blocks import FIRST_BLOCK, NEXT_BLOCKS
from services.decoder.synthesis import Job, Synthesizer
from services.decoder.utterance import OVERLAP_TOKENS, Utterance
from services.decoder.voices import default_voice
from services.decoder.weights import Checkpoint

Waveform = npt.NDArray[np.float32]

REFERENCE_BLOCKS = (25, 50, 100, 150, 200)  # tokens; the last size repeats
OFFLINE = (1_000_000,)  # more than any utterance: it is one block
_FULL_SCALE = 32768.0


@dataclass(frozen=True)
class Timed:
    """A block's audio and the processor seconds that it took."""

    wave: Waveform
    cost_s: float


def sampling(checkpoint: Checkpoint, **inference: float) -> Checkpoint:
    """The same models with other values of `InferenceConfig`."""
    changed = checkpoint.config.inference.model_copy(update=inference)
    return replace(checkpoint, config=checkpoint.config.model_copy(update={"inference": changed}))


def new_utterance(
    checkpoint: Checkpoint,
    codes: Sequence[int],
    seed: int = 1,
    sizes: Sequence[int] = (FIRST_BLOCK, *NEXT_BLOCKS),
) -> Utterance:
    """An utterance whose tokens are all there."""
    utterance = Utterance(checkpoint, seed, default_voice(checkpoint.flow.mel_bins), sizes)
    utterance.push(codes)
    utterance.finish()
    return utterance


def blocks(utterance: Utterance) -> Iterator[Timed]:
    """As the service decodes a call that is alone."""
    while True:
        started = time.process_time()
        pcm = utterance.next_pcm()
        if pcm is None:
            return
        wave = np.frombuffer(pcm.data, "<i2").astype(np.float32) / _FULL_SCALE
        yield Timed(wave, time.process_time() - started)


def wave_of(utterance: Utterance) -> Waveform:
    """The whole utterance's audio."""
    return np.concatenate([block.wave for block in blocks(utterance)])


@torch.inference_mode()
def reference_blocks(checkpoint: Checkpoint, codes: Sequence[int]) -> Iterator[Timed]:
    """As the reference demo decodes: each block with everything before it as its prompt, the source begun anew."""
    flow, inference = checkpoint.flow, checkpoint.config.inference
    overlap = flow.frames(OVERLAP_TOKENS)
    made, held, source = torch.zeros(1, flow.mel_bins, 0), None, None
    window = torch.hamming_window(2 * overlap, periodic=False)
    stop, index = 0, 0
    while stop < len(codes):
        started = time.process_time()
        stop = min(len(codes), stop + REFERENCE_BLOCKS[min(index, len(REFERENCE_BLOCKS) - 1)])
        index += 1
        mel = flow.generate(
            torch.tensor([list(codes[:stop])]),
            torch.randn(1, flow.mel_bins, flow.frames(stop)) * inference.temperature,
            made,
            torch.zeros(1, flow.spk_embed_affine_layer.in_features),
            steps=inference.n_timesteps,
            guidance=checkpoint.config.guidance,
            start=inference.start,
        )
        if held is not None:
            mel[:, :, :overlap] = held * window[overlap:] + mel[:, :, :overlap] * window[:overlap]
        if stop < len(codes):
            held, mel = mel[:, :, -overlap:], mel[:, :, :-overlap]
        wave, source = _reference_vocoder(checkpoint, made[:, :, -1:], mel, source)
        made = torch.cat([made, mel], dim=2)
        yield Timed(wave, time.process_time() - started)


def _reference_vocoder(
    checkpoint: Checkpoint, before: Tensor, mel: Tensor, source: Tensor | None
) -> tuple[Waveform, Tensor]:
    """Audio with one frame of the past before it, and the source of its own last frame."""
    vocoder = checkpoint.vocoder
    whole = torch.cat([before, mel], dim=2)
    fresh = vocoder.m_source(vocoder.f0_predictor(whole), [vocoder.new_source(0)])
    if source is not None:
        fresh[:, :, : vocoder.hop] = source
    audio = vocoder.decode(whole, fresh)[0, before.shape[2] * vocoder.hop :]
    return audio.numpy(), fresh[:, :, -vocoder.hop :]


@torch.inference_mode()
def together(synthesizer: Synthesizer, utterances: Sequence[Utterance], frame_budget: int) -> float:
    """Decodes all to their end as the service's worker does; returns processor seconds."""
    waiting = {utterance: work for utterance in utterances if (work := utterance.next_work()) is not None}
    started = time.process_time()
    while waiting:
        jobs = [Job(utterance, work) for utterance, work in waiting.items()]
        for job in step(synthesizer, jobs, frame_budget):
            del waiting[job.utterance]
            if (work := job.utterance.next_work()) is not None:
                waiting[job.utterance] = work
    return time.process_time() - started


def step(synthesizer: Synthesizer, jobs: Sequence[Job], frame_budget: int) -> list[Job]:
    """One turn of those that the batcher chooses; returns whose audio is there."""
    due = [
        Due(job.work.frames, job.work.block.start == 0, job.utterance.seconds, number)
        for number, job in enumerate(jobs)
    ]
    group = [jobs[index] for index in choose(due, frame_budget)]
    return [job for job, pcm in zip(group, synthesizer.advance(group), strict=True) if pcm is not None]


def until_done(synthesizer: Synthesizer, jobs: Sequence[Job], wanted: Job, frame_budget: int) -> float:
    """Processor seconds until the audio of `wanted` is there, while the others are computed too."""
    left = list(jobs)
    started = time.process_time()
    while wanted in left:
        done = step(synthesizer, left, frame_budget)
        left = [job for job in left if job not in done]
    return time.process_time() - started


def one_step(synthesizer: Synthesizer, jobs: Sequence[Job], frame_budget: int) -> float:
    """Processor seconds of the turn that comes first."""
    started = time.process_time()
    step(synthesizer, jobs, frame_budget)
    return time.process_time() - started


def best_of(times: int, measure: Callable[[], float]) -> float:
    """The least of several measurements: what disturbs only ever adds."""
    return min(measure() for _ in range(times))
