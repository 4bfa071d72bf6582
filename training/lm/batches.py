"""Rows as tensors, and rows of like length as batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.lm.data import Calls, Row

_BATCHES_A_PERSONA = 3


@dataclass
class Batch:
    prefix: Tensor  # (prefix) ids that all rows begin with
    tokens: Tensor  # (rows, time)
    positions: Tensor
    targets: Tensor  # (learnt)
    weights: Tensor  # (learnt)
    wanted: Tensor  # (rows, time)
    heard: Tensor  # (utterances, frames), indices into the flattened tokens
    heard_lengths: Tensor
    words: Tensor  # concatenated text ids of the utterances
    word_lengths: Tensor


def collate(rows: Sequence[Row], prefix: Sequence[int], padding: int) -> Batch:
    """Rows as tensors, padded at the end. Positions start after the prefix."""
    time = max(len(row.ids) for row in rows)
    tokens = torch.full((len(rows), time), padding)
    targets = torch.zeros(len(rows), time, dtype=torch.long)
    weights = torch.zeros(len(rows), time)
    steps = torch.ones(len(rows), time, dtype=torch.long)
    heard: list[tuple[int, int, list[int]]] = []
    for i, row in enumerate(rows):
        n = len(row.ids)
        tokens[i, :n] = torch.tensor(row.ids)
        targets[i, :n] = torch.tensor(row.targets)
        weights[i, :n] = torch.tensor(row.weights)
        steps[i, 0] = len(prefix)
        for at, skipped in row.jumps:
            steps[i, min(at, time - 1)] += skipped
        # A text can only be aligned to at least as many frames as it has tokens.
        heard += [(i * time + start, frames, words) for start, frames, words in row.heard if frames > len(words)]
    frames = max((count for _, count, _ in heard), default=1)
    spans = torch.zeros(len(heard), frames, dtype=torch.long)
    for i, (start, count, _) in enumerate(heard):
        spans[i, :count] = torch.arange(start, start + count)
    wanted = weights > 0
    return Batch(
        prefix=torch.tensor(prefix),
        tokens=tokens,
        positions=steps.cumsum(1),
        targets=targets[wanted],
        weights=weights[wanted],
        wanted=wanted,
        heard=spans,
        heard_lengths=torch.tensor([count for _, count, _ in heard], dtype=torch.long),
        words=torch.tensor([token for _, _, words in heard for token in words], dtype=torch.long),
        word_lengths=torch.tensor([len(words) for _, _, words in heard], dtype=torch.long),
    )


def batches(calls: Calls, tokens: int, padding: int, personas: int = 8) -> Iterator[Batch]:
    """Endless batches of about `tokens` ids: rows of like length of one persona, whose prompt is computed once."""
    rng = np.random.default_rng(len(calls.callers))
    while True:
        groups: list[tuple[list[int], list[Row]]] = []
        for _ in range(personas):
            setting, prefix = calls.persona()
            rows: list[Row] = []
            while sum(len(row.ids) for row in rows) < tokens * _BATCHES_A_PERSONA:
                row = calls.row(setting)
                if any(row.weights):
                    rows.append(row)
            rows.sort(key=lambda row: len(row.ids))
            groups += [(prefix, group) for group in _of_like_length(rows, tokens)]
        for i in rng.permutation(len(groups)):
            yield collate(groups[i][1], groups[i][0], padding)


def _of_like_length(rows: Sequence[Row], tokens: int) -> list[list[Row]]:
    groups: list[list[Row]] = [[]]
    for row in rows:
        if groups[-1] and len(row.ids) * (len(groups[-1]) + 1) > tokens:
            groups.append([])
        groups[-1].append(row)
    return groups
