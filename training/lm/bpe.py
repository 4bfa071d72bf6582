"""A small byte-pair vocabulary, learnt from our own text, in the file formats of GLM-4's text tokenizer."""

import base64
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
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


def _pieces(text: str, alone: str) -> Iterator[str]:
    """The split pattern's pieces, cut again around each character of `alone`."""
    for piece in regex.findall(SPLIT_PATTERN, text):
        yield from (part for part in regex.split(f"([{alone}])", piece) if part) if alone else (piece,)


class _Pairs:
    """How often each pair of tokens stands side by side, and in which words; kept up to date as words are merged."""

    def __init__(self, words: dict[tuple[bytes, ...], int]) -> None:
        self._words = list(words)
        self._counts = list(words.values())
        self.found: Counter[tuple[bytes, bytes]] = Counter()
        self._where: dict[tuple[bytes, bytes], set[int]] = defaultdict(set)
        for i in range(len(self._words)):
            self._count(i, 1)

    def _count(self, i: int, sign: int) -> None:
        for pair in pairwise(self._words[i]):
            self.found[pair] += sign * self._counts[i]
            self._where[pair].add(i)

    def merge(self, pair: tuple[bytes, bytes]) -> None:
        for i in self._where.pop(pair):
            self._count(i, -1)
            self._words[i] = _merge(self._words[i], pair)
            self._count(i, 1)
        del self.found[pair]


def train_ranks(texts: Iterable[str], size: int, alone: str = "") -> dict[bytes, int]:
    """Ranks of the 256 bytes and of the merges of the most frequent pairs, up to `size` tokens.

    Byte-pair encoding (arXiv:1508.07909) within the pieces of GLM-4's split pattern; of pairs that are equally
    frequent the greater is merged, so that the same texts give the same ranks. Characters of `alone` become part of no
    longer token: Chinese digits, which a run of text does not set apart by spaces.
    """
    counts = Counter(piece for text in texts for piece in _pieces(text, alone))
    pairs = _Pairs({tuple(bytes([byte]) for byte in piece.encode()): count for piece, count in counts.items()})
    ranks = {bytes([byte]): byte for byte in range(256)}
    while len(ranks) < size and pairs.found:
        best = max(pairs.found, key=lambda pair: (pairs.found[pair], pair))
        if pairs.found[best] <= 0:
            break
        ranks.setdefault(best[0] + best[1], len(ranks))
        pairs.merge(best)
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
