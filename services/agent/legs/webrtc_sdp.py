"""What a browser may offer, and what we add to its answer: SDP (RFC 8866, RFC 9429) by aiortc's own parser. Pure."""

from aiortc import RTCIceCandidate
from aiortc.sdp import SessionDescription, candidate_from_sdp

MAX_SDP_BYTES = 64 * 1024
MAX_CANDIDATE_BYTES = 1024
OPUS = "audio/opus"


class BadOfferError(ValueError):
    """An SDP offer or an ICE candidate that cannot be used; the message says why."""


def opus_only(offer: str) -> str:
    """The offer without codecs other than Opus, which every WebRTC endpoint has (RFC 7874 section 3).

    Raises:
        BadOfferError: no SDP, no audio in it, audio not the first section, or no Opus.
    """
    if len(offer.encode()) > MAX_SDP_BYTES:
        raise BadOfferError(f"the offer is longer than {MAX_SDP_BYTES} bytes")
    if not offer.startswith("v=0"):
        raise BadOfferError("the offer is no SDP")
    try:
        session = SessionDescription.parse(offer)
    except Exception as error:  # the parser raises whatever it meets
        raise BadOfferError(f"the offer cannot be read: {type(error).__name__}: {error}") from error
    if not session.media or session.media[0].kind != "audio":
        raise BadOfferError("the first section of the offer must be audio")
    if sum(media.kind == "audio" for media in session.media) > 1:
        raise BadOfferError("one section of audio is allowed")
    audio = session.media[0]
    audio.rtp.codecs = [codec for codec in audio.rtp.codecs if codec.mimeType.lower() == OPUS]
    audio.fmt = [codec.payloadType for codec in audio.rtp.codecs]
    if not audio.fmt:
        raise BadOfferError("the offer has no Opus")
    return str(session)


def with_error_correction(answer: str) -> str:
    """Our answer, with the wish for Opus' forward error correction (RFC 7587 section 6.1)."""
    session = SessionDescription.parse(answer)
    for media in session.media:
        for codec in media.rtp.codecs:
            if codec.mimeType.lower() == OPUS:
                codec.parameters |= {"minptime": 10, "useinbandfec": 1}
    return str(session)


def candidate_of(line: str, mid: str | None, index: int | None) -> RTCIceCandidate | None:
    """An ICE candidate as a browser words it (RFC 8839 section 5.1); None for an empty one, the end of candidates.

    Raises:
        BadOfferError: it cannot be read.
    """
    if not line:
        return None
    if len(line) > MAX_CANDIDATE_BYTES:
        raise BadOfferError(f"an ICE candidate is longer than {MAX_CANDIDATE_BYTES} bytes")
    if mid is None and index is None:
        raise BadOfferError("an ICE candidate names neither sdp_mid nor sdp_mline_index")
    try:
        candidate = candidate_from_sdp(line.removeprefix("candidate:"))
    except (AssertionError, ValueError, IndexError) as error:
        raise BadOfferError("an ICE candidate cannot be read") from error
    candidate.sdpMid, candidate.sdpMLineIndex = mid, index
    return candidate
