"""Ears for turn-taking: Silero's voice activity and smart-turn's end of turn, both from pipecat, on 16 kHz PCM."""

import asyncio
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt
from pipecat.audio.turn.base_turn_analyzer import EndOfTurnState
from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3
from pipecat.audio.vad.silero import SileroOnnxModel

from services.agent.legs.base import INPUT_RATE

WINDOW_SAMPLES = 512
WINDOW_BYTES = WINDOW_SAMPLES * 2
END_OF_TURN_BYTES = 8 * INPUT_RATE * 2  # smart-turn hears the last 8 s
CONTEXT_SAMPLES = 64  # of the window before, which the model sees again
STATE_SIZE = 128
# When the model's state is cleared, by the rule of pipecat's `SileroVADAnalyzer`, which tells the reason.
RESET_WINDOWS = 63  # windows of 2 s
RESET_QUIET_WINDOWS = 5
RESET_CONFIDENCE = 0.1

Floats = npt.NDArray[np.float32]


class VoiceModel:
    """Silero's network, one for all calls. What comes in the same round of the event loop is computed as one batch."""

    def __init__(self) -> None:
        path = resources.files("pipecat.audio.vad.data").joinpath("silero_vad.onnx")
        self._session = SileroOnnxModel(str(path)).session
        self._rate = np.array(INPUT_RATE, dtype=np.int64)
        self._waiting: list[tuple[Floats, Floats, asyncio.Future[tuple[float, Floats]]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, inputs: Floats, states: Floats) -> tuple[Floats, Floats]:
        """Confidences (n) and the states after them.

        Args:
            inputs: (n, CONTEXT_SAMPLES + WINDOW_SAMPLES), -1 to 1.
            states: (2, n, STATE_SIZE).
        """
        confidences, after = self._session.run(None, {"input": inputs, "state": states, "sr": self._rate})
        return confidences[:, 0], after

    async def hear(self, samples: Floats, state: Floats) -> tuple[float, Floats]:
        """One call's window and state, shapes as in `run` with n = 1; what others wait for is computed with it."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._waiting = loop, []
        future: asyncio.Future[tuple[float, Floats]] = loop.create_future()
        self._waiting.append((samples, state, future))
        if len(self._waiting) == 1:
            loop.call_soon(self._run_waiting)
        return await future

    def _run_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            confidences, states = self.run(
                np.concatenate([samples for samples, _, _ in waiting]),
                np.concatenate([state for _, state, _ in waiting], axis=1),
            )
        except Exception as error:
            for _, _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        for number, (_, _, future) in enumerate(waiting):
            if not future.done():
                future.set_result((float(confidences[number]), states[:, number : number + 1]))


@cache
def voice_model() -> VoiceModel:
    """The process' one; to load it takes a moment, which should not be a call's."""
    return VoiceModel()


class VoiceActivity:
    """One caller's voice activity; the model's state goes from window to window."""

    def __init__(self) -> None:
        self._model = voice_model()
        self._windows = 0  # since the state was cleared
        self._quiet_windows = 0  # in a row
        self._state, self._context = _nothing_heard()

    def confidence(self, window: bytes) -> float:
        """How sure it is that `WINDOW_SAMPLES` of 16-bit PCM hold speech, 0 to 1. Takes about 0.2 ms."""
        confidences, state = self._model.run(self._input(window), self._state)
        return self._heard(float(confidences[0]), state)

    async def hear(self, window: bytes) -> float:
        """The same, together with other calls' windows. One at a time."""
        return self._heard(*await self._model.hear(self._input(window), self._state))

    def _input(self, window: bytes) -> Floats:
        samples = np.frombuffer(window, np.int16).astype(np.float32)[None] / 32768.0
        whole = np.concatenate([self._context, samples], axis=1)
        self._context = whole[:, -CONTEXT_SAMPLES:]
        return whole

    def _heard(self, confidence: float, state: Floats) -> float:
        self._state = state
        self._windows += 1
        self._quiet_windows = self._quiet_windows + 1 if confidence < RESET_CONFIDENCE else 0
        if self._windows >= RESET_WINDOWS and self._quiet_windows >= RESET_QUIET_WINDOWS:
            self._windows = 0
            self._state, self._context = _nothing_heard()
        return confidence


def _nothing_heard() -> tuple[Floats, Floats]:
    """State and context."""
    return np.zeros((2, 1, STATE_SIZE), np.float32), np.zeros((1, CONTEXT_SAMPLES), np.float32)


class EndOfTurn:
    """Judges from intonation whether a caller has finished. One model for all calls, on one thread."""

    def __init__(self) -> None:
        self._analyzer = LocalSmartTurnAnalyzerV3(sample_rate=INPUT_RATE)
        self._analyzer.set_sample_rate(INPUT_RATE)
        self._one_at_a_time = asyncio.Lock()

    async def complete(self, audio: bytes) -> bool:
        """Whether the turn that ends with this PCM is complete. Takes some 50 ms of one core."""
        async with self._one_at_a_time:
            self._analyzer.clear()
            self._analyzer.append_audio(audio[-END_OF_TURN_BYTES:], True)
            state, _ = await self._analyzer.analyze_end_of_turn()
            return bool(state == EndOfTurnState.COMPLETE)

    async def close(self) -> None:
        """Frees the model's thread."""
        await self._analyzer.cleanup()
