"""The GLM-4-Voice prompt: text tokenizer, vocabulary and chat template, all read from the checkpoint's own files.

Serving and the training of small checkpoints use this one module, so that they agree on every id.
"""

import base64
import binascii
import codecs
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiktoken

from services.common.errors import InvalidInputError, WeightsError

# The split pattern of GLM-4's tokenizer: contractions, words, up to three digits, punctuation, white space.
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEFAULT_TEXT_BLOCK = 13
DEFAULT_SPEECH_BLOCK = 26
MAX_TEXT_BYTES = 65536


class TextTokenizer:
    """Byte-pair encoding over a tiktoken rank table; knows nothing of special tokens, so text can never inject one.

    Args:
        ranks: token bytes -> id; every single byte must be among them.
    """

    def __init__(self, ranks: Mapping[bytes, int]) -> None:
        absent = [byte for byte in range(256) if bytes([byte]) not in ranks]
        if absent:
            raise WeightsError(f"tokenizer.model: {len(absent)} of the 256 single bytes have no rank")
        self._bytes = {rank: token for token, rank in ranks.items()}
        if len(self._bytes) != len(ranks):
            raise WeightsError("tokenizer.model: two tokens share a rank")
        self._encoding = tiktoken.Encoding(
            "glm-4-voice", pat_str=SPLIT_PATTERN, mergeable_ranks=dict(ranks), special_tokens={}
        )
        self.ids = tuple(sorted(self._bytes))

    @classmethod
    def load(cls, path: Path) -> "TextTokenizer":
        """Reads a tiktoken rank file: lines of base64 token bytes, a space and the rank.

        Raises:
            WeightsError: the file is missing or not of this form.
        """
        ranks: dict[bytes, int] = {}
        number = 0
        try:
            for line in path.read_bytes().splitlines():
                number += 1
                if line.strip():
                    token, rank = line.split()
                    ranks[base64.b64decode(token, validate=True)] = int(rank)
        except OSError as error:
            raise WeightsError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, binascii.Error) as error:
            raise WeightsError(f"{path}, line {number}: not 'base64 rank'") from error
        return cls(ranks)

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; the names of special tokens in it are spelt out like any other text.

        Raises:
            InvalidInputError: the text is longer than `MAX_TEXT_BYTES`.
        """
        size = len(text.encode("utf-8", "replace"))
        if size > MAX_TEXT_BYTES:
            raise InvalidInputError(f"text of {size} bytes is too long; at most {MAX_TEXT_BYTES} are allowed")
        return self._encoding.encode_ordinary(text)

    def knows(self, token: int) -> bool:
        """Whether an id is text."""
        return token in self._bytes

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of text ids; ids that are not text have none."""
        return b"".join(self._bytes.get(i, b"") for i in ids)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of text ids, with U+FFFD where bytes are not UTF-8."""
        return self.decode_bytes(ids).decode("utf-8", "replace")


class TextStream:
    """Decodes text ids as they come and gives out whole characters only."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, ids: Iterable[int]) -> str:
        """The text that became complete with these ids."""
        return self._decoder.decode(self._tokenizer.decode_bytes(ids))


@dataclass(frozen=True)
class Vocabulary:
    """Which id means what.

    Attributes:
        speech_offset: id of `<|audio_0|>`; speech token i is `speech_offset + i`.
        codebook_size: number of speech tokens.
        size: one more than the highest id with a meaning.
    """

    prefix: tuple[int, ...]
    system: int
    user: int
    assistant: int
    begin_of_audio: int
    end_of_audio: int
    speech_offset: int
    codebook_size: int
    size: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any], text_ids: Sequence[int]) -> "Vocabulary":
        """Reads `added_tokens_decoder` of tokenizer_config.json.

        Raises:
            WeightsError: a token is missing, or speech tokens are not contiguous, or ids collide with text.
        """
        try:
            ids = {str(entry["content"]): int(i) for i, entry in config["added_tokens_decoder"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WeightsError("tokenizer_config.json: added_tokens_decoder must map ids to contents") from error
        needed = {
            "gmask": "[gMASK]", "sop": "<sop>", "system": "<|system|>", "user": "<|user|>",
            "assistant": "<|assistant|>", "begin": "<|begin_of_audio|>", "end": "<|end_of_audio|>",
            "speech": "<|audio_0|>",
        }  # fmt: skip
        absent = [token for token in needed.values() if token not in ids]
        if absent:
            raise WeightsError(f"tokenizer_config.json: no id for {', '.join(absent)}")
        if clash := set(ids.values()) & set(text_ids):
            raise WeightsError(f"tokenizer_config.json: id {min(clash)} is also a text rank of tokenizer.model")
        at = {name: ids[token] for name, token in needed.items()}
        count = 0
        while f"<|audio_{count}|>" in ids:
            if ids[f"<|audio_{count}|>"] != at["speech"] + count:
                raise WeightsError(f"tokenizer_config.json: <|audio_{count}|> breaks the contiguous run of speech ids")
            count += 1
        if (total := sum(name.startswith("<|audio_") for name in ids)) != count:
            raise WeightsError(f"tokenizer_config.json: {total} speech tokens, but <|audio_{count}|> is missing")
        return cls(
            prefix=(at["gmask"], at["sop"]),
            system=at["system"],
            user=at["user"],
            assistant=at["assistant"],
            begin_of_audio=at["begin"],
            end_of_audio=at["end"],
            speech_offset=at["speech"],
            codebook_size=count,
            size=max(max(ids.values()), max(text_ids)) + 1,
        )

    def is_speech(self, token: int) -> bool:
        """Whether an id is a speech token."""
        return self.speech_offset <= token < self.speech_offset + self.codebook_size


class ChatTemplate:
    """Exact ids of each part of a conversation; a conversation is `prefix` and then the parts, concatenated.

    The end token of an answer is `end`: it is `<|user|>`, with which the next user turn opens, so an answer in the
    history is written without it.
    """

    def __init__(
        self,
        text: TextTokenizer,
        vocabulary: Vocabulary,
        text_block: int = DEFAULT_TEXT_BLOCK,
        speech_block: int = DEFAULT_SPEECH_BLOCK,
    ) -> None:
        self.text = text
        self.vocabulary = vocabulary
        self.text_block = text_block
        self.speech_block = speech_block
        self.prefix = vocabulary.prefix
        self.end = vocabulary.user
        self._newline = text.encode("\n")
        self._assistant_head = (vocabulary.assistant, *text.encode("streaming_transcription\n"))

    @classmethod
    def load(cls, directory: Path) -> "ChatTemplate":
        """Reads tokenizer.model, tokenizer_config.json and, for the block sizes, config.json of a checkpoint.

        `text_block` and `speech_block` in config.json are this project's own keys; released checkpoints have none and
        were trained with 13 and 26.

        Raises:
            WeightsError: a file is missing or wrong.
        """
        text = TextTokenizer.load(directory / "tokenizer.model")
        vocabulary = Vocabulary.from_config(read_json(directory / "tokenizer_config.json"), text.ids)
        config = read_json(directory / "config.json")
        blocks = [config.get("text_block", DEFAULT_TEXT_BLOCK), config.get("speech_block", DEFAULT_SPEECH_BLOCK)]
        if not all(isinstance(block, int) and block > 0 for block in blocks):
            raise WeightsError("config.json: text_block and speech_block must be positive whole numbers")
        return cls(text, vocabulary, *blocks)

    def system(self, text: str) -> list[int]:
        """`<|system|>` newline text."""
        return [self.vocabulary.system, *self.text.encode("\n" + text)]

    def user_text(self, text: str) -> list[int]:
        """A whole user turn as text: `<|user|>` newline text."""
        return [self.vocabulary.user, *self.text.encode("\n" + text)]

    def user_speech_head(self) -> list[int]:
        """Opens a user turn of speech: `<|user|>` newline `<|begin_of_audio|>`."""
        return [self.vocabulary.user, *self._newline, self.vocabulary.begin_of_audio]

    def speech(self, codes: Iterable[int]) -> list[int]:
        """Ids of codebook indices.

        Raises:
            InvalidInputError: an index is outside the codebook.
        """
        size, offset = self.vocabulary.codebook_size, self.vocabulary.speech_offset
        codes = list(codes)
        for code in codes:
            if not 0 <= code < size:
                raise InvalidInputError(f"speech token {code} is out of range; allowed are 0 to {size - 1}")
        return [offset + code for code in codes]

    def end_of_speech(self) -> list[int]:
        """Closes a user turn of speech."""
        return [self.vocabulary.end_of_audio]

    def assistant_head(self) -> list[int]:
        """Opens an answer: `<|assistant|>streaming_transcription` newline."""
        return list(self._assistant_head)

    def answer(self, text: str, codes: Iterable[int]) -> list[int]:
        """An answer's ids after the head and without the end token: text and speech interleaved by blocks."""
        return interleave(self.text.encode(text), self.speech(codes), self.text_block, self.speech_block)

    def codes(self, ids: Iterable[int]) -> list[int]:
        """Codebook indices of the speech ids among `ids`."""
        vocabulary = self.vocabulary
        return [i - vocabulary.speech_offset for i in ids if vocabulary.is_speech(i)]

    def speech_is_open(self, ids: Sequence[int]) -> bool:
        """Whether a conversation ends inside a user turn of speech."""
        for token in reversed(ids):
            if not self.vocabulary.is_speech(token):
                return token == self.vocabulary.begin_of_audio
        return False

    def open_answer(self, ids: Sequence[int]) -> list[int] | None:
        """The ids after the head of the answer that a conversation ends in; None when it ends elsewhere."""
        head = self._assistant_head
        start = len(ids)
        while start and (self.vocabulary.is_speech(ids[start - 1]) or self.text.knows(ids[start - 1])):
            start -= 1
        opened = ids[start - 1 :] if start else []
        if tuple(opened[: len(head)]) != head:
            return None
        return list(opened[len(head) :])


def interleave(text: Sequence[int], speech: Sequence[int], text_block: int, speech_block: int) -> list[int]:
    """Blocks of text and speech in turn; when one is used up, the rest of the other follows."""
    ids: list[int] = []
    at_text = at_speech = 0
    while at_text < len(text) or at_speech < len(speech):
        ids += text[at_text : at_text + text_block]
        at_text += text_block
        ids += speech[at_speech : at_speech + speech_block]
        at_speech += speech_block
    return ids


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of the checkpoint.

    Raises:
        WeightsError: the file is missing or holds no JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} must hold a JSON object")
    return value
