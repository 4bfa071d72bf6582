"""`python -m benchmarks.answering_machines`: how often a placed call's callee is taken for what they are.

Greetings of machines and first words of people, by synthetic voices over G.711 with a little noise, go through the
agent's own voice activity, tone detector and state machine; nothing else of a call runs.
"""

import asyncio
import random
from collections import Counter

import numpy as np
import numpy.typing as npt
import soxr
import typer

from services.agent.legs.base import INPUT_RATE
from services.agent.outbound.answering_machine import Callee, CalleeSettings, Verdict
from services.agent.outbound.callee import WINDOW_S
from services.agent.outbound.tone import ToneDetector
from services.agent.voice_activity import WINDOW_BYTES, VoiceActivity
from training.augment import g711
from training.voices import Speaker, random_speaker, say

Pcm = npt.NDArray[np.float32]

MACHINES = (
    "Hello, you have reached the office. Please leave a message after the tone.",
    "Hi, this is Ann. I cannot come to the phone right now. Leave your name and number, and I will call you back.",
    "The person you have called is not available. Please leave a message after the beep.",
    "Thank you for calling. Our office is closed. We are open from Monday to Friday, from nine to five.",
    "Hey, it's Tom. Leave a message.",
    "Welcome to the mailbox of four seven one nine. You may speak after the tone.",
)
PEOPLE = (
    "Hello?",
    "Yes?",
    "Hello, Ann speaking.",
    "Good morning.",
    "Smith.",
    "Hi, who is this?",
    "Yes, hello, this is Tom, how can I help?",
    "Harbour Parcel, good morning, this is Ann speaking, how may I help you?",
)
BEEPS_HZ = (440.0, 800.0, 1000.0, 1400.0)
LONG_S = 3.0  # people who take longer are expected to be taken for machines


def line(text: str, speaker: Speaker, dice: random.Random, beep_hz: float) -> tuple[Pcm, float]:
    """What is heard from the answer on, at `INPUT_RATE`, and how long the words take; no beep at 0 hertz."""
    words = say(text, speaker, INPUT_RATE)
    beep = 0.3 * np.sin(2 * np.pi * beep_hz * np.arange(int(0.4 * INPUT_RATE)) / INPUT_RATE) * bool(beep_hz)
    pauses = [np.zeros(int(seconds * INPUT_RATE)) for seconds in (dice.uniform(0.2, 1.0), dice.uniform(0.3, 1.0), 5.0)]
    whole = np.concatenate([pauses[0], words * dice.uniform(0.3, 1.0), pauses[1], beep, pauses[2]])
    whole += np.random.default_rng(dice.randrange(1 << 30)).normal(0, 0.001, len(whole))
    narrow = g711(np.asarray(soxr.resample(whole, INPUT_RATE, 8000), np.float32))
    return np.asarray(soxr.resample(narrow, 8000, INPUT_RATE), np.float32), len(words) / INPUT_RATE


def verdicts(pcm: Pcm) -> list[tuple[Verdict, float]]:
    """What the agent makes of it, each with the time on the line."""
    ears, tones, callee = VoiceActivity(), ToneDetector(), Callee(CalleeSettings())
    raw = np.asarray(np.clip(pcm, -1, 1) * 32767, np.int16).tobytes()
    found = []
    for index, start in enumerate(range(0, len(raw) - WINDOW_BYTES + 1, WINDOW_BYTES)):
        window = raw[start : start + WINDOW_BYTES]
        verdict = callee.window(WINDOW_S, ears.confidence(window), tones.is_tone(window))
        if verdict is not None:
            found.append((verdict, (index + 1) * WINDOW_S))
    return found


async def measure(voices: int, seed: int) -> None:
    """Prints counts by kind of callee."""
    dice = random.Random(seed)
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    late: list[float] = []
    for _ in range(voices):
        speaker = random_speaker(dice, joe_share=0.0)
        for text in (*MACHINES, *PEOPLE):
            is_machine = text in MACHINES
            beep_hz = dice.choice(BEEPS_HZ) if is_machine else 0.0
            pcm, words_s = line(text, speaker, dice, beep_hz)
            found = verdicts(pcm)
            kinds = [verdict for verdict, _ in found]
            length = f"over {LONG_S:g} s" if words_s > LONG_S else f"up to {LONG_S:g} s"
            name = f"{'machine' if is_machine else 'person'}, {length}"
            total[name] += 1
            is_right = kinds[:1] == [Verdict.MACHINE if is_machine else Verdict.PERSON]
            right[name] += is_right
            wrong[text] += not is_right
            if is_machine and Verdict.RECORDING in kinds:
                total["beep"] += 1
                beep_end_s = len(pcm) / INPUT_RATE - 5.0
                at = next(at for verdict, at in found if verdict is Verdict.RECORDING)
                right["beep"] += abs(at - beep_end_s) < 0.2
                late.append(at - beep_end_s)
    for name in sorted(total):
        print(f"{name}: {right[name]} of {total[name]} right")
    for text, count in (+wrong).most_common():
        print(f"wrong {count} times of {voices}: {text}")
    print(f"text may be left {np.median(late) * 1000:.0f} ms after the beep's end (median of {len(late)})")


def main(voices: int = 20, seed: int = 11) -> None:
    """Measures with so many voices, each saying every text."""
    asyncio.run(measure(voices, seed))


if __name__ == "__main__":
    typer.run(main)
