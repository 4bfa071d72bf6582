"""Chooses tokens from logits, a whole batch at once. A draw's randomness depends on seed and position alone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

# The nucleus is looked for among so many of the most probable ids, and then among more where they do not hold it.
_CANDIDATES = (16, 256)


@dataclass(frozen=True)
class Draw:
    """How one row's token is chosen.

    Attributes:
        temperature: 0 is greedy.
        top_p: the most probable ids that together reach this share are sampled from (Holtzman et al. 2020).
        chance: in [0, 1); the inverse of the cumulative distribution is taken here.
    """

    temperature: float
    top_p: float
    chance: float


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) for one place of one answer, the same on every replica and however often it is asked."""
    digest = hashlib.blake2b(f"{seed}:{position}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def choose(logits: torch.Tensor, draws: Sequence[Draw]) -> list[int]:
    """The chosen id of each row.

    Args:
        logits: (rows, vocabulary), with -inf where an id may not be chosen.
        draws: one for each row.
    """
    sampled = [row for row, draw in enumerate(draws) if draw.temperature > 0]
    if len(sampled) == len(draws):
        return _sample(logits, draws)
    chosen: list[int] = logits.argmax(-1).tolist()
    if sampled:
        for row, token in zip(sampled, _sample(logits[sampled], [draws[row] for row in sampled]), strict=True):
            chosen[row] = token
    return chosen


def _sample(logits: torch.Tensor, draws: Sequence[Draw]) -> list[int]:
    temperatures = torch.tensor([[draw.temperature] for draw in draws], dtype=torch.float32, device=logits.device)
    # Counted from the best one down, so that no temperature is low enough to overflow.
    shares = ((logits - logits.amax(-1, keepdim=True)) / temperatures).softmax(-1)
    chosen = [0] * len(draws)
    whole = [row for row, draw in enumerate(draws) if draw.top_p >= 1]
    if whole:
        _settle(chosen, whole, shares[whole].cumsum(-1, dtype=torch.float64), None, draws)
    left = [row for row, draw in enumerate(draws) if draw.top_p < 1]
    size = shares.shape[-1]
    for candidates in (*(number for number in _CANDIDATES if number < size), size):
        if not left:
            break
        best, ids = (shares if len(left) == len(draws) else shares[left]).topk(candidates)
        reached = best.cumsum(-1, dtype=torch.float64)
        held = [
            total >= draws[row].top_p or candidates == size
            for row, total in zip(left, reached[:, -1].tolist(), strict=True)
        ]
        here = [at for at, whether in enumerate(held) if whether]
        if here:
            _settle(chosen, [left[at] for at in here], reached[here], ids[here], draws)
        left = [row for row, whether in zip(left, held, strict=True) if not whether]
    return chosen


def _settle(
    chosen: list[int], rows: Sequence[int], reached: torch.Tensor, ids: torch.Tensor | None, draws: Sequence[Draw]
) -> None:
    """Draws from the nucleus of each row.

    Args:
        reached: (rows, candidates) cumulated shares, the most probable first where `ids` is given.
        ids: (rows, candidates); None where the candidates are the vocabulary in its order, and all of it is drawn from.
    """
    settings = [[draws[row].top_p, draws[row].chance] for row in rows]
    top_p, chance = torch.tensor(settings, dtype=torch.float64, device=reached.device).t().unsqueeze(-1).contiguous()
    last = reached.shape[-1] - 1
    kept = torch.full_like(top_p, last, dtype=torch.long)
    if ids is not None:
        kept = (reached < top_p).sum(-1, keepdim=True).clamp(max=last)
    total = reached.gather(-1, kept)
    # Rounding must not carry the draw beyond the last id that may be chosen.
    target = torch.minimum(chance * total, torch.nextafter(total, torch.zeros_like(total)))
    drawn = torch.searchsorted(reached, target, right=True)
    tokens = drawn if ids is None else ids.gather(-1, drawn)
    for row, token in zip(rows, tokens[:, 0].tolist(), strict=True):
        chosen[row] = token
