"""The exported language model answering many calls at once, and the counting of right answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from services.lm.prompt import ChatTemplate
from training.domain.personas import Persona
from training.domain.replies import styled
from training.domain.sentences import Style
from training.lm import transformers_model
from training.lm.data import prefix_ids

_BATCH = 32
_LONGEST_ANSWER = 230


class Speaker:
    """Greedy, by transformers' own class."""

    def __init__(self, folder: Path) -> None:
        self.template = ChatTemplate.load(folder)
        self._model: Any = transformers_model.load(folder)
        self._ends = tuple(self._model.config.eos_token_id)

    def opening(self, persona: Persona, style: Style = "") -> list[int]:
        """What the calls of a persona begin with, in its plainest wording."""
        return prefix_ids(self.template, styled(persona.prompt(), style, persona.language))

    def ask(self, codes: Sequence[int]) -> list[int]:
        """A user turn of speech and the head of its answer."""
        template = self.template
        turn = [*template.user_speech_head(), *template.speech(codes), *template.end_of_speech()]
        return [*turn, *template.assistant_head()]

    @torch.inference_mode()
    def answer(self, calls: Sequence[Sequence[int]]) -> list[list[int]]:
        """Ids of the next answer of each call, without the end token."""
        out: list[list[int]] = [[] for _ in calls]
        order = sorted(range(len(calls)), key=lambda i: len(calls[i]))
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            longest = max(len(calls[i]) for i in chosen)
            ids = torch.full((len(chosen), longest), self.template.end)
            mask = torch.zeros_like(ids)
            for row, i in enumerate(chosen):
                ids[row, longest - len(calls[i]) :] = torch.tensor(calls[i])
                mask[row, longest - len(calls[i]) :] = 1
            said = self._model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=_LONGEST_ANSWER,
                do_sample=False,
                eos_token_id=list(self._ends),
                pad_token_id=self.template.end,
            )[:, longest:]
            for i, row in zip(chosen, said.tolist(), strict=True):
                end = next((at for at, token in enumerate(row) if token in self._ends), len(row))
                out[i] = row[:end]
        return out

    def text(self, ids: Sequence[int]) -> str:
        return self.template.text.decode(token for token in ids if self.template.text.knows(token))


@dataclass
class Score:
    """Right answers of a group of questions."""

    asked: int = 0
    right: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, right: bool, failure: str) -> None:
        self.asked += 1
        self.right += right
        if not right:
            self.failures.append(failure)

    def __str__(self) -> str:
        return f"{self.right}/{self.asked} ({self.right / max(1, self.asked):.0%})"
