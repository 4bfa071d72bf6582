"""The encoder reproduces the reference implementation (see tests/golden/README.md)."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file

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


def test_features_equal_the_reference(checkpoint: Checkpoint, golden: Golden) -> None:
    features, lengths = checkpoint.log_mel(clips(golden), checkpoint.token_samples)
    assert lengths.tolist() == golden["attention_mask"].sum(1).tolist()
    expected = torch.from_numpy(golden["input_features"])
    for row, name in enumerate(("ids0", "ids1")):
        own = len(golden[name]) * 8  # mel frames of the clip's tokens; what follows fills the batch
        # single-precision transforms of other processors differ by some 3e-5 where a bin is nearly empty
        torch.testing.assert_close(features[row, :, :own], expected[row, :, :own], atol=1e-4, rtol=0)


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
