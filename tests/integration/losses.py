"""What losses do to a call, measured: words as judged, and the delay by the places of beeps."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from pipecat.frames.frames import Frame, InputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from services.agent.legs.base import INPUT_RATE
from services.agent.legs.webrtc import OUTPUT_RATE, WebRtcLeg
from tests.integration.far_caller import start
from tests.integration.network import Network
from tests.integration.phone import RATE as PHONE_RATE
from tests.integration.sip_bots import ToneBot, endpoint, until
from tests.integration.stack import Agent
from tests.integration.webrtc_caller import sample
from training.judge import normalise, transcribe

Pcm = npt.NDArray[np.int16]

BEEP_EVERY_S = 0.8  # tells delays up to half of it
BEEP_HERTZ = 1000.0
BEEP_LEVEL = 0.4 * 32768 / 2  # of its own half of the spectrum
HOP = INPUT_RATE // 400  # 2.5 ms: how finely beeps are placed


def beeps(seconds: float, rate: int) -> npt.NDArray[np.float64]:
    """A beep of 60 ms every `BEEP_EVERY_S`, and a soft hum: a voice is never all silent."""
    time = np.arange(int(seconds * rate)) / rate
    on = time % BEEP_EVERY_S < 0.06
    return np.asarray(0.4 * np.sin(2 * np.pi * BEEP_HERTZ * time) * on + 0.02 * np.sin(2 * np.pi * 150 * time))


def beep_times(pcm: Pcm) -> npt.NDArray[np.float64]:
    """When beeps begin in 16 kHz PCM, seconds."""
    if len(pcm) < INPUT_RATE:
        return np.zeros(0)
    time = np.arange(len(pcm)) / INPUT_RATE
    beat = pcm * np.exp(-2j * np.pi * BEEP_HERTZ * time)
    width = 4 * HOP
    level = np.abs(np.convolve(beat, np.ones(width) / width, "same"))[::HOP]
    loud = level > BEEP_LEVEL / 2
    rises = np.flatnonzero(loud[1:] & ~loud[:-1]) + 1
    lasting = [rise for rise in rises if loud[rise : rise + 12].mean() > 0.9]
    return np.asarray(lasting, np.float64) * HOP / INPUT_RATE


@dataclass(frozen=True)
class Delays:
    """Where beeps were, against where they were at the beginning.

    Attributes:
        at: seconds from the first.
        added: seconds; less than none where audio was left out.
    """

    at: npt.NDArray[np.float64]
    added: npt.NDArray[np.float64]

    @classmethod
    def of(cls, pcm: Pcm) -> "Delays":
        """Of a recording that begins undisturbed."""
        times = beep_times(pcm)
        apart = np.diff(times, prepend=times[0])
        late = (apart + BEEP_EVERY_S / 2) % BEEP_EVERY_S - BEEP_EVERY_S / 2
        return cls(times, np.cumsum(late))


class Ear(FrameProcessor):  # type: ignore[misc]
    """Keeps what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.pcm = bytearray()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self.pcm += frame.audio
        else:
            await self.push_frame(frame, direction)


@contextlib.asynccontextmanager
async def web_ear(network: Network, wave: Path) -> AsyncIterator[tuple[bytearray, WebRtcLeg]]:
    """A WebRTC leg that hears this wave from the other side of the network."""
    far = start(network, "web-play", wave)
    assert far.stdin is not None
    assert far.stdout is not None
    leg = await WebRtcLeg.from_offer(json.loads(await asyncio.to_thread(far.stdout.readline)), "far")
    far.stdin.write(json.dumps(leg.sdp_answer) + "\n")
    far.stdin.flush()
    await leg.answer()
    ear = Ear()
    pipeline = Pipeline([leg.transport.input(), ear, leg.transport.output()])
    rates = PipelineParams(audio_in_sample_rate=INPUT_RATE, audio_out_sample_rate=OUTPUT_RATE)
    worker = PipelineWorker(pipeline, params=rates, enable_rtvi=False, idle_timeout_secs=None)
    runner = WorkerRunner(handle_sigint=False, check_dangling_tasks=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    try:
        yield ear.pcm, leg
    finally:
        far.stdin.close()
        await worker.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await leg.hang_up("done")
        await asyncio.to_thread(far.wait)


@contextlib.asynccontextmanager
async def phone_ear(network: Network, wave: Path, directory: Path) -> AsyncIterator[bytearray]:
    """A SIP leg that hears this wave from a phone on the other side of the network."""
    bot = ToneBot()
    async with endpoint(bot, host=network.here) as agent:
        far = start(network, "phone-play", f"sip:bot@{network.here}:{agent.port}", directory, wave)
        assert far.stdin is not None
        try:
            leg = await bot.talking()
            yield bot.heard[leg]
        finally:
            far.stdin.close()
            await asyncio.to_thread(far.wait)


async def over_a_burst(network: Network, pcm: bytearray, before_s: float, after_s: float) -> tuple[Delays, float]:
    """The delays in a recording with a burst in it, and when the burst began; the first beep is at zero."""
    await until(lambda: len(beep_times(_samples(pcm))) > 0, 60)
    first = int(beep_times(_samples(pcm))[0] * INPUT_RATE)
    await until(lambda: len(_samples(pcm)) >= first + before_s * INPUT_RATE, 10 * before_s + 30)
    begun = len(_samples(pcm))
    network.burst()
    await until(lambda: len(_samples(pcm)) >= begun + after_s * INPUT_RATE, 10 * after_s + 30)
    return Delays.of(_samples(pcm)[max(0, first - INPUT_RATE // 20) :]), (begun - first) / INPUT_RATE


def _samples(pcm: bytearray) -> Pcm:
    return np.frombuffer(bytes(pcm[: len(pcm) // 2 * 2]), np.int16)


@dataclass(frozen=True)
class Answered:
    """One question asked beyond a bad network.

    Attributes:
        heard: words in the answer, as the judge hears them.
        right: all facts are among them, in order.
    """

    leg: str
    question: str
    heard: str
    right: bool


def holds(text: str, facts: str) -> bool:
    """All facts are in the text, one after the other, whatever stands between."""
    words = iter(normalise(text))
    return all(fact in words for fact in normalise(facts))


async def ask_by_web(network: Network, agent: Agent, directory: Path, questions: dict[str, str]) -> list[Answered]:
    """Asks samples/ over WebRTC in one call; `questions` has the facts that answers must hold."""
    return await _ask("WebRTC", network, "web-ask", agent.page, directory / "web", questions, INPUT_RATE)


async def ask_by_phone(network: Network, agent: Agent, directory: Path, questions: dict[str, str]) -> list[Answered]:
    """The same over SIP and G.711."""
    return await _ask("SIP, PCMU", network, "phone-ask", agent.sip_uri, directory / "phone", questions, PHONE_RATE)


async def _ask(
    leg: str, network: Network, command: str, where: str, out: Path, questions: dict[str, str], rate: int
) -> list[Answered]:
    await asyncio.to_thread(out.mkdir)
    waves = [write(out / f"{name}.q.wav", sample(name), INPUT_RATE, rate) for name in questions]
    far = start(network, command, where, out, *waves)
    await asyncio.to_thread(far.communicate)
    assert far.returncode == 0, f"{leg}: the far caller failed"
    found = []
    for number, (name, facts) in enumerate(questions.items()):
        wave, own_rate = soundfile.read(out / f"{number}.wav", dtype="float32")
        text = await asyncio.to_thread(transcribe, wave, own_rate)
        found.append(Answered(leg, name, text, holds(text, facts)))
    return found


def write(path: Path, wave: npt.NDArray[np.floating], rate: int, to_rate: int) -> Path:
    """A 16-bit WAV at another rate."""
    soundfile.write(path, soxr.resample(wave, rate, to_rate), to_rate, subtype="PCM_16")
    return path
