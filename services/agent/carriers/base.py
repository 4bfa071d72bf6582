"""What carriers have in common: a signed webhook asks what to do with a call, and a websocket then carries its media.

Each carrier's own words (header and field names, signature, XML, messages) stand in the module that bears its name.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qsl

from pipecat.serializers.base_serializer import FrameSerializer

Message = Mapping[str, Any]

RATE = 8_000  # hertz: G.711, as the telephone network carries it
MAX_FIELDS = 200


class SignatureError(Exception):
    """A webhook that the carrier did not sign, or not so; the message says what is wrong and gives nothing away.

    Attributes:
        status: 401 when there is no signature, 403 when it is wrong.
    """

    def __init__(self, message: str, status: int = 403) -> None:
        super().__init__(message)
        self.status = status


class ProtocolError(ValueError):
    """Something else than what the carrier documents; the message is static text, without what was received."""


@dataclass(frozen=True)
class Webhook:
    """A carrier's request.

    Attributes:
        url: as the carrier called it, query included.
        headers: names in lower case.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        """A header that must be there.

        Raises:
            SignatureError: it is not.
        """
        value = self.headers.get(name.lower(), "")
        if not value:
            raise SignatureError(f"no {name} header", 401)
        return value

    def fields(self) -> list[tuple[str, str]]:
        """The form's fields in order, empty ones too.

        Raises:
            ProtocolError: it is no form.
        """
        try:
            return parse_qsl(
                self.body.decode("utf-8"), keep_blank_values=True, strict_parsing=True, max_num_fields=MAX_FIELDS
            )
        except ValueError as error:
            raise ProtocolError("the body is no application/x-www-form-urlencoded form") from error

    def field(self, name: str) -> str:
        """A field of the form that must be there.

        Raises:
            ProtocolError: it is not.
        """
        value = dict(self.fields()).get(name, "")
        if not value:
            raise ProtocolError(f"the form has no {name}")
        return value


@dataclass(frozen=True)
class Announced:
    """A call that a carrier asks about. `from_` and `to` are personal data."""

    call_id: str
    from_: str
    to: str


@dataclass(frozen=True)
class Stream:
    """A media stream that has started.

    Attributes:
        encoding: `PCMU` or `PCMA`.
    """

    stream_id: str
    call_id: str
    encoding: str = "PCMU"


class Carrier(Protocol):
    """One carrier, set up with its secret."""

    name: str

    def verify(self, webhook: Webhook, now: float) -> None:
        """Checks the signature; `now` is Unix time.

        Raises:
            SignatureError: missing, wrong, or too old.
            ProtocolError: the body cannot be what was signed.
        """

    def announced(self, webhook: Webhook) -> Announced:
        """The call that a verified webhook is about.

        Raises:
            ProtocolError: a field is missing.
        """

    def connect(self, url: str) -> str:
        """The XML that connects the call to our websocket, both ways, and hangs up when it closes."""

    def busy(self) -> str:
        """The XML that declines the call as busy, unanswered."""

    def started(self, message: Message) -> Stream | None:
        """The stream, if this message starts it; None for a greeting before it.

        Raises:
            ProtocolError: neither, or a format that was not asked for.
        """

    def serializer(self, stream: Stream) -> FrameSerializer:
        """pipecat's serializer for a stream: 8 kHz PCM in the pipeline, no REST calls."""

    def mark(self, stream: Stream, name: str) -> Message:
        """The message that asks to be told when all audio sent so far has been played."""

    def played(self, message: Message) -> str | None:
        """The mark whose turn it is, if this message tells one."""


def matches(expected: str, given: str) -> bool:
    """Compares signatures in constant time."""
    return hmac.compare_digest(expected.encode(), given.encode())


def text(message: Message, *path: str) -> str:
    """A string inside a message.

    Raises:
        ProtocolError: there is none.
    """
    value: object = message
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(value, str) or not value:
        raise ProtocolError(f"a message without {'.'.join(path)}")
    return value


def require_rate(message: Message, *path: str) -> None:
    """The sample rate inside a message must be `RATE`.

    Raises:
        ProtocolError: it is another, or there is none.
    """
    value: object = message
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    if value not in (RATE, str(RATE)):
        raise ProtocolError(f"a stream that is not of {RATE} Hz")
