"""Telnyx media streaming with TeXML: https://developers.telnyx.com/docs/voice/programmable-voice/media-streaming."""

import base64
import binascii
from xml.sax.saxutils import quoteattr

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.serializers.telnyx import TelnyxFrameSerializer

from services.agent.carriers.base import (
    RATE,
    Announced,
    Message,
    ProtocolError,
    SignatureError,
    Stream,
    Webhook,
    require_rate,
    text,
)

TOLERANCE_S = 300  # a webhook older than this, or as far in the future, may be a replay
ENCODINGS = ("PCMU", "PCMA")


class Telnyx:
    """See `Carrier`.

    Args:
        public_key: the account's, base64 as the portal shows it.

    Raises:
        ValueError: it is not such a key.
    """

    name = "telnyx"

    def __init__(self, public_key: str) -> None:
        try:
            self._public_key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        except ValueError as error:
            raise ValueError("the Telnyx public key is not 32 bytes in base64") from error

    def verify(self, webhook: Webhook, now: float) -> None:
        """`telnyx-signature-ed25519` over `timestamp|body` (https://developers.telnyx.com/docs/messaging/webhooks)."""
        given = webhook.header("telnyx-signature-ed25519")
        timestamp = webhook.header("telnyx-timestamp")
        try:
            signature = base64.b64decode(given, validate=True)
            self._public_key.verify(signature, timestamp.encode() + b"|" + webhook.body)
        except (InvalidSignature, binascii.Error, ValueError) as error:
            raise SignatureError("telnyx-signature-ed25519 does not match") from error
        if not timestamp.isdigit() or abs(now - int(timestamp)) > TOLERANCE_S:
            raise SignatureError(f"telnyx-timestamp is not within {TOLERANCE_S} s of now")

    def announced(self, webhook: Webhook) -> Announced:
        """See `Carrier`. In TeXML a call's CallSid is its call_control_id."""
        return Announced(webhook.field("CallSid"), webhook.field("From"), webhook.field("To"))

    def connect(self, url: str) -> str:
        """TeXML."""
        stream = f'<Stream url={quoteattr(url)} bidirectionalMode="rtp" bidirectionalCodec="PCMU" codec="PCMU"/>'
        return f"<Response><Connect>{stream}</Connect><Hangup/></Response>"

    def busy(self) -> str:
        """TeXML."""
        return '<Response><Reject reason="busy"/></Response>'

    def started(self, message: Message) -> Stream | None:
        """`connected`, then `start`."""
        match message.get("event"):
            case "connected":
                return None
            case "start":
                encoding = text(message, "start", "media_format", "encoding")
                if encoding not in ENCODINGS:
                    raise ProtocolError("a stream that is neither PCMU nor PCMA")
                require_rate(message, "start", "media_format", "sample_rate")
                return Stream(text(message, "stream_id"), text(message, "start", "call_control_id"), encoding)
        raise ProtocolError("a stream that does not begin with connected and start")

    def serializer(self, stream: Stream) -> FrameSerializer:
        """See `Carrier`. Both ways are named from the carrier's side: its inbound is what we send."""
        params = TelnyxFrameSerializer.InputParams(telnyx_sample_rate=RATE, sample_rate=RATE, auto_hang_up=False)
        return TelnyxFrameSerializer(
            stream.stream_id, outbound_encoding=stream.encoding, inbound_encoding="PCMU", params=params
        )

    def mark(self, stream: Stream, name: str) -> Message:
        """See `Carrier`."""
        return {"event": "mark", "mark": {"name": name}}

    def played(self, message: Message) -> str | None:
        """See `Carrier`."""
        return text(message, "mark", "name") if message.get("event") == "mark" else None
