"""Whole utterances to tokens, many at once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from services.tokenizer.weights import Checkpoint


@torch.inference_mode()
def tokenise(checkpoint: Checkpoint, clips: Sequence[Tensor], batch: int = 16) -> list[list[int]]:
    """Tokens of each clip; a clip longer than a piece (30 s) is cut into pieces, tokenised and joined.

    Every clip gives what it gives alone. Clips of similar length next to each other waste least on padding.

    Args:
        checkpoint: the tokenizer.
        clips: samples in [-1, 1] at the checkpoint's rate, each (samples,); an empty clip has no tokens.
        batch: pieces encoded together.
    """
    pieces = [
        (index, piece)
        for index, clip in enumerate(clips)
        for piece in torch.split(clip.to(checkpoint.log_mel.window.device), checkpoint.piece_samples)
        if piece.shape[0]
    ]
    tokens: list[list[int]] = [[] for _ in clips]
    for start in range(0, len(pieces), batch):
        part = pieces[start : start + batch]
        features, lengths = checkpoint.log_mel([piece for _, piece in part], checkpoint.token_samples)
        ids, counts = checkpoint.encoder(features, lengths)
        for (index, _), row, count in zip(part, ids.tolist(), counts.tolist(), strict=True):
            tokens[index].extend(row[:count])
    return tokens
