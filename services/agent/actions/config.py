"""A persona's actions as they stand in its YAML file, checked when the persona is loaded or stored."""

import os
import re
from collections.abc import Iterable
from enum import Enum
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    TypeAdapter,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from services.agent.actions.matcher import PatternError, Wanted, compile_pattern, words
from services.agent.legs.sip_parties import NUMBER, SIP_URI

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.1
_OURS = ("content-length", "content-type", "host", "idempotency-key", "transfer-encoding")
_URL = TypeAdapter(HttpUrl)

Phrase = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(max_length=500)]


class ActionKind(Enum):
    """What an action does; the values are those of the YAML file."""

    TRANSFER = "transfer"
    HANG_UP = "hang_up"
    SEND_DTMF = "send_dtmf"
    WEBHOOK = "webhook"


class When(Enum):
    """When an action that the bot's text triggers is carried out."""

    NOW = "now"  # once the answer is being heard
    HEARD = "heard"  # after all of the answer has been


class _Action(BaseModel):
    """What all actions share: what triggers them, when they act, what is said when they fail."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="how events and logs call it")
    phrases: tuple[Phrase, ...] = Field((), max_length=50, description="any of them in a sentence of the bot")
    pattern: str = Field("", max_length=200, description="RE2 expression for a whole sentence of the bot")
    keys: str = Field("", pattern=r"^([0-9*#]{1,16}|[0-9*]{0,15}\.\.\.#)?$", description="keys that the caller presses")
    when: When = Field(When.HEARD, description="now or heard; keys always act at once")
    failure: Text = Field("", description="said when it fails; empty: the call goes on without a word")

    @field_validator("phrases")
    @classmethod
    def _have_words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for phrase in value:
            if not words(phrase):
                raise ValueError(f"{phrase!r} has no word in it")
        return value

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            compile_pattern(value)
        except PatternError as error:
            raise ValueError(f"is not an expression that RE2 takes: {error}") from error
        return value

    @model_validator(mode="after")
    def _has_a_trigger(self) -> "_Action":
        if not (self.phrases or self.pattern or self.keys):
            raise ValueError("needs phrases, a pattern or keys that trigger it")
        return self

    @property
    def wanted(self) -> Wanted:
        """What to look for in the bot's text."""
        return Wanted(self.phrases, self.pattern)


class Address(str):
    """A target with its `${NAME}` filled in.

    Attributes:
        written: as it stands in the file: each agent fills in its own environment.
    """

    __slots__ = ("written",)
    written: str

    @classmethod
    def of(cls, target: str, written: str) -> "Address":
        """With what was written."""
        address = cls(target)
        address.written = written
        return address


class Transfer(_Action):
    """Transfers the call blindly (RFC 3515)."""

    kind: Literal["transfer"]
    target: str = Field(description="SIP URI or number; `${NAME}` is read from the environment; empty: to nobody")
    failure: Text = "Nobody is available right now."

    @field_validator("target")
    @classmethod
    def _is_address(cls, value: str) -> str:
        variable = _VARIABLE.fullmatch(value)
        target = (os.environ.get(variable[1], "") if variable else value).strip()
        if target and not (SIP_URI.fullmatch(target) or NUMBER.fullmatch(target)):
            raise ValueError(f"must be a SIP URI (sip:desk@example.com) or a number (+4930123), not {target!r}")
        return Address.of(target, value)

    @field_serializer("target")
    def _as_written(self, value: str) -> str:
        return value.written if isinstance(value, Address) else value


class HangUp(_Action):
    """Ends the call."""

    kind: Literal["hang_up"]


class SendDtmf(_Action):
    """Sends keys to the far end (RFC 4733)."""

    kind: Literal["send_dtmf"]
    digits: str = Field(pattern=r"^[0-9*#A-D]{1,32}$")


class Webhook(_Action):
    """Tells an HTTP server, which may answer with a text to say."""

    kind: Literal["webhook"]
    url: str = Field(max_length=2000)
    method: Literal["POST", "PUT", "GET"] = "POST"
    headers: dict[str, str] = Field({}, description="`${NAME}` in a value is read from the environment at each request")
    timeout_s: float = Field(5.0, ge=0.1, le=30.0, description="for a request, from connecting to the reply's end")
    retries: int = Field(0, ge=0, le=5, description="after no reply, 429 or 5xx")
    when: When = When.NOW

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        try:
            url = _URL.validate_python(value)
        except ValidationError as error:
            raise ValueError(f"must be an http:// or https:// URL: {error.errors()[0]['msg']}") from error
        if url.username or url.password:
            raise ValueError("must hold no user or password: put an Authorization header with ${NAME} under headers")
        return value

    @field_validator("headers")
    @classmethod
    def _can_be_sent(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _OURS:
                raise ValueError(f"{name!r} cannot be set; any header name but {', '.join(_OURS)} is allowed")
            for variable in _VARIABLE.findall(text):
                if variable not in os.environ:
                    raise ValueError(f"{name}: the environment variable {variable} is not set")
            if not with_secrets(text).isprintable():
                raise ValueError(f"{name}: must be one line of printable text")
        return value


Action = Annotated[Transfer | HangUp | SendDtmf | Webhook, Field(discriminator="kind")]


def with_secrets(text: str) -> str:
    """A header's value with its `${NAME}` filled in from the environment."""
    return _VARIABLE.sub(lambda variable: os.environ.get(variable[1], ""), text)


def checked_together(actions: Iterable[_Action]) -> None:
    """What no action can see alone.

    Raises:
        ValueError: a name or a sequence of keys stands at two actions.
    """
    names: set[str] = set()
    keys: dict[str, str] = {}
    for action in actions:
        if action.name in names:
            raise ValueError(f"two actions are named {action.name!r}")
        names.add(action.name)
        if action.keys in keys:
            raise ValueError(f"{action.name!r} and {keys[action.keys]!r} have the same keys {action.keys!r}")
        if action.keys:
            keys[action.keys] = action.name
