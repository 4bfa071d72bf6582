"""Blocks of many calls, stepped together, get what each gets alone."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from services.decoder import weights
from services.decoder.config import InferenceConfig
from services.decoder.flow.model import TokenToMel
from services.decoder.flow.solving import FlowBlock, FlowSolver
from services.decoder.weights import Checkpoint

NANO = Path(__file__).resolve().parents[3] / "weights" / "nano" / "decoder"
LENGTHS = (5, 10, 12, 25, 31, 40, 50, 64)  # tokens; odd and even frame counts
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def nano() -> Checkpoint:
    """The trained flow, from noise alone and with guidance, as the released one is sampled; fewer steps."""
    loaded = weights.load(NANO)
    inference = InferenceConfig(n_timesteps=4, cfg_rate=0.7)
    return Checkpoint(
        loaded.config.model_copy(update={"inference": inference}), loaded.flow, loaded.vocoder, loaded.revision
    )


@pytest.fixture(params=["tiny", "nano"])
def checkpoint(request: pytest.FixtureRequest, tiny: Checkpoint, nano: Checkpoint) -> Checkpoint:
    return tiny if request.param == "tiny" else nano


def some_blocks(checkpoint: Checkpoint) -> list[FlowBlock]:
    """With prompts of different lengths, and speakers."""
    flow, generator = checkpoint.flow, torch.Generator().manual_seed(4)
    blocks = []
    for row, count in enumerate(LENGTHS):
        frames = flow.frames(count)
        codes = torch.randint(0, checkpoint.config.flow.vocab_size, (count,), generator=generator).tolist()
        noise = torch.randn((80, frames), generator=generator)
        prompt = torch.randn((80, row * frames // 16), generator=generator) - 4
        blocks.append(FlowBlock(codes, noise, prompt, torch.randn(192, generator=generator)))
    return blocks


def mels_alone(checkpoint: Checkpoint) -> list[Tensor]:
    """By the model's own `generate`, which the golden data covers."""
    inference = checkpoint.config.inference
    return [
        checkpoint.flow.generate(
            torch.tensor([block.codes]),
            block.noise[None],
            block.prompt[None],
            block.embedding[None],
            steps=inference.n_timesteps,
            guidance=checkpoint.config.guidance,
        )
        for block in some_blocks(checkpoint)
    ]


@torch.inference_mode()
def test_a_batch_of_eight_lengths_is_each_alone(checkpoint: Checkpoint) -> None:
    blocks, solver = some_blocks(checkpoint), FlowSolver(checkpoint.flow, checkpoint.config)
    turns = 0
    while not all(solver.is_done(block) for block in blocks):
        solver.advance(blocks)
        turns += 1
    assert turns == checkpoint.config.inference.n_timesteps
    for block, alone in zip(blocks, mels_alone(checkpoint), strict=True):
        assert block.mel.shape == alone.shape
        assert float((block.mel - alone).abs().max()) < TOLERANCE


@torch.inference_mode()
def test_blocks_join_and_leave_between_steps(tiny: Checkpoint) -> None:
    """Each turn takes the next block in, so that every one of them is at another step of the flow."""
    quick = tiny.sampled(flow_steps=4)
    blocks, solver = some_blocks(quick), FlowSolver(quick.flow, quick.config)
    turn = 0
    while not all(solver.is_done(block) for block in blocks):
        turn += 1
        solver.advance([block for block in blocks[:turn] if not solver.is_done(block)])
    assert turn == 4 + len(blocks) - 1
    for block, alone in zip(blocks, mels_alone(quick), strict=True):
        assert float((block.mel - alone).abs().max()) < TOLERANCE


@torch.inference_mode()
def test_from_mu_alone_no_step_is_taken(tiny: Checkpoint) -> None:
    config = tiny.config.model_copy(update={"inference": InferenceConfig(start=1.0)})
    solver, blocks = FlowSolver(tiny.flow, config), some_blocks(tiny)
    solver.advance(blocks)
    for block in blocks:
        assert solver.is_done(block)
        mu = tiny.flow.condition(torch.tensor([block.codes]), block.frames)
        assert torch.allclose(block.mel, mu[:, :, block.prompt.shape[1] :], atol=TOLERANCE)


@torch.inference_mode()
def test_where_the_encoder_hears_the_speaker_each_block_has_its_own(tiny: Checkpoint) -> None:
    config = tiny.config.flow.model_copy(update={"speaker_to_encoder": True})
    torch.manual_seed(0)
    flow = TokenToMel(config, tiny.flow.frames_per_token * Fraction(config.input_frame_rate))
    told = replace(tiny, flow=flow, config=tiny.config.model_copy(update={"inference": InferenceConfig(start=1.0)}))
    solver, blocks = FlowSolver(told.flow, told.config), some_blocks(told)
    solver.advance(blocks)
    for block in blocks:
        mu = flow.condition(torch.tensor([block.codes]), block.frames, embedding=block.embedding[None])
        silent = flow.condition(torch.tensor([block.codes]), block.frames)
        assert torch.allclose(block.mel, mu[:, :, block.prompt.shape[1] :], atol=TOLERANCE)
        assert not torch.allclose(mu, silent, atol=TOLERANCE)
