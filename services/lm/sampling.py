"""Chooses a token from logits. The randomness of a step depends on the seed and the position alone."""

import hashlib

import torch


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) for one place of one answer, the same on every replica and however often it is asked."""
    digest = hashlib.blake2b(f"{seed}:{position}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def choose(logits: torch.Tensor, temperature: float, top_p: float, chance: float) -> int:
    """Index of the chosen logit.

    Args:
        logits: (vocabulary,), with -inf where an id may not be chosen.
        temperature: 0 is greedy.
        top_p: the most probable ids that together reach this share are sampled from (Holtzman et al. 2020).
        chance: in [0, 1); the inverse of the cumulative distribution is taken here.
    """
    if temperature == 0:
        return int(logits.argmax())
    ordered, order = torch.sort(logits.double(), descending=True, stable=True)
    total = torch.softmax(ordered / temperature, dim=0).cumsum(0)
    kept = int((total < top_p).sum()) + 1 if top_p < 1 else len(total)
    kept = min(kept, int(torch.isfinite(ordered).sum()))
    index = int(torch.searchsorted(total[:kept], chance * float(total[kept - 1]), right=True))
    return int(order[min(index, kept - 1)])
