"""The recogniser that the tokenizer was trained with, as a measure: which words can be read off speech tokens?"""

import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from services.tokenizer.weights import Checkpoint
from training.paths import CACHE
from training.progress import save_checkpoint
from training.tokenizer import whisper
from training.tokenizer.model import Recogniser, TokenizerTrainer

CHECKPOINT = CACHE / "tokenizer" / "recogniser.pt"
_BATCH = 16


def save_recogniser(model: TokenizerTrainer, path: Path = CHECKPOINT) -> None:
    """Keeps what reading tokens needs, in half precision."""
    full = model.recogniser.state_dict()
    state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in full.items()}
    save_checkpoint(path, {"recogniser": state, "codebook": model.encoder.codebook.weight.clone()})


@functools.cache
def _load(path: Path) -> tuple[Recogniser, Tensor]:
    state = torch.load(path)
    recogniser = Recogniser(state["recogniser"]["vocabulary"])
    recogniser.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state["recogniser"].items()})
    return recogniser.eval(), state["codebook"]


def belongs_to(checkpoint: Checkpoint, path: Path = CHECKPOINT) -> bool:
    """Whether the recogniser was trained with this tokenizer: with another's tokens it reads nonsense."""
    if not path.exists():
        return False
    codebook, own = checkpoint.encoder.codebook.weight, _load(path)[1]
    return codebook.shape == own.shape and bool(torch.allclose(codebook, own, atol=2e-2, rtol=2e-2))


def read_codes(codes: Sequence[Sequence[int]], path: Path = CHECKPOINT) -> list[str]:
    """Text of each sequence of speech tokens; nothing for an empty one."""
    recogniser, codebook = _load(path)
    out = [""] * len(codes)
    order = [i for i in sorted(range(len(codes)), key=lambda i: len(codes[i])) if len(codes[i])]
    for start in range(0, len(order), _BATCH):
        chosen = order[start : start + _BATCH]
        lengths = torch.tensor([len(codes[i]) for i in chosen])
        vectors = torch.zeros(len(chosen), int(lengths.max()), codebook.shape[1])
        for row, i in enumerate(chosen):
            vectors[row, : len(codes[i])] = codebook[torch.tensor(list(codes[i]))]
        for i, ids in zip(chosen, recogniser.transcribe(vectors, lengths), strict=True):
            out[i] = whisper.text_tokenizer().decode(ids).strip()
    return out
