"""Twilio Media Streams: https://www.twilio.com/docs/voice/media-streams/websocket-messages."""

import base64
import hmac
from urllib.parse import urlsplit, urlunsplit
from xml.sax.saxutils import quoteattr

from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer

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

HTTPS_PORT = 443


class Twilio:
    """See `Carrier`.

    Args:
        auth_token: the account's; webhooks are signed with it.
    """

    name = "twilio"

    def __init__(self, auth_token: str) -> None:
        self._auth_token = auth_token

    def verify(self, webhook: Webhook, now: float) -> None:
        """`X-Twilio-Signature` (https://www.twilio.com/docs/usage/security#validating-requests)."""
        given = webhook.header("X-Twilio-Signature")
        fields = webhook.fields()
        # Twilio's own validators take the URL with and without its port: what was signed is one or the other.
        if not any(matches(signature(self._auth_token, url, fields), given) for url in _spellings(webhook.url)):
            raise SignatureError("X-Twilio-Signature does not match")

    def announced(self, webhook: Webhook) -> Announced:
        """See `Carrier`."""
        return Announced(webhook.field("CallSid"), webhook.field("From"), webhook.field("To"))

    def connect(self, url: str) -> str:
        """TwiML."""
        return f"<Response><Connect><Stream url={quoteattr(url)}/></Connect><Hangup/></Response>"

    def busy(self) -> str:
        """TwiML."""
        return '<Response><Reject reason="busy"/></Response>'

    def started(self, message: Message) -> Stream | None:
        """`connected`, then `start`."""
        match message.get("event"):
            case "connected":
                return None
            case "start":
                if text(message, "start", "mediaFormat", "encoding") != "audio/x-mulaw":
                    raise ProtocolError("a stream that is not mu-law")
                require_rate(message, "start", "mediaFormat", "sampleRate")
                return Stream(text(message, "start", "streamSid"), text(message, "start", "callSid"))
        raise ProtocolError("a stream that does not begin with connected and start")

    def serializer(self, stream: Stream) -> FrameSerializer:
        """See `Carrier`."""
        params = TwilioFrameSerializer.InputParams(twilio_sample_rate=RATE, sample_rate=RATE, auto_hang_up=False)
        return TwilioFrameSerializer(stream.stream_id, params=params)

    def mark(self, stream: Stream, name: str) -> Message:
        """See `Carrier`."""
        return {"event": "mark", "streamSid": stream.stream_id, "mark": {"name": name}}

    def played(self, message: Message) -> str | None:
        """See `Carrier`."""
        return text(message, "mark", "name") if message.get("event") == "mark" else None


def signature(auth_token: str, url: str, fields: list[tuple[str, str]]) -> str:
    """HMAC-SHA1 over the URL and the form's fields, sorted, each name with its value."""
    signed = url + "".join(name + value for name, value in sorted(set(fields)))
    return base64.b64encode(hmac.digest(auth_token.encode(), signed.encode(), "sha1")).decode()


def _spellings(url: str) -> list[str]:
    parts = urlsplit(url)
    host = parts.netloc.removesuffix(f":{HTTPS_PORT}")
    bare = urlunsplit(parts._replace(netloc=host))
    return [bare, urlunsplit(parts._replace(netloc=f"{host}:{HTTPS_PORT}"))] if parts.port in (None, 443) else [url]
