import pytest
from pipecat.frames.frames import OutputAudioRawFrame
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_transport import TransportParams

from services.agent.legs.packet_output import PacketOutput


class Output(PacketOutput):
    def __init__(self) -> None:
        super().__init__(TransportParams(audio_out_enabled=True), enable_direct_mode=True)
        self.written: list[bytes] = []

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        self.written.append(frame.audio)
        return True


async def test_a_packet_is_written_without_a_round_of_the_loop() -> None:
    output = Output()
    for packet in (b"\x01\x00" * 160, b"\x02\x00" * 160):
        frame = OutputAudioRawFrame(audio=packet, sample_rate=8000, num_channels=1)
        with pytest.raises(StopIteration):  # it came to its end at once
            output.process_frame(frame, FrameDirection.DOWNSTREAM).send(None)
        assert output.written[-1] == packet
    assert len(output.written) == 2
