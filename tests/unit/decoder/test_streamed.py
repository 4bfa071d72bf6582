"""The same 200 tokens streamed and decoded as one block: no joins to hear, the same words to understand."""

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks import spoken
from benchmarks.decoder_driving import OFFLINE, blocks, new_utterance, wave_of
from services.decoder import weights
from services.decoder.weights import Checkpoint
from training.judge import transcribe, word_error_rate
from training.paths import REPLY_RATE, WEIGHTS

TOKENS = 200
Waveform = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def nano() -> Checkpoint:
    return weights.load(WEIGHTS / "decoder")


@pytest.fixture(scope="module")
def codes() -> list[int]:
    """Sentences in the voice that weights/nano speaks."""
    return spoken.passage().codes[:TOKENS]


@pytest.mark.parametrize("head", ["istft", "source_filter"])
def test_no_step_at_a_join(head: str, tiny: Checkpoint, nano: Checkpoint, codes: list[int]) -> None:
    checkpoint = tiny.sampled(flow_steps=2) if head == "istft" else nano
    assert checkpoint.config.hift.head == head
    found = [block.wave for block in blocks(new_utterance(checkpoint, [code % 512 for code in codes]))]
    assert len(found) > 4
    steps = np.abs(np.diff(np.concatenate(found)))
    joins = np.cumsum([len(wave) for wave in found])[:-1] - 1
    inside = np.delete(steps, joins)
    assert inside.max() > 0.01
    assert steps[joins].max() <= inside.max()
    # nor among the samples around: rare steps are as rare there as elsewhere
    around = np.concatenate([steps[join - 128 : join + 128] for join in joins])
    assert np.quantile(around, 0.99) <= np.quantile(inside, 0.999)


def heard(wave: Waveform) -> str:
    """What the judge understands, of one half after the other: it writes no more than some thirty words at once."""
    middle = len(wave) // 2
    return " ".join(transcribe(part, REPLY_RATE) for part in (wave[:middle], wave[middle:]))


def test_the_judge_hears_the_same(nano: Checkpoint, codes: list[int]) -> None:
    streamed, offline = wave_of(new_utterance(nano, codes)), wave_of(new_utterance(nano, codes, sizes=OFFLINE))
    assert len(streamed) == len(offline)
    assert not np.array_equal(streamed, offline)
    said, said_offline = heard(streamed), heard(offline)
    meant = " ".join(spoken.SENTENCES[:4])  # 200 tokens end in the pause after them
    assert word_error_rate([said_offline], [said]) <= 0.25
    assert word_error_rate([meant], [said]) <= word_error_rate([meant], [said_offline]) + 0.05
