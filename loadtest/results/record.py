"""A run as it is written and read: every call and answer, what the machine did, and what it all comes to."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from loadtest.calls.record import Outcome
from loadtest.scenario.model import Leg, Scenario

VERSION: Literal[1] = 1


class RecordError(Exception):
    """The file holds no run; the message says why."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(_Part):
    """One question; see `loadtest.ear.measure.Answer`.

    Attributes:
        gaps_s: how long each was.
        right: None: not judged.
        heard: what the judge heard.
    """

    question: str
    asked_s: float
    barges_in: bool
    first_audio_s: float | None
    overlapped: bool
    stop_s: float | None
    gaps_s: tuple[float, ...]
    clicks: int
    spoken_s: float
    whole: bool
    right: bool | None = None
    heard: str | None = None

    @property
    def counts(self) -> bool:
        """Its first audio is a figure of the system's."""
        return self.first_audio_s is not None and not self.overlapped


class CallFigures(_Part):
    """One call. Seconds; None: it did not come to that.

    Attributes:
        began_s: of the run.
        talk_s: from the answer to the end.
        first_s, answer_s, bye_s, resent: see `loadtest.calls.line.Signalling`.
        greeting_s: from the answer to the bot's first sound.
        received, lost, jitter_s, most_jitter_s: of RTP at the caller.
        late_p99_s, late_most_s: by how much the caller's own packets were late.
    """

    number: int
    leg: Leg
    persona: str
    began_s: float
    talk_s: float
    outcome: Outcome
    detail: str
    first_s: float | None
    answer_s: float | None
    bye_s: float | None
    resent: int
    greeting_s: float | None
    received: int
    lost: int
    jitter_s: float
    most_jitter_s: float
    held: int
    pressed: int
    late_p99_s: float
    late_most_s: float
    answers: tuple[Answer, ...]


class Point(_Part):
    """What processes used by a time of the run, by stage."""

    at_s: float
    cpu_s: dict[str, float]
    rss_mib: dict[str, float]
    descriptors: dict[str, int]


class Run(_Part):
    """One run.

    Attributes:
        circumstances: where and when, in words.
        live: times and calls at once, at each change.
        faults: times and what was done.
        lag_p99_s: by how much the callers' event loop came too late.
        judged: None: nobody was; else a note on the judge.
    """

    version: Literal[1] = VERSION
    scenario: Scenario
    seed: int
    circumstances: str
    seconds: float
    calls: tuple[CallFigures, ...]
    live: tuple[tuple[float, int], ...]
    faults: tuple[tuple[float, str], ...]
    points: tuple[Point, ...]
    lag_p99_s: float
    judge: str = ""

    @property
    def answers(self) -> list[Answer]:
        """Of all calls."""
        return [answer for call in self.calls for answer in call.answers]


def load(path: Path) -> Run:
    """Reads a run.

    Raises:
        RecordError: it is none, or one of another version.
    """
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(record, dict) or "run" not in record:
        raise RecordError(f"{path} holds no run of a scenario (python -m loadtest run SCENARIO --out NAME)")
    version = record["run"].get("version") if isinstance(record["run"], dict) else None
    if version != VERSION:
        raise RecordError(f"{path} is of version {version}, not {VERSION}: run it again")
    try:
        return Run.model_validate(record["run"])
    except ValidationError as error:
        first = error.errors()[0]
        raise RecordError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def written(run: Run, more: dict[str, Any]) -> str:
    """As JSON, with what else goes into the file."""
    return json.dumps({"run": run.model_dump(mode="json"), **more}, indent=1) + "\n"
