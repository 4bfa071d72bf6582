"""Chooses the tokens of answers inside vLLM's worker: which ids are allowed, and the project's own seeded sampling.

vLLM's sampler draws from a generator that lives as long as a request. Here the randomness of a step depends on the
seed and the position alone (`services.lm.sampling`), so that an answer goes on the same in another request, on another
replica, and with the other engine. What is chosen is left as the only possible logit; vLLM then takes the largest.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from services.lm.answer import Allowed
from services.lm.prompt import ChatTemplate
from services.lm.sampling import Draw, choose, uniform
from services.lm.weights import inspect

_KEY = "trunkline"


@dataclass(frozen=True)
class Choice:
    """How the tokens of one request are chosen.

    Attributes:
        allowed: name of an `Allowed`.
    """

    allowed: str
    temperature: float
    top_p: float
    seed: int

    def extra_args(self) -> dict[str, Any]:
        """As vLLM carries it to its workers."""
        return {_KEY: asdict(self)}


@dataclass(frozen=True)
class _Row:
    """A request of the batch; `outputs` is vLLM's own list, which grows."""

    choice: Choice
    prompt_length: int
    outputs: Sequence[int]

    def draw(self) -> Draw:
        chance = uniform(self.choice.seed, self.prompt_length + len(self.outputs))
        return Draw(self.choice.temperature, self.choice.top_p, chance)


@dataclass(frozen=True)
class _Layout:
    """The rows of a batch as tensors; made anew when the batch changes.

    Attributes:
        sets: (batch,) which set of barred ids a row has.
        rows: those that are sampled, at the places `index`.
    """

    sets: torch.Tensor
    rows: tuple[_Row, ...]
    index: torch.Tensor


class AnswerSampler(LogitsProcessor):  # type: ignore[misc]
    """vLLM makes one in each worker; requests without a `Choice` are left alone."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        directory = Path(vllm_config.model_config.model)
        template = ChatTemplate.load(directory)
        self._device = device
        self._sets = {allowed.name: number for number, allowed in enumerate(Allowed, start=1)}
        end = {*inspect(directory).architecture.end_tokens, template.end}
        self._barred = _barred(template, end, vllm_config.model_config.get_vocab_size()).to(device)
        self._rows: dict[int, _Row] = {}
        self._layout: _Layout | None = None

    def is_argmax_invariant(self) -> bool:
        """Greedy rows are restricted too."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follows requests that join, leave or move."""
        if batch_update is not None:
            process_dict_updates(self._rows, batch_update, _row)
            self._layout = None

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Bars ids and pins sampled rows to what was chosen; (batch, vocabulary), in place."""
        if not self._rows:
            return logits
        layout = self._layout or self._lay_out(len(logits))
        self._layout = layout
        logits.masked_fill_(self._barred[layout.sets], -torch.inf)
        if layout.rows:
            chosen = choose(logits[layout.index], [row.draw() for row in layout.rows])
            logits[layout.index] = -torch.inf
            logits[layout.index, torch.tensor(chosen, device=self._device)] = 0.0
        return logits

    def _lay_out(self, batch: int) -> _Layout:
        sets = [self._sets[self._rows[i].choice.allowed] if i in self._rows else 0 for i in range(batch)]
        sampled = [i for i in range(batch) if i in self._rows and self._rows[i].choice.temperature > 0]
        rows = tuple(self._rows[i] for i in sampled)
        return _Layout(
            sets=torch.tensor(sets, device=self._device),
            rows=rows,
            index=torch.tensor(sampled, dtype=torch.int64, device=self._device),
        )


def _row(params: SamplingParams, prompt: list[int] | None, outputs: list[int]) -> _Row | None:
    given = (params.extra_args or {}).get(_KEY)
    return None if given is None else _Row(Choice(**given), len(prompt or ()), outputs)


def _barred(template: ChatTemplate, end: set[int], size: int) -> torch.Tensor:
    """(1 + number of `Allowed`, vocabulary), True where an id may not be chosen; row 0 bars nothing."""
    vocabulary = template.vocabulary
    barred = torch.ones(1 + len(Allowed), size, dtype=torch.bool)
    barred[0] = False
    barred[1:, vocabulary.speech_offset : vocabulary.speech_offset + vocabulary.codebook_size] = False
    for number, allowed in enumerate(Allowed, start=1):
        if allowed is Allowed.ANSWER:
            barred[number, list(template.text.ids)] = False
        if allowed is not Allowed.SPEECH:
            barred[number, sorted(end)] = False
    return barred
