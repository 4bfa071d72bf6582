"""What is planned for: how people talk, how many of them there are, and on which machines. Read from YAML."""

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from loadtest.sim.report import told

Seconds = Annotated[float, Field(gt=0, le=3600)]
Stage = Literal["agent", "tokenizer", "lm", "decoder"]
STAGES: tuple[Stage, ...] = ("agent", "tokenizer", "lm", "decoder")


class ProfileError(Exception):
    """The profile cannot be used; the message names what is wrong and what is allowed."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Machine(_Part):
    """One kind of machine; the planner says how many of it.

    Attributes:
        cores: that the processes on it share; for stages that compute on the CPU.
        gpus: instead: devices that the models on it share.
        runs: stages.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    cores: int | None = Field(None, ge=1, le=512)
    gpus: int | None = Field(None, ge=1, le=64)
    runs: list[Stage] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.cores is None) == (self.gpus is None):
            raise ValueError("give cores or gpus, one of them")
        if self.gpus is not None and "agent" in self.runs:
            raise ValueError("the agent computes on cores, not on gpus")
        return self

    @property
    def processors(self) -> int:
        """Cores or GPUs."""
        return self.cores or self.gpus or 1


class Spread(_Part):
    """A length that varies: log-normal.

    Attributes:
        median_s: half are longer.
        sigma: of the logarithm; 0: all alike, 0.5: one in six is over 1.6 times the median.
    """

    median_s: Seconds
    sigma: float = Field(0.0, ge=0, le=2)


class Talk(_Part):
    """How people talk.

    Attributes:
        question: length of what a caller says in a turn; `measured`: the report's own questions and answers.
        answer: length of what the bot says; with `measured` questions it is the report's.
        complete: share of questions whose end the end-of-turn model sees at once.
        pause_s: least and most silence between the bot's last word and the caller's next.
        turns: questions in a call.
        gap_s: between two calls of one caller, with `calls_at_once`.
    """

    question: Spread | Literal["measured"] = "measured"
    answer: Spread | None = None
    complete: float = Field(0.9, ge=0, le=1)
    pause_s: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0, le=600)]] = (0.5, 2.0)
    turns: int = Field(4, ge=1, le=200)
    gap_s: float = Field(1.0, ge=0, le=600)

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.pause_s[0] > self.pause_s[1]:
            raise ValueError("pause_s: the least comes first")
        if (self.question == "measured") != (self.answer is None):
            raise ValueError("answer is given together with a question's length, and left out with measured questions")
        return self


class Load(_Part):
    """How many callers; one of the two.

    Attributes:
        calls_at_once: so many, always: whoever ends is followed by another.
        arrivals_per_hour: calls come by chance (Poisson); `blocked` is the share that may meet a full system.
    """

    calls_at_once: int | None = Field(None, ge=1, le=10_000)
    arrivals_per_hour: float | None = Field(None, gt=0, le=1_000_000)
    blocked: float = Field(0.01, gt=0, lt=1)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.calls_at_once is None) == (self.arrivals_per_hour is None):
            raise ValueError("give calls_at_once or arrivals_per_hour, one of them")
        return self


class Target(_Part):
    """What is promised: so many percent of answers begin within so many seconds after the caller's last sound."""

    first_audio_s: Seconds = 1.0
    percentile: float = Field(95, ge=50, lt=100)


class Profile(_Part):
    """All of it.

    Attributes:
        leg: kind of call, whose costs the report must hold.
        callers_here: the callers' own processes run on the agents' machines too, as in a load test on one machine.
    """

    machines: list[Machine] = Field(min_length=1)
    talk: Talk = Talk()
    load: Load
    target: Target = Target()
    leg: Literal["sip", "webrtc"] = "sip"
    callers_here: bool = False

    @model_validator(mode="after")
    def _all_stages(self) -> Self:
        run = [stage for machine in self.machines for stage in machine.runs]
        for stage in STAGES:
            if run.count(stage) != 1:
                raise ValueError(f"{stage} runs on {run.count(stage)} of the machines; each stage runs on one kind")
        if len({machine.name for machine in self.machines}) != len(self.machines):
            raise ValueError("machines: each has a name of its own")
        return self


def load(path: Path) -> Profile:
    """Reads a profile.

    Raises:
        ProfileError: it cannot be read, or a value is wrong.
    """
    try:
        return Profile.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise ProfileError(f"{path} cannot be read as YAML: {error}") from error
    except ValidationError as error:
        raise ProfileError(f"{path}: {told(error)}") from error
