"""Wide English text for the tokenizer: it must hear words that the domain does not have.

Sentences come from Python's own documentation (topics and docstrings of the standard library), single words from those
sentences and from hibari's pronunciation lexicon; everyday sentences from a small grammar.
"""

import ast
import functools
import gzip
import json
import re
import sysconfig
from pathlib import Path
from random import Random

from training.grammar import expand

_ASKING = {"what", "when", "where", "who", "how", "is", "are", "can", "could", "do", "will", "why", "which"}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_EVERYDAY = [
    "[my|her|his|our|your] "
    "[brother|sister|mother|father|friend|neighbour|teacher|doctor|boss|uncle|cousin|daughter|son] "
    "[wants to|needs to|would like to|has to|is going to|forgot to|tried to] "
    "[buy a new car|visit the museum|learn how to swim|paint the kitchen|fix the broken window|go home early|"
    "read that book again|call the police|sell the old house|take a short walk|write a long letter|wash the dishes|"
    "plant some trees|feed the cat|drink a cup of coffee|watch the football game|move to another city] "
    "[today|tomorrow|this evening|next week|in the summer|before lunch|after work|on the weekend|very soon|again]",
    "[the|a|that|this] [little|old|young|green|happy|tired|noisy|heavy|strange|quiet|yellow|broken] "
    "[dog|horse|bird|boat|train|garden|bridge|machine|telephone|computer|flower|mountain|river|village|child|ghost] "
    "[was|is|looked|seemed|became] [very|quite|almost|hardly|rather|not] "
    "[beautiful|dangerous|expensive|cheap|famous|useful|empty|full|warm|cold|different|ready|lost|asleep|angry]",
    "[why|how|when|where] [did|do|would|could|should|can] [you|we|they|the children|those people|the others] "
    "[find|lose|bring|carry|borrow|throw|push|build|measure|change|choose|finish|remember] "
    "[the key|the money|the picture|their shoes|a good answer|the right way|the blue box|my umbrella|the heavy bag|"
    "so many things|the next page|a better place]",
    "[there are|we saw|i counted|she bought|they ordered|he lost] "
    "[eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|"
    "seventy|eighty|ninety|a hundred|a thousand|a million] "
    "[apples|chairs|letters|dollars|minutes|pages|birds|bottles|steps|miles|people|boxes|questions|eggs]",
    "[thank you|please|sorry|excuse me|well|actually|maybe|of course|no problem|all right|good evening] "
    "[sir|madam|everybody|my friend|but i cannot hear you|i will be there in a minute|that is not what i said|"
    "the number you have dialled is wrong|please leave a message after the tone|your call is important to us|"
    "press one for yes|press two for no|please wait|an operator will answer shortly|enter your password now|"
    "the person is on the phone|nobody is available to take your call|you have three new messages]",
]


def _docstrings(limit: int) -> str:
    texts = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:limit]:
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
        texts += [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented)]
    return "\n".join(texts)


@functools.cache
def sentences() -> tuple[str, ...]:
    from pydoc_data.topics import topics

    text = re.sub(r"\s+", " ", "\n".join(topics.values()) + _docstrings(400))
    found = {match[0] for match in re.finditer(r"[A-Z][a-z ,']{20,90}[.?]", text)}
    return tuple(sorted(found))


@functools.cache
def _running_words() -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z]{2,10}", " ".join(sentences()).lower()))


@functools.cache
def _lexicon() -> tuple[str, ...]:
    import hibari

    path = Path(hibari.__file__).parent / "assets" / "lexicon_us_gold.json.gz"
    words = json.loads(gzip.decompress(path.read_bytes()))
    return tuple(sorted(word for word in words if re.fullmatch(r"[a-z]{3,9}", word)))


def scrambled(rng: Random, words: tuple[str, ...]) -> str:
    """Words without grammar: nothing but the sound tells them."""
    return " ".join(rng.choice(words) for _ in range(rng.randrange(2, 8)))


def wide_text(rng: Random) -> str:
    """One utterance of general English."""
    kind = rng.random()
    if kind < 0.40:
        return rng.choice(sentences())
    if kind < 0.70:
        return expand(rng.choice(_EVERYDAY), rng)
    if kind < 0.90:
        return scrambled(rng, _running_words())
    return scrambled(rng, _lexicon())


def written(text: str, question: bool | None = None, rng: Random | None = None) -> str:
    """Spelling for a synthesiser: a capital, an end mark, now and then commas between digits (prosody follows)."""
    words = text.split()
    if rng is not None and rng.random() < 0.3:
        words = [
            word + ("," if word in DIGITS and i + 1 < len(words) and rng.random() < 0.6 else "")
            for i, word in enumerate(words)
        ]
    text = " ".join(words)
    if text[-1:] not in ".?!":
        opener = words[0].lower().rstrip(",") if words else ""
        asks = opener in _ASKING
        text += "?" if (asks if question is None else question) else "."
    return text[:1].upper() + text[1:]
