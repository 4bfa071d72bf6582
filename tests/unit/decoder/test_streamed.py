"""The same 200 tokens streamed and decoded as one block: no joins to hear, the same words to understand."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from benchmarks import spoken
from benchmarks.decoder_driving import OFFLINE, blocks, new_utterance, wave_of
from services.decoder import weights
from services.decoder.mel import HOP, log_mel
from services.decoder.vocoder.stream import VocoderStream
from services.decoder.weights import Checkpoint
from training.judge import error_rate, transcribe
from training.paths import REPLY_RATE, WEIGHTS

TOKENS = 200
SEED = 1
Waveform = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def nano() -> Checkpoint:
    return weights.load(WEIGHTS / "decoder")


@pytest.fixture(scope="module")
def codes() -> list[int]:
    """Sentences in the voice that weights/nano speaks."""
    return spoken.passage().codes[:TOKENS]


@pytest.fixture(params=["istft", "source_filter"])
def streamed(
    request: pytest.FixtureRequest,
    tiny: Checkpoint,
    nano: Checkpoint,
    codes: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> "Streamed":
    checkpoint = tiny.sampled(flow_steps=2) if request.param == "istft" else nano
    assert checkpoint.config.hift.head == request.param
    mels: list[Tensor] = []
    push = VocoderStream.push

    def record(self: VocoderStream, mel: Tensor, after: Tensor, last: bool) -> Tensor:
        mels.append(mel)
        return push(self, mel, after, last)

    monkeypatch.setattr(VocoderStream, "push", record)
    waves = [block.wave for block in blocks(new_utterance(checkpoint, [code % 512 for code in codes], SEED))]
    monkeypatch.undo()
    assert len(waves) > 4
    return Streamed(checkpoint, torch.cat(mels, dim=2), waves)


@dataclass(frozen=True)
class Streamed:
    checkpoint: Checkpoint
    mel: Tensor
    waves: list[Waveform]

    @property
    def wave(self) -> Waveform:
        return np.concatenate(self.waves)

    @property
    def joins(self) -> npt.NDArray[np.int64]:
        """Indices of the first sample of each block but the first."""
        return np.cumsum([len(wave) for wave in self.waves])[:-1]


def test_no_step_at_a_join(streamed: Streamed) -> None:
    steps, joins = np.abs(np.diff(streamed.wave)), streamed.joins - 1
    inside = np.delete(steps, joins)
    assert inside.max() > 0.01
    assert steps[joins].max() <= inside.max()


@torch.inference_mode()
def test_a_join_is_not_heard(streamed: Streamed) -> None:
    """Around joins the spectrum is that of the same mel rendered in one piece. (The waveform need not be: F0 at a join
    was found before all frames that follow were final, and from there on the harmonics' phase is another one.) A phase
    begun anew, lost source samples or a spoilt cross-fade stand out by 0.3 nepers and more."""
    vocoder, wave = streamed.checkpoint.vocoder, torch.from_numpy(streamed.wave)
    whole = VocoderStream(vocoder, SEED).push(streamed.mel, streamed.mel[:, :, :0], last=True)
    assert wave.shape == whole.shape
    distance = (log_mel(wave[None]) - log_mel(whole[None]))[0].abs().mean(0)
    for join in streamed.joins // HOP:
        assert float(distance[join - 2 : join + 3].max()) < 0.2


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
    assert error_rate([said_offline], [said]) <= 0.25
    assert error_rate([meant], [said]) <= error_rate([meant], [said_offline]) + 0.05
