"""Blocks of many calls on their way from noise to mel, one Euler step at a time, padded into one batch.

The flow's time is an input of the estimator, one value a row; so blocks that are at different steps, of different calls
and of different lengths share a pass of the estimator, and a block may join or leave between any two steps.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from services.decoder.config import DecoderConfig
from services.decoder.flow.model import TokenToMel


class FlowBlock:
    """One block and how far it has come.

    Args:
        codes: tokens, those of the prompt included.
        noise: (80, frames) starting noise, already scaled by the temperature.
        prompt: (80, p) known mel of the first p frames; p may be 0.
        embedding: (192,) speaker embedding; zeros for the default voice.
    """

    def __init__(self, codes: Sequence[int], noise: Tensor, prompt: Tensor, embedding: Tensor) -> None:
        self.codes = codes
        self.noise = noise
        self.prompt = prompt
        self.embedding = embedding
        self.steps_done = 0
        self.mu: Tensor | None = None  # (80, frames)
        self.x: Tensor | None = None  # (80, frames)
        self.speaker: Tensor | None = None  # (80,)

    @property
    def frames(self) -> int:
        """Mel frames that each step computes, those of the prompt included."""
        return self.noise.shape[1]

    @property
    def mel(self) -> Tensor:
        """(1, 80, frames - p): what follows the prompt, once the block is done."""
        assert self.x is not None
        return self.x[None, :, self.prompt.shape[1] :]


class FlowSolver:
    """Takes groups of blocks a step further.

    Args:
        flow: the model.
        config: says how many steps, from which time of the flow, and how strong the guidance.
    """

    def __init__(self, flow: TokenToMel, config: DecoderConfig) -> None:
        self._flow = flow
        self._start = config.inference.start
        self._guidance = config.guidance
        self._times = flow.decoder.times(config.inference.n_timesteps, self._start)

    def is_done(self, block: FlowBlock) -> bool:
        """Whether the block's mel is there."""
        return block.x is not None and block.steps_done == len(self._times) - 1

    def advance(self, blocks: Sequence[FlowBlock]) -> None:
        """Encodes the tokens of the blocks that are new, then takes one Euler step with each that is not done."""
        new = [block for block in blocks if block.x is None]
        if new:
            self._begin(new)
        unfinished = [block for block in blocks if not self.is_done(block)]
        if unfinished:
            self._step(unfinished)

    def _begin(self, blocks: Sequence[FlowBlock]) -> None:
        device = blocks[0].noise.device
        lengths = [len(block.codes) for block in blocks]
        tokens = torch.zeros(len(blocks), max(lengths), dtype=torch.long)
        for row, block in enumerate(blocks):
            tokens[row, : lengths[row]] = torch.as_tensor(block.codes)
        mask = frame_mask(blocks, device)
        longest = max(block.frames for block in blocks)
        padded = len(set(lengths)) > 1 or mask is not None
        if padded and mask is None:
            mask = torch.ones(len(blocks), 1, longest, device=device)
        counts = torch.tensor(lengths, device=device) if padded else None
        embeddings = torch.stack([block.embedding for block in blocks])
        mu = self._flow.condition(tokens.to(device), longest, counts, mask, embeddings)
        speakers = self._flow.speaker(embeddings)
        for row, block in enumerate(blocks):
            block.mu, block.speaker = mu[row, :, : block.frames], speakers[row]
            block.x = self._flow.decoder.begin(block.noise, block.mu, self._start)

    def _step(self, blocks: Sequence[FlowBlock]) -> None:
        device = blocks[0].noise.device
        now = [self._times[block.steps_done] for block in blocks]
        after = [self._times[block.steps_done + 1] for block in blocks]
        x = self._flow.decoder.step(
            _padded([block.x for block in blocks]),
            _padded([block.mu for block in blocks]),
            torch.stack([_there(block.speaker) for block in blocks]),
            _padded([F.pad(block.prompt, (0, block.frames - block.prompt.shape[1])) for block in blocks]),
            torch.tensor(now, device=device),
            torch.tensor([later - time for time, later in zip(now, after, strict=True)], device=device),
            guidance=self._guidance,
            mask=frame_mask(blocks, device),
        )
        for row, block in enumerate(blocks):
            block.x = x[row, :, : block.frames]
            block.steps_done += 1


def frame_mask(blocks: Sequence[FlowBlock], device: torch.device) -> Tensor | None:
    """(b, 1, longest), 1 where a block has a frame; none when all have the same length, which is quicker."""
    frames = [block.frames for block in blocks]
    if len(set(frames)) == 1:
        return None
    there = torch.arange(max(frames))[None] < torch.tensor(frames)[:, None]
    return there[:, None].float().to(device)


def _there(item: Tensor | None) -> Tensor:
    assert item is not None
    return item


def _padded(items: Sequence[Tensor | None]) -> Tensor:
    """Rows (80, frames) of any lengths -> (b, 80, longest), zeros behind."""
    rows = [_there(item) for item in items]
    longest = max(row.shape[1] for row in rows)
    return torch.stack([F.pad(row, (0, longest - row.shape[1])) for row in rows])
