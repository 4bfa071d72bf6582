"""The two languages of the small models, told apart by their writing."""

import re
from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

_HAN = re.compile(r"[\u4e00-\u9fff]")


def language_of(text: str) -> Language:
    """Mandarin when there is a Chinese character in it: callers mix English words into Mandarin, not the reverse."""
    return "zh" if _HAN.search(text) else "en"
