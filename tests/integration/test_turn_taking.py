"""Turn-taking with the real ears: first words, the bot's echo, sounds that are no interruption, silent callers.

Audio passes at the pace of the machine; all clocks are the audio's own.
"""

import asyncio
import functools
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import pytest
import soxr
import yaml
from pipecat.frames.frames import EndFrame, Frame, InputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from loadtest.sip.wire import Pcm, mu_law
from services.agent.conversation import Role
from services.agent.echo import EchoRemover, PlayedLine
from services.agent.legs.base import INPUT_RATE
from services.agent.processors import CallerTurnAudio, CallerTurnEnded, CallerTurnStarted, TurnProcessor
from services.agent.turns import EventKind, TurnEvent, TurnMachine, TurnSettings
from services.agent.voice_activity import WINDOW_BYTES, EndOfTurn, VoiceActivity
from tests.integration.interrupting import on_the_line
from tests.integration.stack import Stack
from tests.integration.wire_phone import to_mu_law, wire_phone
from training.voices import Speaker, Waveform, say

PACKET = INPUT_RATE // 50
NOISE = 8.0  # rms of 32768: a quiet room on a phone
BOT = Speaker("hibari")
ANN = Speaker("hibari", shift=0.86)
VOICES = (BOT, ANN, Speaker("hibari", shift=1.15, speed=1.1), Speaker("hibari", shift=0.95, speed=0.9))
PLOSIVES = (
    "Parcel four seven one nine.",
    "Please hold on.",
    "Pick it up on Friday.",
    "Tell me the price.",
    "Today or tomorrow?",
    "Two parcels.",
    "Can you repeat that?",
    "Could I book a pick up?",
    "Do you open on Sunday?",
    "Do it now.",
    "Book it for Monday.",
    "But where are you?",
    "Goodbye.",
)
ANSWERS = (
    "We are open Monday to Friday from nine to six, Saturday from ten to two, closed on Sunday.",
    "Our address is twelve Quay Street.",
    "A small parcel costs four euros, a medium one seven, a large one eleven.",
)


@functools.cache
def spoken(text: str, speaker: Speaker = BOT) -> Waveform:
    return np.asarray(say(text, speaker, INPUT_RATE) * 32767, dtype=np.float32)


def over_the_phone(wave: Waveform, rng: np.random.Generator) -> Pcm:
    """Through G.711, with a little noise, at `INPUT_RATE`."""
    narrow = soxr.resample(wave, INPUT_RATE, 8000)
    coded = mu_law(to_mu_law((narrow + rng.normal(0, NOISE, len(narrow))).clip(-32768, 32767)))
    wide = soxr.resample(coded.astype(np.float32), 8000, INPUT_RATE)
    return np.asarray(np.resize(np.pad(wide, (0, 8)), len(wave)), dtype=np.int16)


class Collector(FrameProcessor):  # type: ignore[misc]
    """Keeps what comes."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.frames.append(frame)
        await self.push_frame(frame, direction)


async def turns_in(line: Pcm) -> list[bytes]:
    """The audio of each turn as it goes to the tokenizer."""
    end_of_turn = EndOfTurn()
    collector = Collector()
    processor = TurnProcessor(TurnSettings(), True, VoiceActivity(), end_of_turn)
    worker = PipelineWorker(
        Pipeline([processor, collector]),
        params=PipelineParams(audio_in_sample_rate=INPUT_RATE),
        enable_rtvi=False,
        enable_turn_tracking=False,
        idle_timeout_secs=None,
    )
    runner = WorkerRunner(handle_sigint=False, check_dangling_tasks=False)
    await runner.add_workers(worker)
    for start in range(0, len(line) - PACKET + 1, PACKET):
        piece = line[start : start + PACKET].tobytes()
        await worker.queue_frame(InputAudioRawFrame(audio=piece, sample_rate=INPUT_RATE, num_channels=1))
    await worker.queue_frame(EndFrame())
    await runner.run()
    await end_of_turn.close()
    turns: list[bytes] = []
    is_open = False
    for frame in collector.frames:
        if isinstance(frame, CallerTurnStarted):
            turns.append(frame.audio)
            is_open = True
        elif isinstance(frame, CallerTurnAudio) and is_open:
            turns[-1] += frame.audio
        elif isinstance(frame, CallerTurnEnded):
            is_open = False
    return turns


async def test_no_first_sound_is_lost_of_fifty_turns_that_begin_with_a_plosive() -> None:
    rng, random = np.random.default_rng(5), Random(5)
    pieces: list[Waveform] = [np.zeros(INPUT_RATE, np.float32)]
    onsets: list[int] = []
    for number in range(50):
        wave = spoken(PLOSIVES[number % len(PLOSIVES)], VOICES[number % len(VOICES)])
        first = int(np.flatnonzero(np.abs(wave) > 0.01 * np.abs(wave).max())[0])
        onsets.append(sum(map(len, pieces)) + first)
        pieces += [wave, np.zeros(int(INPUT_RATE * random.uniform(1.9, 2.2)), np.float32)]
    line = over_the_phone(np.concatenate(pieces), rng)
    turns = await turns_in(line)
    raw = line.tobytes()
    begins = [raw.index(turn[:6400]) // 2 for turn in turns]
    assert len(turns) == 50
    leads = [(onset - begin) / INPUT_RATE for begin, onset in zip(begins, onsets, strict=True)]
    print(f"audio before the first sound: {min(leads):.3f} to {max(leads):.3f} s")
    assert min(leads) > 0.1, "a tokenizer hears the first sound whole, and silence before it"
    assert max(leads) < 0.7, "and no more of the past than it needs"


@dataclass
class Leg:
    """The agent's end of one phone call in virtual time: what it plays comes back, and the caller speaks.

    Attributes:
        gain: of the echo, after `delay_s`.
    """

    gain: float
    delay_s: float
    canceller: bool = True
    events: list[TurnEvent] = field(default_factory=list)

    def run(self, bot: Waveform, caller: Waveform, rng: np.random.Generator) -> None:
        """Plays all of `bot` while hearing `caller` with the echo; the bot does not stop."""
        delay = round(self.delay_s * INPUT_RATE)
        echo = np.concatenate([np.zeros(delay, np.float32), bot[: len(bot) - delay]])
        line = over_the_phone(np.asarray(self.gain * echo + caller, np.float32), rng)
        played = PlayedLine()
        remover = EchoRemover(played)
        ears, machine = VoiceActivity(), TurnMachine(TurnSettings())
        machine.bot_speaks(True)
        heard = b""
        samples = bot.astype(np.int16)
        for start in range(0, len(line) - PACKET + 1, PACKET):
            now = 100.0 + start / INPUT_RATE
            played.packet(now, samples[start : start + PACKET].tobytes(), INPUT_RATE)
            piece = line[start : start + PACKET].tobytes()
            heard += remover.remove(now + 0.02, piece) if self.canceller else piece
            while len(heard) >= WINDOW_BYTES:
                self.events += machine.window(now - 100.0, ears.confidence(heard[:WINDOW_BYTES]))
                heard = heard[WINDOW_BYTES:]

    def of(self, kind: EventKind) -> list[float]:
        return [event.at for event in self.events if event.kind is kind]


def a_minute_of_the_bot() -> Waveform:
    pause = np.zeros(INPUT_RATE // 4, np.float32)
    pieces = [piece for text in ANSWERS * 7 for piece in (spoken(text), pause)]
    return np.concatenate(pieces)[: 60 * INPUT_RATE]


GAIN = 10 ** (-12 / 20)


def test_the_bots_echo_does_not_interrupt_the_bot_and_a_caller_does() -> None:
    """A minute of the bot, fed back at -12 dB after 80 ms; then the same with a caller who speaks up."""
    bot = a_minute_of_the_bot()
    silence = np.zeros(len(bot), np.float32)
    alone = Leg(GAIN, 0.08)
    alone.run(bot, silence, np.random.default_rng(1))
    assert alone.events == []
    together = Leg(GAIN, 0.08)
    caller = silence[: 15 * INPUT_RATE].copy()
    words = spoken("no wait, what about Saturday", ANN) * 0.5
    caller[10 * INPUT_RATE : 10 * INPUT_RATE + len(words)] = words
    together.run(bot[: len(caller)], caller, np.random.default_rng(1))
    (barge_in,) = together.of(EventKind.BARGED_IN)
    assert 10.5 < barge_in < 10 + len(words) / INPUT_RATE + 0.1


@pytest.mark.parametrize("gain", [0.0, GAIN], ids=["a line without echo", "with echo"])
@pytest.mark.parametrize("at_s", [1.2, 2.0, 3.5])
@pytest.mark.parametrize("level", [1.0, 0.25])
def test_a_caller_is_heard_over_the_bot(gain: float, at_s: float, level: float) -> None:
    bot = a_minute_of_the_bot()[: 6 * INPUT_RATE]
    words = spoken("what are your opening hours", ANN) * level
    caller = np.zeros(len(bot), np.float32)
    begin = round(at_s * INPUT_RATE)
    caller[begin : begin + len(words)] = words
    leg = Leg(gain, 0.08)
    leg.run(bot, caller, np.random.default_rng(1))
    assert leg.of(EventKind.BARGED_IN)
    assert leg.of(EventKind.BARGED_IN)[0] - at_s < len(words) / INPUT_RATE + 0.1


@pytest.mark.parametrize(("gain", "delay_s"), [(0.7, 0.08), (GAIN, 0.02), (GAIN, 0.3), (0.03, 0.08), (0.012, 0.08)])
def test_an_echo_of_any_strength_or_delay_does_not_interrupt(gain: float, delay_s: float) -> None:
    bot = a_minute_of_the_bot()[: 30 * INPUT_RATE]
    leg = Leg(gain, delay_s)
    leg.run(bot, np.zeros(len(bot), np.float32), np.random.default_rng(1))
    assert not leg.of(EventKind.BARGED_IN)


@pytest.mark.parametrize("noise", [30, 100])
def test_a_noisy_line_is_not_taken_for_one_with_echo(noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.integration.test_turn_taking.NOISE", noise)
    test_a_caller_is_heard_over_the_bot(0.0, 2.0, 1.0)


def test_without_the_canceller_the_echo_would_interrupt() -> None:
    """That the test above can fail."""
    bot = a_minute_of_the_bot()[: 10 * INPUT_RATE]
    leg = Leg(GAIN, 0.08, canceller=False)
    leg.run(bot, np.zeros(len(bot), np.float32), np.random.default_rng(1))
    assert leg.of(EventKind.BARGED_IN)


@pytest.mark.parametrize("sound", ["Mm hmm.", "Uh huh.", "Hmm.", "Yeah.", "Right.", "Ha ha."])
@pytest.mark.parametrize("voice", VOICES[:2], ids=lambda voice: voice.name)
def test_a_back_channel_does_not_interrupt(sound: str, voice: Speaker) -> None:
    leg = Leg(0.0, 0.0, canceller=False)
    wave = spoken(sound, voice)
    caller = np.concatenate([np.zeros(INPUT_RATE, np.float32), wave, np.zeros(2 * INPUT_RATE, np.float32)])
    leg.run(np.zeros(len(caller), np.float32), caller, np.random.default_rng(2))
    assert leg.of(EventKind.BARGED_IN) == []
    assert len(leg.of(EventKind.BACK_CHANNEL)) == 1


@pytest.mark.parametrize(
    "words", ["What about Saturday?", "Can you repeat that?", "No wait, stop.", "Excuse me, sorry."]
)
@pytest.mark.parametrize("voice", VOICES[:2], ids=lambda voice: voice.name)
def test_words_do(words: str, voice: Speaker) -> None:
    leg = Leg(0.0, 0.0, canceller=False)
    wave = spoken(words, voice)
    caller = np.concatenate([np.zeros(INPUT_RATE, np.float32), wave, np.zeros(INPUT_RATE, np.float32)])
    leg.run(np.zeros(len(caller), np.float32), caller, np.random.default_rng(2))
    assert len(leg.of(EventKind.BARGED_IN)) == 1


async def test_a_caller_who_says_nothing_is_asked_and_then_hung_up_on(tiny_stack: Stack, tmp_path: Path) -> None:
    persona = {"name": "default", "prompt": "Be brief.", "temperature": 0, "max_new_tokens": 60}
    silence = {"after_s": 2, "say": "Still there?", "times": 1, "goodbye": "Bye."}
    (tmp_path / "default.yaml").write_text(yaml.safe_dump({**persona, "silence": silence}))
    with tiny_stack.agent(2, tmp_path, True) as agent:
        async with wire_phone(agent.sip_port) as phone, on_the_line(tiny_stack, agent, phone) as line:
            await asyncio.wait_for(line.over.wait(), 120)
            assert line.end_reason == "the caller was silent"
        store = tiny_stack.store()
        said = [entry.text for entry in await store.conversation(line.call_id) if entry.role is Role.ASSISTANT]
        await store.redis.close()
    assert said == ["Still there?", "Bye."]
