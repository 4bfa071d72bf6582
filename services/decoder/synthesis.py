"""One turn of the models for a group of blocks: encoder and Euler step in one batch, then audio for those done."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.common.batches import together
from services.decoder.flow.solving import FlowSolver
from services.decoder.utterance import BlockWork, Pcm, Utterance
from services.decoder.vocoder.stream import MelBlock, VocoderStream, render
from services.decoder.weights import Checkpoint


@dataclass(frozen=True, eq=False)
class Job:
    """A block of an utterance."""

    utterance: Utterance
    work: BlockWork


class Synthesizer:
    """The models, taken a turn further for any group of blocks. For one thread.

    Args:
        checkpoint: the models and how to sample.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._solver = FlowSolver(checkpoint.flow, checkpoint.config)
        self._vocoder = checkpoint.vocoder
        # measured on a CPU, the vocoder's long rows gain nothing from company, and padding costs
        self._vocoder_batched = checkpoint.flow.input_embedding.weight.device.type != "cpu"

    @torch.inference_mode()
    def advance(self, jobs: Sequence[Job]) -> list[Pcm | Exception | None]:
        """Takes each block of a group one step further; its audio when that was the last one, else none.

        A block that fails fails alone: its place holds what was raised, and the others have gone on.
        """
        found: list[Pcm | Exception | None] = list(together(jobs, self._step))
        done = [row for row, failure in enumerate(found) if failure is None and self._mel_is_there(jobs[row])]
        blocks = [(jobs[row].utterance.vocoder, jobs[row].utterance.mel_of(jobs[row].work)) for row in done]
        for row, audio in zip(done, self._render(blocks), strict=True):
            found[row] = audio if isinstance(audio, Exception) else jobs[row].utterance.pcm_of(jobs[row].work, audio)
        return found

    def _step(self, jobs: Sequence[Job]) -> list[None]:
        for job in jobs:
            job.utterance.prepare(job.work)
        self._solver.advance([job.work.flow for job in jobs if job.work.flow is not None])
        return [None] * len(jobs)

    def _render(self, blocks: Sequence[tuple[VocoderStream, MelBlock]]) -> list[Tensor | Exception]:
        if self._vocoder_batched:
            return together(blocks, lambda group: render(self._vocoder, group))
        return [audio for block in blocks for audio in together([block], lambda group: render(self._vocoder, group))]

    def _mel_is_there(self, job: Job) -> bool:
        return job.work.flow is None or self._solver.is_done(job.work.flow)
