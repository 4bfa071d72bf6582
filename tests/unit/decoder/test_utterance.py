import random
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from services.decoder.blocks import HISTORY_TOKENS
from services.decoder.config import InferenceConfig
from services.decoder.flow.model import TokenToMel
from services.decoder.utterance import Pcm, StoppedError, Utterance
from services.decoder.voices import Voice, default_voice
from services.decoder.weights import Checkpoint

HOP = 256
DEFAULT = default_voice(80)


@pytest.fixture(scope="module")
def quick(tiny: Checkpoint) -> Checkpoint:
    config = tiny.config.model_copy(update={"inference": InferenceConfig(n_timesteps=2)})
    return replace(tiny, config=config)


def some_codes(count: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(512) for _ in range(count)]


def drain(utterance: Utterance) -> list[Pcm]:
    found = []
    while (pcm := utterance.next_pcm()) is not None:
        found.append(pcm)
    return found


def speak(checkpoint: Checkpoint, messages: list[list[int]], seed: int = 1, voice: Voice = DEFAULT) -> list[Pcm]:
    utterance, found = Utterance(checkpoint, seed, voice), []
    for codes in messages:
        utterance.push(codes)
        found += drain(utterance)
    utterance.finish()
    return found + drain(utterance)


def joined(blocks: list[Pcm]) -> npt.NDArray[np.int16]:
    return np.frombuffer(b"".join(block.data for block in blocks), "<i2")


@pytest.mark.parametrize("count", [1, 5, 10, 12, 64, 115])
def test_length_is_exact_and_every_token_is_done(quick: Checkpoint, count: int) -> None:
    blocks = speak(quick, [some_codes(count)])
    assert len(joined(blocks)) == int(count * 441 / 64) * HOP
    done = [block.tokens_done for block in blocks]
    assert done == sorted(done)
    assert done[-1] == count
    heard = np.cumsum([len(block.data) // 2 for block in blocks])
    for tokens, samples in zip(done[:-1], heard[:-1], strict=True):
        assert int(tokens * 441 / 64) * HOP <= samples < int((tokens + 1) * 441 / 64) * HOP


def test_first_audio_needs_ten_tokens(quick: Checkpoint) -> None:
    utterance = Utterance(quick, 0, DEFAULT)
    utterance.push(some_codes(9))
    assert utterance.next_pcm() is None
    utterance.push([3])
    first = utterance.next_pcm()
    assert first is not None
    assert len(first.data) == 2 * HOP * (68 - 34 - 1)


def test_the_waveform_does_not_depend_on_messages(quick: Checkpoint) -> None:
    codes = some_codes(75)
    whole = joined(speak(quick, [codes]))
    assert np.array_equal(whole, joined(speak(quick, [[code] for code in codes])))
    assert np.array_equal(whole, joined(speak(quick, [codes[:26], [], codes[26:52], codes[52:]])))


def test_seed_and_voice_change_the_waveform(quick: Checkpoint) -> None:
    codes = some_codes(30)
    plain = joined(speak(quick, [codes]))
    assert not np.array_equal(plain, joined(speak(quick, [codes], seed=2)))
    voice = Voice(tuple(some_codes(20, seed=5)), torch.zeros(1, 80, int(20 * 441 / 64)) - 4)
    other = joined(speak(quick, [codes], voice=voice))
    assert len(other) == len(plain)
    assert not np.array_equal(plain, other)


def test_utterances_share_nothing(quick: Checkpoint) -> None:
    codes = some_codes(40), some_codes(40, seed=8)
    alone = [joined(speak(quick, [part])) for part in codes]
    both = [Utterance(quick, 1, DEFAULT) for _ in codes]
    found: list[list[Pcm]] = [[], []]
    for start in range(0, 40, 10):
        for utterance, part, blocks in zip(both, codes, found, strict=True):
            utterance.push(part[start : start + 10])
            blocks += drain(utterance)
    for utterance, blocks in zip(both, found, strict=True):
        utterance.finish()
        blocks += drain(utterance)
    for expected, blocks in zip(alone, found, strict=True):
        assert np.array_equal(expected, joined(blocks))


def test_history_is_bounded(quick: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []
    original = type(quick.flow).condition

    def watch(self: TokenToMel, tokens: torch.Tensor, *args: Any) -> torch.Tensor:
        widths.append(tokens.shape[1])
        return original(self, tokens, *args)

    monkeypatch.setattr(type(quick.flow), "condition", watch)
    speak(quick, [some_codes(700)])
    assert max(widths) <= HISTORY_TOKENS + 10 + 50
    assert widths[-2] == widths[5]


def test_no_click_at_the_joins(quick: Checkpoint) -> None:
    """No jump between neighbouring samples around a join is larger than jumps elsewhere."""
    blocks = speak(quick, [some_codes(160)])
    wave = joined(blocks).astype(np.float64)
    jumps = np.abs(np.diff(wave))
    near = np.zeros(len(jumps), bool)
    for join in np.cumsum([len(block.data) // 2 for block in blocks])[:-1]:
        near[max(0, join - 2 * HOP) : join + 2 * HOP] = True
    assert near.sum() > 1000
    assert jumps[near].max() <= jumps[~near].max()


def test_stopped_while_computing(quick: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    utterance = Utterance(quick, 0, DEFAULT)
    utterance.push(some_codes(30))
    assert utterance.next_pcm() is not None
    steps = 0
    estimator = quick.flow.decoder.estimator
    original = estimator.forward

    def stop_in_first_step(*args: object) -> torch.Tensor:
        nonlocal steps
        steps += 1
        utterance.stop()
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(estimator, "forward", stop_in_first_step)
    with pytest.raises(StoppedError):
        utterance.next_pcm()
    assert steps == 1
