"""The encoder reproduces the reference implementation (see tests/golden/README.md)."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file

from services.tokenizer.streaming import Utterance, encode
from services.tokenizer.weights import MODEL, Checkpoint, load

Golden = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def checkpoint(golden_dir: Path) -> Checkpoint:
    return load(golden_dir / "tokenizer")


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> Golden:
    with np.load(golden_dir / "tokenizer" / "golden.npz") as file:
        return dict(file)


def clips(golden: Golden) -> list[torch.Tensor]:
    return [torch.from_numpy(golden["audio0"]), torch.from_numpy(golden["audio1"])]


@pytest.mark.parametrize(
    # float32 FFTs round differently from one CPU to another, which shows in the logarithm of quiet bins; in float64
    # only the reference's own rounding is left.
    ("dtype", "tolerance"),
    [(torch.float64, 2e-5), (torch.float32, 1e-4)],
)
def test_features_equal_the_reference(
    checkpoint: Checkpoint, golden: Golden, dtype: torch.dtype, tolerance: float
) -> None:
    log_mel = copy.deepcopy(checkpoint.log_mel).to(dtype)
    features, lengths = log_mel([clip.to(dtype) for clip in clips(golden)], checkpoint.token_samples)
    assert lengths.tolist() == golden["attention_mask"].sum(1).tolist()
    expected = torch.from_numpy(golden["input_features"]).to(dtype)
    for row, name in enumerate(("ids0", "ids1")):
        own = len(golden[name]) * 8  # mel frames of the clip's tokens; what follows fills the batch
        torch.testing.assert_close(features[row, :, :own], expected[row, :, :own], atol=tolerance, rtol=0)


def test_ids_and_hidden_equal_the_reference_in_one_batch(
    checkpoint: Checkpoint, golden: Golden, golden_dir: Path
) -> None:
    features, lengths = checkpoint.log_mel(clips(golden), checkpoint.token_samples)
    ids, counts = checkpoint.encoder(features, lengths)
    # The reference goes on with a second position table, for the layers that only training has.
    positions = load_file(golden_dir / "tokenizer" / MODEL)["model.encoder.embed_positions2.weight"]
    last_hidden = checkpoint.encoder.codebook(ids) + positions[: ids.shape[1]]
    for row, name in enumerate(("ids0", "ids1")):
        count = int(counts[row])
        assert ids[row, :count].tolist() == golden[name].tolist()
        expected = torch.from_numpy(golden["last_hidden"])[row, :count]
        torch.testing.assert_close(last_hidden[row, :count], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("index", [0, 1])
def test_ids_equal_the_reference_alone(checkpoint: Checkpoint, golden: Golden, index: int) -> None:
    features, lengths = checkpoint.log_mel([clips(golden)[index]], checkpoint.token_samples)
    ids, counts = checkpoint.encoder(features, lengths)
    assert counts.tolist() == [ids.shape[1]]
    assert ids[0].tolist() == golden[f"ids{index}"].tolist()


def test_whole_utterances_equal_the_reference_in_one_batch(checkpoint: Checkpoint, golden: Golden) -> None:
    utterances = [Utterance(checkpoint, whole=True) for _ in range(2)]
    for utterance, clip in zip(utterances, clips(golden), strict=True):
        for chunk in torch.split(clip, 320):
            utterance.push(chunk)
            assert utterance.due is None
        utterance.end()
    for tokens, name in zip(encode(checkpoint, utterances), ("ids0", "ids1"), strict=True):
        assert tokens.final
        assert tokens.ids == golden[name].tolist()
    assert [utterance.due for utterance in utterances] == [None, None]
