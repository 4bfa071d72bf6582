"""Writes decoder/ of a directory of weights: config.yaml as trained, flow and vocoder in half precision."""

import re

import torch
from safetensors.torch import save_file
from torch import Tensor

from services.decoder.config import InferenceConfig
from training.decoder import train
from training.paths import Models


def export(models: Models, inference: InferenceConfig | None = None) -> None:
    """Puts the checkpoints' weights into decoder/ of `models`; `inference` replaces the way to sample in config.yaml.

    Where only one of the two has been trained here, the other's weights there stay.
    """
    folder = models.decoder
    trained: dict[str, dict[str, Tensor]] = {}
    text = (folder / "config.yaml").read_text() if (folder / "config.yaml").exists() else train.NANO.read_text()
    if models.checkpoint("decoder").exists():
        trained["flow"] = torch.load(models.checkpoint("decoder"), weights_only=True)["average"]
        text = train.described(len(trained["flow"]["input_embedding.weight"]))
    if models.checkpoint("vocoder").exists():
        trained["hift"] = torch.load(models.checkpoint("vocoder"), weights_only=True)["model"]
    if inference is not None:
        for name, value in inference.model_dump(exclude_none=True).items():
            text = re.sub(rf"(?m)^(    {name}: ).*$", rf"\g<1>{value}", text, count=1)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(text)
    for name, state in trained.items():
        half: dict[str, Tensor] = {key: value.half().contiguous() for key, value in state.items()}
        path = folder / f"{name}.safetensors"
        save_file(half, path)
        path.chmod(0o644)  # save_file lets nobody else read
