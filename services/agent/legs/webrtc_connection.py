"""pipecat's WebRTC connection with our audio in both directions: losses concealed in, error correction out."""

from typing import Any

from aiortc import MediaStreamTrack
from pipecat.transports.smallwebrtc.connection import SmallWebRTCConnection

from services.agent.legs.bot_audio import BotAudio
from services.agent.legs.caller_audio import CallerAudio
from services.agent.legs.webrtc_sdp import with_error_correction


class Connection(SmallWebRTCConnection):  # type: ignore[misc]  # pipecat is not followed by mypy
    """One browser's connection, which may be replaced by another one in its life. Audio both ways, no video."""

    caller_audio: CallerAudio | None = None

    def get_answer(self) -> dict[str, Any] | None:
        """See pipecat."""
        answer: dict[str, Any] | None = super().get_answer()
        return answer and {**answer, "sdp": with_error_correction(answer["sdp"])}

    def audio_input_track(self) -> CallerAudio | None:
        """What the caller says; made by `force_transceivers_to_send_recv`, before the first packet can come."""
        return self.caller_audio

    def video_input_track(self) -> None:
        """There is none."""

    def screen_video_input_track(self) -> None:
        """There is none."""

    def replace_audio_track(self, track: MediaStreamTrack) -> None:
        """Sends this track's PCM from now on."""
        super().replace_audio_track(BotAudio(track))

    def force_transceivers_to_send_recv(self) -> None:
        """Between offer and answer: audio both ways, nothing else; and its receiver becomes ours."""
        for transceiver in self.pc.getTransceivers():
            transceiver.direction = "sendrecv" if transceiver.kind == "audio" else "inactive"
            if transceiver.kind == "audio" and self.caller_audio is None:
                self.caller_audio = CallerAudio(transceiver.receiver)

    async def renegotiate(self, sdp: str, type: str, restart_pc: bool = False) -> None:
        """See pipecat. A new peer connection has a new receiver; who reads the old one is told that it has ended."""
        if restart_pc:
            self.release()
        await super().renegotiate(sdp, type, restart_pc)

    def release(self) -> None:
        """Nothing more is heard of this peer connection."""
        if self.caller_audio is not None:
            self.caller_audio.stop()
            self.caller_audio = None
