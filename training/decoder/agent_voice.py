"""Recordings of the agent's voice: replies of a call centre, digit strings, wide text; synthesised once and cached."""

from random import Random

import numpy as np
import numpy.typing as npt

from training import corpus, voices
from training.domain.numbers import random_number
from training.grammar import expand
from training.paths import CACHE, REPLY_RATE
from training.shards import Clip
from training.splits import Split, split_of
from training.synthesis import make_shards, silence

Waveform = npt.NDArray[np.float32]

FOLDER = CACHE / "agent_voice"
CLIPS_A_SHARD = 250
TRAIN_SHARDS, TEST_SHARDS = 6, 1

_DAY = "[monday|tuesday|wednesday|thursday|friday|saturday|sunday|tomorrow|today]"
_HOUR = "[seven|eight|nine|ten|eleven|twelve|one|two|three|four|five|six|half past nine|half past two|ten thirty|noon]"
_COUNT = "[two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty]"
_REPLIES = [
    "[hello|good morning|good afternoon|hi], [this is|you are speaking to|I am] [mira|anna|tom|clara|leo] "
    "[at|from|of] [harbour|city|north star|river|green hill] [parcel|post|bank|travel|hotel]. "
    "[how can I help you|what can I do for you|how may I help]?",
    f"[we are|our office is|the counter is] open [on|every] {_DAY} from {_HOUR} to {_HOUR}.",
    f"[we are open monday to friday from {_HOUR} to {_HOUR}|on {_DAY} we close at {_HOUR}|on {_DAY} we open at {_HOUR}]"
    "[, and closed on sunday|]. [can I help you with anything else|is there anything else|]",
    "[we are|no, we are|I am sorry, we are] closed on " + _DAY + ".",
    "our address is " + _COUNT + " [quay|mill|station|king|park|harbour|church|bridge] [street|road|square|lane].",
    f"a [small|medium|large|heavy] [parcel|letter|box|one] [costs|is] {_COUNT} euros[, a large one {_COUNT}|].",
    "[your parcel number is|I have|I heard|so that is|you said|the number is] {number}[. is that right|, correct|. "
    "shall I note that]?",
    "[all right|thank you|perfect|good], {number} [is noted|is on its way|will arrive " + _DAY + "]. "
    "[you will get a text message|a text message follows|we will write to you]. [anything else|]",
    "[sorry|I am sorry|pardon], [please give me the number again|could you repeat the number|I did not catch that]"
    "[, slowly please|]. [digit by digit|]",
    f"[your pick-up is|we will come|the driver comes|I have booked it] on {_DAY} at {_HOUR}. [is that right|agreed|]?",
    f"[your booking|the pick-up] is [now|moved to] {_DAY} at {_HOUR}.",
    "[your pick-up|the booking] is cancelled. [is there anything else I can do|]",
    "[one moment please|of course|certainly], I [will connect|am connecting] you [to|with] [a colleague|a person].",
    "[I am|yes, I am] [an automated|the automated] assistant [of|at] [harbour parcel|north star bank|city post].",
    "[thank you for calling|you are welcome|my pleasure|I am fine, thank you]. [goodbye|have a nice day|and you|]",
    "[I cannot help with that|I am afraid that is not something I know], but I can [tell you our opening hours|"
    "book a pick-up|look for a parcel|give you our prices|connect you to a person].",
]


def reply_text(rng: Random, split: Split) -> str:
    """A call-centre reply; its numbers are of the given split."""
    return expand(rng.choice(_REPLIES), rng).replace("{number}", random_number(rng, split))


def _text(rng: Random, split: Split) -> tuple[str, str]:
    """A text and its kind: reply, number or wide."""
    while True:
        choice = rng.random()
        if choice < 0.5:
            kind, text = "reply", reply_text(rng, split)
        elif choice < 0.68:
            kind, text = "number", random_number(rng, split, rng.choice([1, 2, 3, 4, 4, 5, 6]))
        else:
            kind, text = "wide", corpus.wide_text(rng)
        if split_of(text) == split or (split == "train" and len(text.split()) < 3):
            return text, kind


def _clip(rng: Random, split: Split) -> tuple[Clip, Waveform]:
    text, kind = _text(rng, split)
    pace = 1.0 if split == "test" or rng.random() < 0.7 else rng.uniform(0.82, 1.2)
    wave = voices.say(corpus.written(text, rng=rng), voices.Speaker(voices.AGENT, speed=pace), REPLY_RATE)
    if split == "train" and rng.random() < 0.5:
        before, after = (silence(rng.uniform(0, 0.4), REPLY_RATE) for _ in range(2))
        wave = np.concatenate([before, wave, after])
    return Clip(text, voices.AGENT, kind), wave


def make() -> None:
    """Synthesises what is not there yet: about an hour for training, and 250 clips for test."""

    def shards(split: Split, count: int) -> None:
        make_shards(
            f"agent-{split}",
            count,
            lambda rng, _: _clip(rng, split),
            seed=7,
            rate=REPLY_RATE,
            clips_a_shard=CLIPS_A_SHARD,
            folder=FOLDER,
        )

    shards("test", TEST_SHARDS)
    shards("train", TRAIN_SHARDS)
