"""How much of what was said was read otherwise: by words in English, by characters in Mandarin."""

from collections.abc import Sequence

from training import judge
from training.languages import language_of

_SAME = str.maketrans("0123456789幺兩", "零一二三四五六七八九一两")


def error_rate(refs: Sequence[str], hyps: Sequence[str]) -> float:
    """Edits per reference word (English) or character (Mandarin) over all pairs.

    Raises:
        ValueError: the lists differ in length.
    """
    if len(refs) != len(hyps):
        raise ValueError(f"{len(refs)} references but {len(hyps)} hypotheses")
    edits = length = 0
    for ref, hyp in zip(refs, hyps, strict=True):
        mandarin = language_of(ref) == "zh"
        wanted = _characters(ref) if mandarin else judge.normalise(ref)
        heard = _characters(hyp) if mandarin else judge.normalise(hyp)
        edits += judge.edit_distance(wanted, heard)
        length += len(wanted)
    return edits / max(1, length)


def _characters(text: str) -> list[str]:
    return [character for character in text.translate(_SAME).lower() if character.isalnum()]
