"""Personas: who answers, in what voice, and with which facts. YAML files, one persona each."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from services.agent.actions.config import Action, checked_together
from services.agent.disclosure import DisclosurePolicy
from services.agent.recording.policy import RecordingPolicy
from services.agent.supervision.policy import SupervisionPolicy

# The model was trained with exactly this in front of every persona, and breaks without it.
INTERLEAVING_SENTENCE = (
    "User will provide you with a speech instruction. Do it step by step. First, think about the instruction and "
    "respond in a interleaved manner, with 13 text token followed by 26 audio tokens. "
)


_INTERLEAVING = "13 text token followed by 26 audio tokens"  # what no prompt holds by chance

Style = Literal["normal", "slow", "fast", "happy", "sad", "calm"]
# The ways of speaking that callers may ask for too (training/domain/manners.py), as the prompt says them.
_STYLES = {
    "en": {
        "slow": "Speak slowly.",
        "fast": "Speak quickly.",
        "happy": "Speak happily.",
        "sad": "Speak sadly.",
        "calm": "Speak calmly.",
    },
    "zh": {
        "slow": "请说慢一点。",
        "fast": "请说快一点。",
        "happy": "请用开心的语气说话。",
        "sad": "请用悲伤的语气说话。",
        "calm": "请用平静的语气说话。",
    },
}
MAX_PROMPT = 16_000  # characters
MAX_NUMBERS = 1000

_Number = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=128)]
_Spoken = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)]


class PersonaError(Exception):
    """A persona cannot be used; the message names the file and what is wrong with it."""


class SilencePolicy(BaseModel):
    """What is done about a caller who says nothing. Seconds are of silence while nobody speaks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    after_s: float = Field(10.0, ge=2.0, le=600.0, description="silence before each prompt, the goodbye included")
    say: _Spoken = Field("Are you still there?", min_length=1)
    times: int = Field(2, ge=0, le=10, description="prompts before the goodbye")
    goodbye: _Spoken = Field("I cannot hear you. Goodbye.", description="said before hanging up; may be empty")


class ResumePolicy(BaseModel):
    """What happens when a caller comes back to a call that was lost or cut."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    within_s: float = Field(
        60.0, ge=0.0, le=3600.0, description="a phone caller goes on who rings again within this; 0: only pages do"
    )
    say: _Spoken = Field("We were cut off. Let us go on.", description="instead of the greeting; may be empty")


class Persona(BaseModel):
    """One persona's settings. Unknown keys are refused, so that a misspelt one is not silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    prompt: str = Field(min_length=1, max_length=MAX_PROMPT, description="who the bot is and the facts it knows")
    greeting: str = Field("", max_length=1000, description="said when the call is answered; empty for none")
    disclosure: DisclosurePolicy | None = Field(None, description="says first that the voice is synthetic")
    apology: str = Field("I'm sorry, something went wrong. Please say that again.", min_length=1, max_length=500)
    closing: _Spoken = Field(
        "I'm sorry, this line will close in a moment. Please call again.",
        description="said when the agent must stop while the call is live; may be empty",
    )
    language: str = Field("en", pattern=r"^[a-z]{2}(-[A-Z]{2})?$")
    voice: str = Field("", max_length=200, description="a voice of the decoder; empty for the default one")
    style: Style = Field("normal", description="how the bot speaks")
    temperature: float = Field(0.2, ge=0.0, le=2.0, description="0 is greedy")
    top_p: float = Field(0.8, gt=0.0, le=1.0)
    max_new_tokens: int = Field(1000, ge=40, le=8000, description="longest answer, text and speech tokens")
    barge_in: bool | Annotated[int, Field(ge=100, le=5000)] = Field(
        True, description="the caller may interrupt the bot; a number: after so many milliseconds of speech"
    )
    silence: SilencePolicy | None = Field(None, description="prompts and hang-up when the caller says nothing")
    numbers: tuple[_Number, ...] = Field(
        (), max_length=MAX_NUMBERS, description="called numbers or user names that this persona answers"
    )
    actions: tuple[Action, ...] = Field((), max_length=50, description="see docs/actions.md")
    key_pause_s: float = Field(3.0, ge=0.5, le=30.0, description="longest time between two keys of an action")
    recording: RecordingPolicy = RecordingPolicy()
    supervision: SupervisionPolicy = Field(SupervisionPolicy(), description="see docs/supervision.md")
    transcript: bool = Field(True, description="what callers say may be written down, where the agent does so")
    watermark: bool = Field(True, description="an inaudible mark in what it says, see docs/watermark.md")
    resume: ResumePolicy | None = Field(None, description="going on with a call that was cut, see docs/state.md")

    @field_validator("prompt", "greeting", "apology")
    @classmethod
    def _stripped(cls, value: str) -> str:
        return " ".join(value.split())

    @field_validator("prompt")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value:
            raise ValueError("must not be blank")
        if _INTERLEAVING in value.casefold():
            raise ValueError("must not hold the sentence on interleaving: it is put in front of every prompt anyway")
        return value

    @field_validator("numbers")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            twice, _ = Counter(value).most_common(1)[0]
            raise ValueError(f"{twice!r} stands there twice")
        return value

    @field_validator("actions")
    @classmethod
    def _fit_together(cls, value: tuple[Action, ...]) -> tuple[Action, ...]:
        checked_together(value)
        return value

    @property
    def opening(self) -> list[str]:
        """What is said when the call is answered, one after the other."""
        return self._announced(self.greeting)

    @property
    def opening_again(self) -> list[str]:
        """The same for a call that goes on with an earlier one."""
        return self._announced(self.resume.say if self.resume is not None else "")

    def _announced(self, greeting: str) -> list[str]:
        announcement = self.recording.announcement if self.recording.enabled else ""
        return [text for text in (announcement, greeting) if text]

    @property
    def system_prompt(self) -> str:
        """What the model is told."""
        style = _STYLES["zh" if self.language.startswith("zh") else "en"].get(self.style, "")
        return INTERLEAVING_SENTENCE + " ".join(filter(None, (self.prompt, style)))

    @property
    def settings(self) -> dict[str, Any]:
        """What was set, and is not as it would be anyway: in JSON's types, for Redis and for YAML."""
        return self.model_dump(mode="json", exclude_defaults=True)


def problems(error: ValidationError) -> str:
    """All that is wrong with a persona, on one line: `key: what is wrong; ...`."""
    return "; ".join(f"{'.'.join(_key(part) for part in item['loc'])}: {item['msg']}" for item in error.errors())


def _key(part: str | int) -> str:
    """As it stands, unless it would not stay on its line: whoever sends settings chooses their keys."""
    text = str(part)
    return text if text.isprintable() else repr(text)


def load_persona(path: Path) -> Persona:
    """One persona from a YAML file.

    Raises:
        PersonaError: unreadable, not YAML, not a mapping, or a value is missing, unknown or out of range.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PersonaError(f"persona {path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise PersonaError(f"persona {path}: is not YAML: {reason}") from error
    if not isinstance(content, dict):
        raise PersonaError(f"persona {path}: must be a mapping with at least name and prompt")
    try:
        return Persona.model_validate(content)
    except ValidationError as error:
        raise PersonaError(f"persona {path}: {problems(error)}") from error


def load_personas(directory: Path, default: str) -> dict[str, Persona]:
    """All personas of a directory by name.

    Raises:
        PersonaError: no directory, no files, an unusable file, a name or number twice, or no persona named `default`.
    """
    if not directory.is_dir():
        raise PersonaError(f"personas directory {directory} does not exist")
    personas: dict[str, Persona] = {}
    numbers: dict[str, str] = {}
    for path in sorted(directory.glob("*.yaml")):
        persona = load_persona(path)
        if persona.name in personas:
            raise PersonaError(f"persona {path}: the name {persona.name!r} is taken by another file")
        for number in persona.numbers:
            if number in numbers:
                raise PersonaError(f"persona {path}: number {number!r} is answered by {numbers[number]!r} already")
            numbers[number] = persona.name
        personas[persona.name] = persona
    if default not in personas:
        known = ", ".join(personas) or "none"
        raise PersonaError(f"no persona named {default!r} in {directory}; there are: {known}")
    return personas


def persona_for(to: str, personas: Mapping[str, Persona], default: str) -> Persona:
    """The persona that answers a called number or URI: the one that lists it, else the default."""
    user = to.split(":", 1)[-1].split("@", 1)[0]
    for persona in personas.values():
        if to in persona.numbers or user in persona.numbers:
            return persona
    return personas[default]
