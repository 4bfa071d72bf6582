"""What of an agent's set-up is refused before any port opens."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from services.agent.app import StartError, _desk, _recordings
from services.agent.personas import Persona, PersonaError
from services.agent.settings import AgentSettings

RECORDED = Persona.model_validate({"name": "sales", "prompt": "Be brief.", "recording": {"enabled": True}})
NOBODY: Any = None  # a desk that takes no call needs no switchboard


async def test_recording_needs_a_directory_that_exists(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        assert _recordings(AgentSettings(), [], stack) is None
        with pytest.raises(PersonaError, match=r"'sales'.*--recordings"):
            _recordings(AgentSettings(), [RECORDED], stack)
        with pytest.raises(OSError, match="does not exist"):
            _recordings(AgentSettings(recordings=str(tmp_path / "none")), [RECORDED], stack)
        assert _recordings(AgentSettings(recordings=str(tmp_path)), [RECORDED], stack) is not None


def test_a_carrier_needs_a_public_url(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _desk(AgentSettings(), NOBODY) is None
    assert _desk(AgentSettings(public_url="https://voice.example.com"), NOBODY) is not None
    monkeypatch.setenv("TRUNKLINE_AGENT_TWILIO_AUTH_TOKEN", "top-secret")
    assert _desk(AgentSettings(public_url="https://voice.example.com"), NOBODY) is not None
    with pytest.raises(StartError, match="twilio is set up, but no --public-url is") as refused:
        _desk(AgentSettings(), NOBODY)
    assert "top-secret" not in str(refused.value)
    monkeypatch.setenv("TRUNKLINE_AGENT_TELNYX_PUBLIC_KEY", "wrong")
    with pytest.raises(StartError, match="Telnyx public key"):
        _desk(AgentSettings(public_url="https://voice.example.com"), NOBODY)
