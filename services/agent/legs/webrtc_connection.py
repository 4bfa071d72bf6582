"""pipecat's WebRTC connection and transport with our audio: losses concealed in, error correction out."""

import asyncio
from typing import Any

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from pipecat.frames.frames import Frame, InputAudioRawFrame, InterruptionFrame, OutputAudioRawFrame, StartFrame
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_transport import TransportParams
from pipecat.transports.smallwebrtc.connection import SmallWebRTCConnection
from pipecat.transports.smallwebrtc.transport import (
    SmallWebRTCClient,
    SmallWebRTCInputTransport,
    SmallWebRTCOutputTransport,
    SmallWebRTCTransport,
)

from services.agent.legs.base import INPUT_RATE
from services.agent.legs.bot_audio import BotAudio
from services.agent.legs.caller_audio import CallerAudio
from services.agent.legs.packet_output import PacketOutput
from services.agent.legs.webrtc_connecting import Connecting
from services.agent.legs.webrtc_sdp import with_error_correction

AWAY_S = 0.01  # between two looks for a connection that is away


class Connection(SmallWebRTCConnection):  # type: ignore[misc]  # pipecat is not followed by mypy
    """One browser's connection, which may be replaced by another one in its life. Audio both ways, no video."""

    caller_audio: CallerAudio | None = None
    bot_audio: BotAudio | None = None

    def _initialize(self) -> None:
        super()._initialize()
        self._connecting = Connecting(self.pc)

    async def _close(self) -> None:
        await self._connecting.stop()
        await super()._close()

    async def abandon(self) -> None:
        """Closes it when its offer turned out to be unusable."""
        await self._close()

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
        """Called when media is up: our own track takes the place of pipecat's, which stays unused."""
        track.stop()
        self.bot_audio = BotAudio()
        super().replace_audio_track(self.bot_audio)

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


class Input(SmallWebRTCInputTransport):  # type: ignore[misc]
    """Pushes the caller's PCM as it is there: pipecat's own way has a resampler and a queue more."""

    def __init__(self, connection: Connection, client: SmallWebRTCClient, params: TransportParams) -> None:
        super().__init__(client, params)
        self._connection = connection

    async def set_transport_ready(self, frame: StartFrame) -> None:
        """No queue is needed: what waits for a busy pipeline waits in `CallerAudio`."""

    async def _receive_audio(self) -> None:
        while True:
            audio = self._connection.caller_audio
            try:
                pcm = await audio.read() if audio is not None else None
            except MediaStreamError:
                pcm = None
            if pcm is None:
                await asyncio.sleep(AWAY_S)  # the page is away; it may be back on another connection
                continue
            await self.push_frame(InputAudioRawFrame(audio=pcm.tobytes(), sample_rate=INPUT_RATE, num_channels=1))


class Output(PacketOutput, SmallWebRTCOutputTransport):  # type: ignore[misc]
    """Hands packets on as they come."""

    def __init__(self, connection: Connection, client: SmallWebRTCClient, params: TransportParams) -> None:
        super().__init__(client, params, enable_direct_mode=True)
        self._connection = connection

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Drops unsent audio at an interruption."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InterruptionFrame) and self._connection.bot_audio is not None:
            self._connection.bot_audio.flush()

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Sends one packet; False while there is no connection to send it on."""
        audio = self._connection.bot_audio
        return audio is not None and audio.write(frame.audio)


class Transport(SmallWebRTCTransport):  # type: ignore[misc]
    """pipecat's transport over our connection."""

    def __init__(self, connection: Connection, params: TransportParams) -> None:
        super().__init__(connection, params)
        self._input = Input(connection, self._client, params)
        self._output = Output(connection, self._client, params)
