"""One network for all calls hears what pipecat's analyzer hears, with one of its own for each."""

import asyncio

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr
from pipecat.audio.vad.silero import SileroVADAnalyzer

from services.agent.legs.base import INPUT_RATE
from services.agent.voice_activity import WINDOW_BYTES, VoiceActivity, voice_model
from tests.integration.stack import ROOT


def windows(name: str, seed: int) -> list[bytes]:
    """A question, long quiet noise (the state is cleared in it, more than once), and the question again."""
    wave, rate = soundfile.read(ROOT / "samples" / f"{name}.wav", dtype="float32", always_2d=True)
    speech = soxr.resample(wave.mean(axis=1), rate, INPUT_RATE) * 32767
    noise = np.random.default_rng(seed).normal(0, 15, 6 * INPUT_RATE)
    raw = np.concatenate([speech, noise, speech]).astype(np.int16).tobytes()
    return [raw[start : start + WINDOW_BYTES] for start in range(0, len(raw) - WINDOW_BYTES + 1, WINDOW_BYTES)]


def pipecats(heard: list[bytes]) -> npt.NDArray[np.float64]:
    analyzer = SileroVADAnalyzer(sample_rate=INPUT_RATE)
    analyzer.set_sample_rate(INPUT_RATE)
    return np.array([float(np.asarray(analyzer.voice_confidence(window)).item()) for window in heard])


def test_it_is_as_sure_as_pipecats_analyzer() -> None:
    heard = windows("opening-hours", 1)
    ears = VoiceActivity()
    ours = np.array([ears.confidence(window) for window in heard])
    assert ours == pytest.approx(pipecats(heard), abs=1e-5)
    assert ours.max() > 0.9
    assert ours.min() < 0.1


async def test_calls_that_share_a_batch_do_not_hear_each_other() -> None:
    spoken = [windows("opening-hours", 1), windows("goodbye", 2), windows("price-medium", 3)]
    ears = [VoiceActivity() for _ in spoken]

    async def hear(number: int) -> list[float]:
        return [await ears[number].hear(window) for window in spoken[number]]

    found = await asyncio.gather(*(hear(number) for number in range(len(spoken))))
    for confidences, heard in zip(found, spoken, strict=True):
        assert np.array(confidences) == pytest.approx(pipecats(heard), abs=1e-4)


async def test_windows_of_one_round_are_one_run_and_one_who_left_is_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    model = voice_model()
    real = model.run

    def run(inputs: npt.NDArray[np.float32], states: npt.NDArray[np.float32]) -> object:
        sizes.append(len(inputs))
        return real(inputs, states)

    monkeypatch.setattr(model, "run", run)
    tasks = [asyncio.create_task(VoiceActivity().hear(bytes(WINDOW_BYTES))) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert sizes == [3]
    assert isinstance(done[1], asyncio.CancelledError)
    assert done[0] == done[2]


async def test_a_failure_is_told_to_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(voice_model(), "run", fail)
    found = await asyncio.gather(*(VoiceActivity().hear(bytes(WINDOW_BYTES)) for _ in range(2)), return_exceptions=True)
    assert [str(error) for error in found] == ["broken", "broken"]
    monkeypatch.undo()
    assert await VoiceActivity().hear(bytes(WINDOW_BYTES)) < 0.1
