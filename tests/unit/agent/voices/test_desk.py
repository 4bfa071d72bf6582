import io
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import soundfile

from services.agent.personas import Persona
from services.agent.voices import desk
from services.agent.watermark.code import Code
from services.agent.watermark.detect import detect

RATE = 22_050
SECONDS = 6
PERSONA = Persona(name="mira", prompt="Be brief.")


class Personas:
    async def named(self, _: str) -> Any:
        return SimpleNamespace(persona=PERSONA)


def voice_desk(mark: Code | None) -> desk.VoiceDesk:
    models = SimpleNamespace(limits=SimpleNamespace(pcm_rate=RATE))
    return desk.VoiceDesk(cast(Any, None), cast(Any, None), cast(Any, models), cast(Any, Personas()), mark)


@pytest.mark.parametrize("marked", [True, False])
async def test_what_is_tried_bears_the_watermark(marked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = (np.random.default_rng(1).standard_normal(RATE * SECONDS) * 3000).astype(np.int16)

    async def said(*_: object) -> bytes:
        return noise.tobytes()

    monkeypatch.setattr(desk, "said", said)
    content = await voice_desk(Code.of() if marked else None).hear(desk.DEFAULT, "Hello.")
    heard, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert (rate, len(heard)) == (RATE, len(noise))
    assert detect(heard, rate, Code.of()).found == marked
