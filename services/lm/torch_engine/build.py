"""Puts the torch engine together from a checkpoint."""

from pathlib import Path

import torch

from services.common.errors import WeightsError
from services.lm import weights
from services.lm.prompt import ChatTemplate
from services.lm.torch_engine.engine import TorchEngine
from services.lm.torch_engine.runner import Runner
from services.lm.torch_engine.scheduler import Scheduler


def build(
    directory: Path, template: ChatTemplate, dtype: str = "float32", device: str = "cpu", threads: int = 0
) -> tuple[TorchEngine, str]:
    """Loads the weights and starts the engine. Returns it and the checkpoint's revision.

    Raises:
        WeightsError: the checkpoint is wrong, or its tokenizer has more ids than its model.
        ValueError: torch has no such device.
    """
    if threads:
        torch.set_num_threads(threads)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"{device} cannot be used: {str(error).splitlines()[0]}") from error
    checkpoint = weights.load(directory, dtype, device)
    highest = max((template.vocabulary.size - 1, *checkpoint.end_tokens))
    if highest >= checkpoint.model.config.vocab_size:
        raise WeightsError(
            f"{directory}: the tokenizer or eos_token_id has ids up to {highest}, "
            f"config.json's padded_vocab_size is {checkpoint.model.config.vocab_size}"
        )
    scheduler = Scheduler(Runner(checkpoint.model), template, checkpoint.context_length, checkpoint.end_tokens)
    return TorchEngine(scheduler), checkpoint.revision
