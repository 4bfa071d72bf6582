"""Plivo audio streams: https://www.plivo.com/docs/voice/audio-streaming/audio-streaming."""

import base64
import hmac
from urllib.parse import parse_qsl, urlsplit, urlunsplit
from xml.sax.saxutils import escape

from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.serializers.plivo import PlivoFrameSerializer

from services.agent.carriers.base import (
    RATE,
    Announced,
    Message,
    ProtocolError,
    SignatureError,
    Stream,
    Webhook,
    matches,
    require_rate,
    text,
)


class Plivo:
    """See `Carrier`.

    Args:
        auth_token: the account's; webhooks are signed with it.
    """

    name = "plivo"

    def __init__(self, auth_token: str) -> None:
        self._auth_token = auth_token

    def verify(self, webhook: Webhook, now: float) -> None:
        """`X-Plivo-Signature-V3` (https://www.plivo.com/docs/voice/concepts/signature-validation)."""
        given = webhook.header("X-Plivo-Signature-V3")
        nonce = webhook.header("X-Plivo-Signature-V3-Nonce")
        expected = signature(self._auth_token, webhook.url, webhook.fields(), nonce)
        # One for each of the account's auth tokens, while one is being replaced.
        if not any(matches(expected, one) for one in given.split(",")):
            raise SignatureError("X-Plivo-Signature-V3 does not match")

    def announced(self, webhook: Webhook) -> Announced:
        """See `Carrier`."""
        return Announced(webhook.field("CallUUID"), webhook.field("From"), webhook.field("To"))

    def connect(self, url: str) -> str:
        """Plivo XML."""
        attributes = f'bidirectional="true" keepCallAlive="true" contentType="audio/x-mulaw;rate={RATE}"'
        return f"<Response><Stream {attributes}>{escape(url)}</Stream><Hangup/></Response>"

    def busy(self) -> str:
        """Plivo XML."""
        return '<Response><Hangup reason="busy"/></Response>'

    def started(self, message: Message) -> Stream | None:
        """`start`."""
        if message.get("event") != "start":
            raise ProtocolError("a stream that does not begin with start")
        if text(message, "start", "mediaFormat", "encoding") != "audio/x-mulaw":
            raise ProtocolError("a stream that is not mu-law")
        require_rate(message, "start", "mediaFormat", "sampleRate")
        return Stream(text(message, "start", "streamId"), text(message, "start", "callId"))

    def serializer(self, stream: Stream) -> FrameSerializer:
        """See `Carrier`."""
        params = PlivoFrameSerializer.InputParams(plivo_sample_rate=RATE, sample_rate=RATE, auto_hang_up=False)
        return PlivoFrameSerializer(stream.stream_id, params=params)

    def mark(self, stream: Stream, name: str) -> Message:
        """Plivo's word is checkpoint."""
        return {"event": "checkpoint", "streamId": stream.stream_id, "name": name}

    def played(self, message: Message) -> str | None:
        """See `Carrier`."""
        return text(message, "name") if message.get("event") == "playedStream" else None


def signature(auth_token: str, url: str, fields: list[tuple[str, str]], nonce: str) -> str:
    """HMAC-SHA256 over URL, sorted query, sorted fields and nonce, each part after a dot."""
    parts = urlsplit(url)
    bare = urlunsplit(parts._replace(query="", fragment=""))
    query = "&".join(f"{name}={value}" for name, value in sorted(parse_qsl(parts.query, keep_blank_values=True)))
    form = "".join(name + value for name, value in sorted(fields))
    if query:
        bare += f"?{query}" + ("." if fields else "")
    elif fields:
        bare += "?"
    signed = f"{bare}{form}.{nonce}"
    return base64.b64encode(hmac.digest(auth_token.encode(), signed.encode(), "sha256")).decode()
