"""What the encoder may look at, and that it can be trained."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from services.tokenizer.config import EncoderConfig
from services.tokenizer.model import Block, Codebook, EncoderState, Packing, WhisperVQEncoder
from services.tokenizer.weights import load
from tests.unit.tokenizer.checkpoint import CONFIG_VALUES, write

BLOCK_MELS = 32
TOKEN_MELS = 8


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> WhisperVQEncoder:
    return load(write(tmp_path_factory.mktemp("weights"))).encoder


def mels(batch: int, frames: int) -> torch.Tensor:
    return torch.randn(batch, 16, frames, generator=torch.Generator().manual_seed(frames))


def test_a_frame_sees_its_block_and_what_came_before(encoder: WhisperVQEncoder) -> None:
    features = mels(1, 3 * BLOCK_MELS)
    length = torch.tensor([3 * BLOCK_MELS])
    before, _ = encoder.hidden(features, length)
    changed = features.clone()
    changed[..., 2 * BLOCK_MELS - 2] += 3.0  # what the second block's last frame was made of
    after, _ = encoder.hidden(changed, length)
    moved = (before - after).abs().amax(2)[0] > 1e-6
    assert moved.tolist() == [False] * 4 + [True] * 8


def test_a_clip_in_a_batch_gives_what_it_gives_alone(encoder: WhisperVQEncoder) -> None:
    lengths = torch.tensor([5, 8, 9, 37, 96])
    features = mels(5, 96)
    together, counts = encoder.hidden(features, lengths)
    assert counts.tolist() == [1, 1, 2, 5, 12]
    for row, length in enumerate(lengths.tolist()):
        whole = -(-length // TOKEN_MELS) * TOKEN_MELS
        alone, _ = encoder.hidden(features[row : row + 1, :, :whole], lengths[row : row + 1])
        torch.testing.assert_close(together[row, : counts[row]], alone[0], atol=1e-5, rtol=0)


def test_padding_is_not_attended_to(encoder: WhisperVQEncoder) -> None:
    features = mels(1, 2 * TOKEN_MELS)
    before, _ = encoder.hidden(features, torch.tensor([TOKEN_MELS]))
    features[..., TOKEN_MELS:] += 5.0
    after, _ = encoder.hidden(features, torch.tensor([TOKEN_MELS]))
    torch.testing.assert_close(before[:, 0], after[:, 0])


def test_part_of_a_token_is_filled_with_zeros_after_the_layers(encoder: WhisperVQEncoder) -> None:
    features = mels(1, TOKEN_MELS + 4)
    hidden, counts = encoder.hidden(features, torch.tensor([TOKEN_MELS + 4]))
    assert hidden.shape == (1, 2, 32)
    assert counts.tolist() == [2]


def test_a_clip_beyond_the_position_table_is_refused(encoder: WhisperVQEncoder) -> None:
    with pytest.raises(ValueError, match="208 frames at once; the position table ends at 200"):
        encoder.hidden(mels(1, 416), torch.tensor([416]))


def advance(
    encoder: WhisperVQEncoder, features: torch.Tensor, state: EncoderState
) -> tuple[torch.Tensor, EncoderState]:
    """One complete block (1, bins, mel frames) alone."""
    hidden, (after,) = encoder.advance([Block(features[0], features.shape[2], state, complete=True)])
    assert after is not None
    return hidden, after


def test_a_block_beyond_the_position_table_is_refused(encoder: WhisperVQEncoder) -> None:
    state = replace(encoder.start(), frames=196)
    with pytest.raises(ValueError, match="block ends at frame 204"):
        encoder.advance([Block(mels(1, 16)[0], 16, state, complete=False)])


def test_an_open_block_can_be_encoded_again(encoder: WhisperVQEncoder) -> None:
    features = mels(1, 2 * BLOCK_MELS)
    first, state = advance(encoder, features[..., :BLOCK_MELS], encoder.start())
    open_block = Block(features[0, :, BLOCK_MELS : BLOCK_MELS + 8], 8, state, complete=False)
    assert encoder.advance([open_block])[1] == [None]
    second, _ = advance(encoder, features[..., BLOCK_MELS:], state)
    whole, _ = encoder.hidden(features, torch.tensor([2 * BLOCK_MELS]))
    torch.testing.assert_close(torch.cat((first, second), dim=1), whole, atol=1e-5, rtol=0)


def uneven_blocks(encoder: WhisperVQEncoder) -> list[Block]:
    """Eight blocks that differ in what lies before them, in their length and in their padding; one spans three."""
    blocks = []
    for seed, (before, frames, length) in enumerate(
        [(0, 32, 32), (1, 8, 5), (4, 32, 32), (11, 16, 9), (2, 24, 24), (0, 8, 1), (1, 96, 90), (5, 32, 31)]
    ):
        features = mels(1, BLOCK_MELS * before + frames + 8 * seed)  # another length is another seed
        state = encoder.start()
        for at in range(before):
            _, state = advance(encoder, features[..., at * BLOCK_MELS : (at + 1) * BLOCK_MELS], state)
        blocks.append(Block(features[0, :, BLOCK_MELS * before :][:, :frames], length, state, length == BLOCK_MELS))
    return blocks


def test_blocks_of_different_lengths_give_in_one_batch_what_they_give_alone(encoder: WhisperVQEncoder) -> None:
    blocks = uneven_blocks(encoder)
    together, states = encoder.advance(blocks)
    for row, block in enumerate(blocks):
        alone, (state,) = encoder.advance([block])
        torch.testing.assert_close(together[row, : alone.shape[1]], alone[0], atol=1e-5, rtol=0)
        after = states[row]
        if state is None or after is None:
            assert after is state
            continue
        assert after.frames == state.frames == block.state.frames + BLOCK_MELS // 2
        for name in ("mel", "conv", "keys_values"):
            torch.testing.assert_close(getattr(after, name), getattr(state, name), atol=1e-5, rtol=0)


def test_packed_frames_are_padded_with_zeros_and_back() -> None:
    packing = Packing.of([1, 3, 2], torch.device("cpu"))
    packed = torch.arange(1.0, 7.0)[:, None].repeat(1, 2)
    padded = packing.pad(packed)
    assert padded[..., 0].tolist() == [[1, 0, 0], [2, 3, 4], [5, 6, 0]]
    assert packing.pack(padded).tolist() == packed.tolist()


def test_what_pads_a_batch_is_never_looked_at(encoder: WhisperVQEncoder) -> None:
    blocks = uneven_blocks(encoder)
    before, _ = encoder.advance(blocks)
    loud = [replace(block, features=block.features.clone()) for block in blocks]
    loud[6].features[:] = 50.0  # the longest block, beside which the others are padded
    loud[3] = replace(loud[3], state=replace(loud[3].state, keys_values=loud[3].state.keys_values + 50.0))
    after, _ = encoder.advance(loud)
    for row, block in enumerate(blocks):
        changed = not torch.allclose(after[row, : block.frames // 4], before[row, : block.frames // 4], atol=1e-5)
        assert changed is (row in (3, 6))


def test_a_state_does_not_hold_the_batch_that_it_came_from(encoder: WhisperVQEncoder) -> None:
    _, states = encoder.advance(uneven_blocks(encoder))
    for state in states:
        if state is not None:
            for tensor in (state.mel, state.conv, state.keys_values):
                assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_the_nearest_code_by_squared_distance() -> None:
    codebook = Codebook(3, 2)
    codebook.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [8.0, 8.0]]))
    points = torch.tensor([[[0.4, 0.1], [0.6, 0.1]], [[9.0, 9.0], [5.0, 4.4]]])
    assert codebook.nearest(points).tolist() == [[0, 1], [2, 2]]


def test_close_codes_far_from_the_origin_are_told_apart() -> None:
    codebook = Codebook(3, 32)
    # Squared norms of 320,000, of which float32 keeps steps of 0.03; the distances are below 0.002.
    codebook.weight.copy_(torch.full((3, 32), 100.0) + torch.tensor([0.0, 0.01, -50.0])[:, None])
    points = torch.full((20, 32), 100.0) + torch.linspace(0.0, 0.01, 20)[:, None]
    assert codebook.nearest(points).tolist() == [0] * 10 + [1] * 10


def test_a_codebook_of_one() -> None:
    assert Codebook(1, 4).nearest(torch.ones(2, 3, 4)).tolist() == [[0] * 3] * 2


def test_codes_do_not_depend_on_autocast() -> None:
    codebook = Codebook(64, 32)
    # Differences that bfloat16 cannot hold.
    codebook.weight.copy_(torch.ones(64, 32) + torch.arange(64)[:, None] * 2e-3)
    points = torch.ones(1, 64, 32) + torch.arange(64)[None, :, None] * 2e-3
    with torch.autocast("cpu", torch.bfloat16):
        assert codebook.nearest(points).tolist() == [list(range(64))]


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    encoder = WhisperVQEncoder(EncoderConfig.from_released(CONFIG_VALUES))
    hidden, _ = encoder.hidden(mels(2, 40), torch.tensor([40, 24]))
    torch.autograd.backward(hidden.square().sum())
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_state_keys_are_the_released_ones(golden_dir: Path) -> None:
    keys = load(golden_dir / "tokenizer").encoder.state_dict().keys()
    assert "layers.1.self_attn.k_proj.weight" in keys
    assert "layers.1.self_attn.k_proj.bias" not in keys
    assert {"conv1.weight", "conv2.bias", "embed_positions.weight", "codebook.weight"} <= keys
    assert not any(key.startswith("layers.2.") for key in keys)
