"""Recorded questions: what callers say, in packets, and what an answer to each must contain."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from loadtest.sip.talker import LOUD

NOTES = "questions.yaml"
RATE = 16_000
EDGE = RATE // 50  # a question begins and ends with a packet that has sound in it

Wave = npt.NDArray[np.float32]


class QuestionsError(ValueError):
    """A directory of questions cannot be used; the message says why."""


class Note(BaseModel):
    """What questions.yaml says of a recording.

    Attributes:
        says: the caller's words.
        expects: phrases that a right answer holds, each after normalisation; none: the answer is not judged.
        ends: whoever says this has no next question, and the bot may hang up after its answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    says: str = ""
    expects: tuple[str, ...] = ()
    ends: bool = False


class Question(BaseModel):
    """One recording.

    Attributes:
        name: of its file.
    """

    model_config = ConfigDict(frozen=True)

    name: str = Field(min_length=1)
    path: Path
    says: str = ""
    expects: tuple[str, ...] = ()
    ends: bool = False


@dataclass(frozen=True)
class Spoken:
    """A question's sound, from its first packet with sound to its last.

    Attributes:
        wave: at 16 kHz.
    """

    question: Question
    wave: Wave

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.wave) / RATE


def questions(directory: Path) -> list[Question]:
    """The questions of a directory: its *.wav, with what its questions.yaml says of them.

    Raises:
        QuestionsError: there are none, only such that end a call, or what is said of them cannot be read.
    """
    notes = _notes(directory / NOTES)
    paths = sorted(directory.glob("*.wav"))
    if unknown := sorted(notes.keys() - {path.stem for path in paths}):
        raise QuestionsError(f"{directory / NOTES}: {unknown[0]}: there is no {unknown[0]}.wav beside it")
    found = [Question(name=path.stem, path=path, **notes.get(path.stem, Note()).model_dump()) for path in paths]
    if not any(not question.ends for question in found):
        raise QuestionsError(f"{directory} holds no recorded questions (*.wav)")
    return found


def _notes(path: Path) -> dict[str, Note]:
    if not path.exists():
        return {}
    try:
        return TypeAdapter(dict[str, Note]).validate_python(yaml.safe_load(path.read_text()) or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise QuestionsError(f"{path} cannot be read as YAML: {error}") from error
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise QuestionsError(f"{path}: {said}") from error


def spoken(question: Question) -> Spoken:
    """Reads a recording.

    Raises:
        QuestionsError: it is no sound file, or silent.
    """
    try:
        wave, rate = soundfile.read(question.path, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise QuestionsError(f"{question.path} cannot be read: {error}") from error
    mono = np.asarray(soxr.resample(wave.mean(axis=1), rate, RATE), np.float32)
    packets = len(mono) // EDGE
    level = np.abs(mono[: packets * EDGE]).reshape(packets, EDGE).max(axis=1, initial=0.0)
    loud = np.flatnonzero(level > LOUD / 32768)
    if not len(loud):
        raise QuestionsError(f"{question.path} is silent")
    return Spoken(question, mono[loud[0] * EDGE : (loud[-1] + 1) * EDGE])
