"""A small byte-pair vocabulary, learnt from our own text, in the file formats of GLM-4's text tokenizer."""

import base64
import json
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import regex  # type: ignore[import-untyped]

from services.lm.prompt import SPLIT_PATTERN

SPECIAL_TOKENS = (
    "<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>",
    "<|observation|>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>",
    "<|begin_of_audio|>", "<|end_of_audio|>",
)  # fmt: skip


def _merge(word: tuple[bytes, ...], pair: tuple[bytes, bytes]) -> tuple[bytes, ...]:
    out: list[bytes] = []
    i = 0
    while i < len(word):
        if word[i : i + 2] == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


def train_ranks(texts: Iterable[str], size: int) -> dict[bytes, int]:
    """Ranks of the 256 bytes and of the merges of the most frequent pairs, up to `size` tokens.

    Byte-pair encoding (arXiv:1508.07909) within the pieces of GLM-4's split pattern; ties go to the smaller pair, so
    the same texts give the same ranks.
    """
    counts = Counter(piece for text in texts for piece in regex.findall(SPLIT_PATTERN, text))
    words = {tuple(bytes([byte]) for byte in piece.encode()): count for piece, count in counts.items()}
    ranks = {bytes([byte]): byte for byte in range(256)}
    while len(ranks) < size:
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        ranks.setdefault(best[0] + best[1], len(ranks))
        merged: dict[tuple[bytes, ...], int] = {}
        for word, count in words.items():
            new = _merge(word, best)
            merged[new] = merged.get(new, 0) + count
        words = merged
    return ranks


def write_tokenizer(folder: Path, ranks: dict[bytes, int], codes: int) -> int:
    """Writes tokenizer.model and tokenizer_config.json; special tokens follow the ranks, speech tokens those.

    Returns the number of ids in use.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{base64.b64encode(token).decode()} {rank}" for token, rank in ranks.items()]
    (folder / "tokenizer.model").write_text("\n".join(lines) + "\n")
    added = [*SPECIAL_TOKENS, *(f"<|audio_{code}|>" for code in range(codes))]
    config = {
        "added_tokens_decoder": {
            str(len(ranks) + i): {"content": token, "special": i < len(SPECIAL_TOKENS)} for i, token in enumerate(added)
        },
        "additional_special_tokens": list(SPECIAL_TOKENS),
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "ChatGLM4Tokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
    return len(ranks) + len(added)
