import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from services.common.errors import WeightsError
from services.decoder import config as decoder_config
from services.decoder.weights import fold_weight_norm, load


@pytest.fixture
def folder(golden_dir: Path, tmp_path: Path) -> Path:
    for name in ("config.yaml", "flow.pt", "hift.pt"):
        shutil.copy(golden_dir / "decoder" / name, tmp_path)
    return tmp_path


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "config.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def rewrite(path: Path, **changes: Tensor | None) -> None:
    state: dict[str, Tensor] = torch.load(path, weights_only=True)
    for name, value in changes.items():
        state.pop(name)
        if value is not None:
            state[name] = value
    torch.save(state, path)


def test_released_tags_are_read_as_data(folder: Path) -> None:
    config = decoder_config.read(folder / "config.yaml")
    assert config.flow.spk_embed_dim == 192
    assert config.hift.sampling_rate == 22_050
    assert config.guidance == 0.7
    assert (config.inference.n_timesteps, config.inference.temperature) == (10, 1.0)


def test_a_checkpoint_may_say_how_to_sample(folder: Path) -> None:
    with (folder / "config.yaml").open("a") as file:
        file.write("inference: {n_timesteps: 4, temperature: 0.3, cfg_rate: 0.0}\n")
    config = decoder_config.read(folder / "config.yaml")
    assert (config.inference.n_timesteps, config.inference.temperature, config.guidance) == (4, 0.3, 0.0)


def test_settings_override_how_to_sample(folder: Path) -> None:
    checkpoint = load(folder)
    assert checkpoint.sampled() == checkpoint
    changed = checkpoint.sampled(flow_steps=3, temperature=0.0)
    assert (changed.config.inference.n_timesteps, changed.config.inference.temperature) == (3, 0.0)
    assert changed.config.guidance == checkpoint.config.guidance
    assert changed.flow is checkpoint.flow


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!apply:os.system", "!name:os.system"])
def test_other_tags_are_refused_and_nothing_runs(folder: Path, tag: str) -> None:
    witness = folder / "ran"
    edit(folder, "sample_rate: 22050\n", f'sample_rate: 22050\nevil: {tag} ["touch {witness}"]\n')
    with pytest.raises(WeightsError, match=r"config\.yaml"):
        load(folder)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("BlockConformerEncoder", "ConformerEncoder", "flow.encoder.class"),
        ("spk_embed_dim: !ref <spk_embed_dim>", "spk_embed_dim: !ref <nobody>", "nobody"),
        ("use_cnn_module: False", "use_cnn_module: True", "use_cnn_module"),
        ("vocab_size: 512", "vocab_size: many", "vocab_size"),
        ("in_channels: 320", "in_channels: 321", "in_channels"),
        ("upsample_kernel_sizes: [16, 16]", "upsample_kernel_sizes: [16]", "upsample_kernel_sizes"),
        ("flow: !new:", "flow: [", "YAML"),
    ],
)
def test_a_config_of_another_model_is_named(folder: Path, old: str, new: str, said: str) -> None:
    edit(folder, old, new)
    with pytest.raises(WeightsError, match=said):
        load(folder)


@pytest.mark.parametrize("name", ["config.yaml", "flow.pt", "hift.pt"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=name):
        load(folder)


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such directory"):
        load(tmp_path / "none")


def test_a_wrong_shape_is_named(folder: Path) -> None:
    rewrite(folder / "flow.pt", **{"encoder_proj.weight": torch.zeros(80, 32)})
    with pytest.raises(WeightsError, match=r"flow\.pt: encoder_proj\.weight has shape \(80, 32\).*\(80, 64\)"):
        load(folder)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    rewrite(folder / "hift.pt", **{"conv_post.bias": None})
    with pytest.raises(WeightsError, match=r"hift\.pt: 1 tensors are missing, the first is conv_post\.bias"):
        load(folder)


def test_half_a_weight_norm_is_named(folder: Path) -> None:
    rewrite(folder / "hift.pt", **{"conv_pre.weight_v": None})
    with pytest.raises(WeightsError, match=r"conv_pre\.weight"):
        load(folder)


def test_another_models_tensors_are_named(folder: Path) -> None:
    shutil.copy(folder / "hift.pt", folder / "flow.pt")
    with pytest.raises(WeightsError, match=r"flow\.pt: \d+ tensors are missing"):
        load(folder)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 a zip that is not one"])
def test_a_broken_file_is_named(folder: Path, content: bytes) -> None:
    (folder / "flow.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=r"flow\.pt: cannot be read"):
        load(folder)


def test_a_pickle_that_runs_code_is_refused(folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(folder / "ran"),)

    torch.save({"a": Evil()}, folder / "flow.pt")
    with pytest.raises(WeightsError, match=r"flow\.pt"):
        load(folder)
    assert not (folder / "ran").exists()


def test_half_precision_safetensors(folder: Path) -> None:
    released = load(folder)
    for stem in ("flow", "hift"):
        state: dict[str, Tensor] = torch.load(folder / f"{stem}.pt", weights_only=True)
        folded = fold_weight_norm(state)
        save_file({name: item.half().contiguous() for name, item in folded.items()}, folder / f"{stem}.safetensors")
        (folder / f"{stem}.pt").unlink()
    small = load(folder)
    assert small.revision != released.revision
    for ours, theirs in zip(small.vocoder.parameters(), released.vocoder.parameters(), strict=True):
        assert ours.dtype == torch.float32
        assert torch.allclose(ours, theirs, atol=2e-3)


def test_both_namings_of_weight_norm() -> None:
    layer = torch.nn.ConvTranspose1d(4, 3, 5)
    plain = layer.weight.detach().clone()
    normed = torch.nn.utils.parametrizations.weight_norm(layer)
    folded = fold_weight_norm({f"up.{name}": item for name, item in normed.state_dict().items()})
    assert set(folded) == {"up.weight", "up.bias"}
    assert torch.allclose(folded["up.weight"], plain, atol=1e-6)
