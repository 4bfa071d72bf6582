"""Writes weights/nano/decoder: config.yaml as trained, flow and vocoder in half precision."""

import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from services.decoder.config import InferenceConfig
from training.decoder import train
from training.paths import WEIGHTS
from training.vocoder import train as vocoder_train

FOLDER = WEIGHTS / "decoder"


def export(inference: InferenceConfig | None = None, folder: Path = FOLDER) -> None:
    """Puts the checkpoints' weights into `folder`; `inference` replaces the way to sample in config.yaml.

    Where only one of the two has been trained here, the other's weights in `folder` stay.
    """
    trained: dict[str, dict[str, Tensor]] = {}
    if train.CHECKPOINT.exists():
        trained["flow"] = torch.load(train.CHECKPOINT, weights_only=True)["average"]
    if vocoder_train.CHECKPOINT.exists():
        trained["hift"] = torch.load(vocoder_train.CHECKPOINT, weights_only=True)["model"]
    described = train.NANO.read_text()
    if inference is not None:
        for name, value in inference.model_dump(exclude_none=True).items():
            described = re.sub(rf"(?m)^(    {name}: ).*$", rf"\g<1>{value}", described, count=1)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(described)
    for name, state in trained.items():
        half: dict[str, Tensor] = {key: value.half().contiguous() for key, value in state.items()}
        path = folder / f"{name}.safetensors"
        save_file(half, path)
        path.chmod(0o644)  # save_file lets nobody else read
