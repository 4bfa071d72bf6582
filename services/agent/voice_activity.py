"""Ears for turn-taking: Silero's voice activity and smart-turn's end of turn, both from pipecat, on 16 kHz PCM."""

import asyncio

import numpy as np
from pipecat.audio.turn.base_turn_analyzer import EndOfTurnState
from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3
from pipecat.audio.vad.silero import SileroVADAnalyzer

from services.agent.legs.base import INPUT_RATE

WINDOW_SAMPLES = 512
WINDOW_BYTES = WINDOW_SAMPLES * 2
END_OF_TURN_BYTES = 8 * INPUT_RATE * 2  # smart-turn hears the last 8 s


class VoiceActivity:
    """One caller's voice activity; the model carries state from window to window."""

    def __init__(self) -> None:
        self._analyzer = SileroVADAnalyzer(sample_rate=INPUT_RATE)
        self._analyzer.set_sample_rate(INPUT_RATE)

    def confidence(self, window: bytes) -> float:
        """How sure it is that `WINDOW_SAMPLES` of 16-bit PCM hold speech, 0 to 1. Takes about 0.2 ms."""
        return float(np.asarray(self._analyzer.voice_confidence(window)).item())

    async def close(self) -> None:
        """Frees the model."""
        await self._analyzer.cleanup()


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
