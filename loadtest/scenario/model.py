"""What a load test does: who calls when, how they talk, what breaks, what must hold. Read from YAML."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, model_validator

from loadtest.sim.profile import Spread

Seconds = Annotated[float, Field(ge=0, le=3600)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, le=60_000)]
Leg = Literal["sip", "webrtc"]
Service = Literal["tokenizer", "lm", "decoder"]
Length = Seconds | tuple[Seconds, Seconds] | Spread
KEYS = "0123456789*#ABCD"


class ScenarioError(Exception):
    """The scenario cannot be used; the message names the file, the key, what is wrong and what is allowed."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Constant(_Part):
    """Calls at equal distances."""

    kind: Literal["constant"]
    per_minute: Annotated[float, Field(gt=0, le=60_000)]
    for_s: Annotated[float, Field(gt=0, le=86_400)]


class Poisson(_Part):
    """Calls by chance, each independent of all others."""

    kind: Literal["poisson"]
    per_minute: Annotated[float, Field(gt=0, le=60_000)]
    for_s: Annotated[float, Field(gt=0, le=86_400)]


class Ramp(_Part):
    """Calls by chance, at a rate that goes in a straight line from the first value to the second."""

    kind: Literal["ramp"]
    per_minute: tuple[Rate, Rate]
    for_s: Annotated[float, Field(gt=0, le=86_400)]

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not any(self.per_minute):
            raise ValueError("per_minute: one of both rates is above 0")
        return self


class Burst(_Part):
    """So many calls in the same moment, again and again."""

    kind: Literal["burst"]
    calls: Annotated[int, Field(ge=1, le=10_000)]
    every_s: Annotated[float, Field(gt=0, le=86_400)]
    for_s: Annotated[float, Field(gt=0, le=86_400)]


class AtOnce(_Part):
    """So many callers, each of whom calls again when a call has ended.

    Attributes:
        spread_s: over which they begin.
        gap_s: from the end of a call to its caller's next.
    """

    kind: Literal["at_once"]
    calls: Annotated[int, Field(ge=1, le=10_000)]
    for_s: Annotated[float, Field(gt=0, le=86_400)]
    spread_s: Seconds = 5.0
    gap_s: Length = (0.5, 1.5)


Phase = Annotated[Constant | Poisson | Ramp | Burst | AtOnce, Field(discriminator="kind")]


class BargeIn(_Part):
    """Callers who interrupt.

    Attributes:
        share: of answers that are interrupted by the next question.
        after_s: from the answer's first sound to the caller's.
    """

    share: Share = 0.0
    after_s: Length = (0.5, 2.5)


class Hold(_Part):
    """Callers who put the bot on hold before a question; over WebRTC they mute themselves.

    Attributes:
        share: of questions that this comes before.
        seconds: for so long.
    """

    share: Share = 0.0
    seconds: Length = (2.0, 6.0)


class Keys(_Part):
    """Callers who press keys before a question (RFC 4733); SIP only.

    Attributes:
        share: of questions that this comes before.
        digits: that are pressed.
    """

    share: Share = 0.0
    digits: Annotated[str, Field(min_length=1, max_length=32, pattern=rf"^[{KEYS}]+$")] = "1"


class HangUp(_Part):
    """How calls end. Whoever does nothing of this asks all questions and then hangs up.

    Attributes:
        at_random: share of calls that end at a random moment, whatever goes on then.
        within_s: of the call's beginning; a call that still rings is cancelled.
        vanish: share of those that do so without a goodbye: the network is gone, the battery empty.
        goodbye: share of the other calls that end with a question marked `ends`, after which the bot hangs up.
    """

    at_random: Share = 0.0
    within_s: Annotated[float, Field(gt=0, le=3600)] = 20.0
    vanish: Share = 0.0
    goodbye: Share = 0.0


class Talk(_Part):
    """How callers talk.

    Attributes:
        questions: directory of recordings (WAV), as seen from the scenario's file; questions.yaml in it says what
            each means.
        turns: questions in a call: a number, or least and most.
        pause_s: from the bot's last sound to the caller's first.
        quiet_s: of silence after which the caller takes an answer for ended; part of `pause_s`.
        greeting_s: for which the caller waits for a greeting, once answered.
        patience_s: for which the caller waits for an answer, and for the call to be answered.
    """

    questions: Path = Path("../samples")
    turns: Annotated[int, Field(ge=0, le=200)] | tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(le=200)]] = 4
    pause_s: Length = (1.0, 3.0)
    quiet_s: Annotated[float, Field(ge=0.2, le=30)] = 1.2
    greeting_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    patience_s: Annotated[float, Field(gt=0, le=600)] = 20.0
    barge_in: BargeIn = BargeIn()
    hold: Hold = Hold()
    keys: Keys = Keys()
    hang_up: HangUp = HangUp()

    @field_serializer("questions", when_used="json")
    def _name_of_questions(self, questions: Path) -> str:
        """A report is for others, to whom it is nothing where the directory lies here."""
        return questions.name


class Persona(_Part):
    """Whom callers want.

    Attributes:
        name: a persona's; WebRTC calls ask for it. Empty: the default one.
        number: that SIP calls dial; empty: `anyone`.
        weight: how often, against the others.
    """

    name: Annotated[str, Field(max_length=64)] = ""
    number: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9+*#._-]*$")] = ""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0


class _Fault(_Part):
    """When: once at `at_s`, or again and again at `every_s`, seconds from the beginning of the run."""

    at_s: Annotated[float, Field(ge=0, le=86_400)] | None = None
    every_s: Annotated[float, Field(gt=0, le=86_400)] | None = None

    @model_validator(mode="after")
    def _once_or_again(self) -> Self:
        if (self.at_s is None) == (self.every_s is None):
            raise ValueError("give at_s or every_s, one of them")
        return self


class Kill(_Fault):
    """A replica of a model service is killed (SIGKILL) and started again; with a system that the run started."""

    kind: Literal["kill"]
    service: Service
    back_after_s: Seconds = 3.0


class Drop(_Fault):
    """RTP packets are lost by chance for a while.

    Attributes:
        share: of packets.
        to: who does not get them.
    """

    kind: Literal["drop"]
    share: Annotated[float, Field(gt=0, le=1)]
    to: Literal["caller", "bot", "both"] = "both"
    for_s: Annotated[float, Field(gt=0, le=86_400)]


class Command(_Fault):
    """A program is run, such as kubectl; its status is reported.

    Attributes:
        run: program and arguments.
        undo: likewise, after `for_s`.
    """

    kind: Literal["command"]
    run: Annotated[list[str], Field(min_length=1)]
    undo: list[str] | None = None
    for_s: Seconds = 0.0


Fault = Annotated[Kill | Drop | Command, Field(discriminator="kind")]


class Targets(_Part):
    """What must hold; what is not given is not checked. Shares are of those that were measured.

    Attributes:
        first_audio_p50_s, first_audio_p95_s: from the caller's last sound to the answer's first.
        setup_p95_s: from the call to its being answered.
        stops_p95_s: from the first sound of a caller who barges in to the bot's last.
        gaps_per_minute: in what the bot says, at most.
        clicks_per_minute: likewise.
        correct: share of judged answers, at least.
        failed: share of calls that failed for the system's reasons, at most.
        refused: share of calls, at most.
        unanswered: share of questions, at most.
    """

    first_audio_p50_s: Annotated[float, Field(gt=0, le=600)] | None = None
    first_audio_p95_s: Annotated[float, Field(gt=0, le=600)] | None = None
    setup_p95_s: Annotated[float, Field(gt=0, le=600)] | None = None
    stops_p95_s: Annotated[float, Field(gt=0, le=600)] | None = None
    gaps_per_minute: Annotated[float, Field(ge=0, le=6000)] | None = None
    clicks_per_minute: Annotated[float, Field(ge=0, le=6000)] | None = None
    correct: Share | None = None
    failed: Share | None = None
    refused: Share | None = None
    unanswered: Share | None = None


class System(_Part):
    """The system that `--start` starts; it plays no part where one runs already.

    Attributes:
        capacity: calls at once.
        replicas: of the model services.
    """

    capacity: Annotated[int, Field(ge=1, le=1000)] = 32
    replicas: dict[Service, Annotated[int, Field(ge=1, le=8)]] = Field(default_factory=dict)


class Scenario(_Part):
    """All of it.

    Attributes:
        name: of the report.
        phases: one after another.
        calls: after so many have begun, no other does.
        legs: weights.
        personas: whom callers want; by default the default one.
        judged: answers that are judged by what was heard, at most; drawn by chance where there are more.
    """

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9-]*$")]
    description: str = ""
    phases: Annotated[list[Phase], Field(min_length=1)]
    calls: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    legs: dict[Leg, Annotated[float, Field(ge=0, le=1000)]] = {"sip": 1.0}
    personas: Annotated[list[Persona], Field(min_length=1)] = [Persona()]
    talk: Talk = Talk()
    faults: list[Fault] = Field(default_factory=list)
    targets: Targets = Targets()
    judged: Annotated[int, Field(ge=0, le=100_000)] = 200
    system: System = System()

    @model_validator(mode="after")
    def _somebody_calls(self) -> Self:
        if not sum(self.legs.values()):
            raise ValueError("legs: one weight is above 0")
        killed = {fault.service for fault in self.faults if isinstance(fault, Kill)}
        if alone := sorted(service for service in killed if self.system.replicas.get(service, 1) < 2):
            raise ValueError(
                f"faults: {', '.join(alone)} is killed; set system.replicas to 2 or more of it, so that calls go on"
            )
        return self

    @property
    def seconds(self) -> float:
        """Of all phases."""
        return sum(phase.for_s for phase in self.phases)


def load(path: Path) -> Scenario:
    """Reads a scenario; its directory of questions is then as seen from here.

    Raises:
        ScenarioError: it cannot be read, or a value is wrong.
    """
    try:
        scenario = Scenario.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ScenarioError(f"{path} cannot be read as YAML: {error}") from error
    except ValidationError as error:
        raise ScenarioError(f"{path}: {_told(error)}") from error
    talk = scenario.talk.model_copy(update={"questions": (path.parent / scenario.talk.questions).resolve()})
    return scenario.model_copy(update={"talk": talk})


def _told(error: ValidationError) -> str:
    """What is wrong and where, without the names of alternatives that are no keys."""
    found: dict[str, list[str]] = {}
    for item in error.errors():
        place = ".".join(str(part) for part in item["loc"] if not _is_alternative(part))
        found.setdefault(place or "the whole", []).append(item["msg"].removeprefix("Value error, "))
    return "; ".join(f"{place}: {', or: '.join(dict.fromkeys(said))}" for place, said in found.items())


_ALTERNATIVES = {"constant", "poisson", "ramp", "burst", "at_once", "kill", "drop", "command"}


def _is_alternative(part: object) -> bool:
    return isinstance(part, str) and (
        part in _ALTERNATIVES
        or "constrained" in part
        or part in ("Spread", "float", "int")
        or part.startswith("tuple[")
    )


def schema() -> dict[str, Any]:
    """JSON schema of a scenario (draft 2020-12), for editors."""
    return Scenario.model_json_schema()


def schema_text() -> str:
    """The same, written."""
    return json.dumps(schema(), indent=1) + "\n"
