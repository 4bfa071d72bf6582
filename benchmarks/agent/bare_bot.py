"""`python -m benchmarks.agent.bare_bot PORT`: an echo bot of pipecat and aiortc as their own documentation has one.

pipecat's SmallWebRTC transport, its Silero voice activity and its smart-turn with their default settings, FastAPI and
uvicorn as pipecat's runner starts them. When the caller's turn is over, the bot plays its audio back. What costs
processor time and is no part of that is left out: no RTVI messages, no turn tracking, no log.
"""

import sys

import uvicorn
from fastapi import BackgroundTasks, FastAPI
from loguru import logger
from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    OutputAudioRawFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.audio.vad_processor import VADProcessor
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.base_transport import TransportParams
from pipecat.transports.smallwebrtc.connection import SmallWebRTCConnection
from pipecat.transports.smallwebrtc.request_handler import SmallWebRTCRequest, SmallWebRTCRequestHandler
from pipecat.transports.smallwebrtc.transport import SmallWebRTCTransport
from pipecat.turns.user_stop import TurnAnalyzerUserTurnStopStrategy
from pipecat.turns.user_turn_processor import UserTurnProcessor
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.workers.runner import WorkerRunner

HOST = "127.0.0.1"
BEFORE_BYTES = 32_000 // 2  # of a turn, before it was seen to begin


class Echo(FrameProcessor):  # type: ignore[misc]  # pipecat is not followed by mypy
    """Keeps a turn's audio, and plays it when the turn is over."""

    def __init__(self) -> None:
        super().__init__()
        self._heard = bytearray()
        self._turn = False

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """See pipecat."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self._heard += frame.audio
            if not self._turn:
                del self._heard[:-BEFORE_BYTES]
            return
        await self.push_frame(frame, direction)
        if isinstance(frame, UserStartedSpeakingFrame):
            self._turn = True
        elif isinstance(frame, UserStoppedSpeakingFrame):
            self._turn = False
            await self.push_frame(OutputAudioRawFrame(audio=bytes(self._heard), sample_rate=16_000, num_channels=1))


async def talk(connection: SmallWebRTCConnection) -> None:
    """One call."""
    transport = SmallWebRTCTransport(connection, TransportParams(audio_in_enabled=True, audio_out_enabled=True))
    # There is no transcript here that the end of a turn could wait for.
    stop = TurnAnalyzerUserTurnStopStrategy(turn_analyzer=LocalSmartTurnAnalyzerV3(), wait_for_transcript=False)
    processors = [
        transport.input(),
        VADProcessor(vad_analyzer=SileroVADAnalyzer()),
        UserTurnProcessor(user_turn_strategies=UserTurnStrategies(stop=[stop])),
        Echo(),
        transport.output(),
    ]
    worker = PipelineWorker(Pipeline(processors), enable_rtvi=False, enable_turn_tracking=False, idle_timeout_secs=None)

    @transport.event_handler("on_client_disconnected")  # type: ignore[untyped-decorator]
    async def gone(*_: object) -> None:
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


def app() -> FastAPI:
    """Signalling."""
    made = FastAPI()
    handler = SmallWebRTCRequestHandler()

    @made.get("/healthz")
    async def healthz() -> str:
        return "ok"

    @made.post("/api/offer")
    async def offer(request: SmallWebRTCRequest, background: BackgroundTasks) -> object:
        async def connected(connection: SmallWebRTCConnection) -> None:
            background.add_task(talk, connection)

        return await handler.handle_web_request(request=request, webrtc_connection_callback=connected)

    return made


def main() -> None:
    """Entry point."""
    logger.remove()
    uvicorn.run(app(), host=HOST, port=int(sys.argv[1]), log_level="error")


if __name__ == "__main__":
    main()
