import pytest
from aiortc import RTCPeerConnection
from aiortc.sdp import SessionDescription

from services.agent.legs.webrtc_sdp import BadOfferError, candidate_of, opus_only, with_error_correction

CANDIDATE = "candidate:1 1 udp 2130706431 192.0.2.1 40000 typ host"


async def offered(*kinds: str) -> str:
    peer = RTCPeerConnection()
    for kind in kinds:
        peer.addTransceiver(kind)
    peer.createDataChannel("rtvi")
    sdp = (await peer.createOffer()).sdp
    await peer.close()
    return str(sdp)


async def test_opus_stays_and_the_other_codecs_go() -> None:
    session = SessionDescription.parse(opus_only(await offered("audio", "video")))
    audio, video, data = session.media
    assert [codec.name for codec in audio.rtp.codecs] == ["opus"]
    assert (video.kind, data.kind) == ("video", "application")
    assert len(video.rtp.codecs) > 1


async def test_error_correction_is_asked_for() -> None:
    assert "useinbandfec=1" in with_error_correction(opus_only(await offered("audio")))


async def test_offers_that_cannot_be_answered_are_refused_with_the_reason() -> None:
    audio = await offered("audio")
    for offer, problem in (
        ("", "no SDP"),
        ("v=0\r\n", "must be audio"),
        (await offered("video", "audio"), "must be audio"),
        (await offered("audio", "audio"), "one section of audio"),
        (audio.replace("opus/48000/2", "opal/48000/2"), "no Opus"),
        ("v=0\r\nm=audio x y z\r\n", "cannot be read"),
        ("v=0" + "x" * 65_536, "longer than 65536 bytes"),
    ):
        with pytest.raises(BadOfferError, match=problem):
            opus_only(offer)


def test_candidates_are_read_as_browsers_word_them() -> None:
    candidate = candidate_of(CANDIDATE, "0", None)
    assert candidate is not None
    assert (candidate.ip, candidate.port, candidate.sdpMid) == ("192.0.2.1", 40_000, "0")
    assert candidate_of("", None, None) is None


@pytest.mark.parametrize("line", ["candidate:1", "candidate:1 x udp y 192.0.2.1 z typ host", "x" * 2000])
def test_other_candidates_are_refused(line: str) -> None:
    with pytest.raises(BadOfferError, match="an ICE candidate"):
        candidate_of(line, "0", 0)
