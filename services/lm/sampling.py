"""Chooses tokens from logits, a whole batch at once. A draw's randomness depends on seed and position alone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

# The nucleus is looked for among so many of the most probable ids first; nearly always it lies within.
_CANDIDATES = 64


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
    chosen = logits.argmax(-1)
    sampled = [row for row, draw in enumerate(draws) if draw.temperature > 0]
    if sampled:
        rows = torch.tensor(sampled, device=logits.device)
        settings = [[draws[row].temperature, draws[row].top_p, draws[row].chance] for row in sampled]
        temperature, top_p, chance = torch.tensor(settings, dtype=torch.float64, device=logits.device).t()[..., None]
        # Counted from the best one down, so that no temperature is low enough to overflow.
        below = logits[rows] - logits[rows].amax(-1, keepdim=True)
        shares = torch.softmax(below / temperature.float(), dim=-1)
        reached = torch.where(shares >= _nucleus(shares, top_p), shares, 0).cumsum(-1, dtype=torch.float64)
        total = reached[:, -1:]
        # Rounding must not carry the draw beyond the last id that may be chosen.
        target = torch.minimum(chance * total, torch.nextafter(total, torch.zeros_like(total)))
        chosen[rows] = torch.searchsorted(reached, target, right=True)[:, 0]
    return chosen.tolist()


def _nucleus(shares: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """The least share of an id that belongs to the nucleus, (rows, 1); ids of equal share belong together.

    Args:
        shares: (rows, vocabulary), each row's sum is 1.
        top_p: (rows, 1).
    """
    size = shares.shape[-1]
    least = torch.zeros_like(shares[:, :1])
    open_rows = (top_p[:, 0] < 1).nonzero()[:, 0]
    for candidates in (min(_CANDIDATES, size), size):
        if not len(open_rows):
            break
        best = shares[open_rows].topk(candidates).values
        reached = best.cumsum(-1, dtype=torch.float64)
        count = (reached < top_p[open_rows]).sum(-1, keepdim=True)
        least[open_rows] = best.gather(-1, count.clamp(max=candidates - 1))
        open_rows = open_rows[(count[:, 0] == candidates)]
    return least
