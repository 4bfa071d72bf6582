"""Real calls at log level DEBUG: who called whom and what was said is in no log, or, when wanted, in marked fields."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from services.agent.api.keys import Role
from tests.integration.api import Client, Keys, logged
from tests.integration.phone import phone
from tests.integration.stack import HOST, Stack, free_again, free_port
from tests.integration.test_actions import said

CALLER, CALLED, DIALLED, ELSEWHERE = "49305550199", "4930555018", "4930555888", "4930555777"
PERSONA = """\
name: default
prompt: The word of the day is xylophone.
greeting: Hello from Quartzfield.
temperature: 0
max_new_tokens: 60
"""
TOLD = [CALLER, CALLED, DIALLED, "Quartzfield", "quarrelsome"]
ALL = [*TOLD, ELSEWHERE, "xylophone"]
MARKED = re.compile(r'pii_\w+="(?:[^"\\]|\\.)*"')
WAIT_S = 150.0


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not await condition():
        assert time.monotonic() < end, f"not within {WAIT_S} s: {what}"
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("shown", [False, True])
async def test_personal_data_in_logs(
    tiny_stack: Stack, tmp_path: Path, require_debian: Callable[..., None], shown: bool
) -> None:
    require_debian("baresip")
    personas = tmp_path / "personas"
    personas.mkdir()
    (personas / "default.yaml").write_text(PERSONA)
    keys = Keys(tmp_path)
    arguments = ["--log-level", "DEBUG", "--log-personal-data", str(shown).lower(), "--api-keys-file", str(keys.file)]
    with tiny_stack.agent(2, personas, True, *arguments) as agent:
        async with (
            phone(tmp_path / "phone", CALLER) as handset,
            Client(agent, keys, Role.OPERATOR) as operator,
        ):
            await handset.call(f"sip:{CALLED}@{HOST}:{agent.sip_port}", timeout_s=WAIT_S)
            (call,) = (await operator.ask("GET", "/calls", 200)).json()["calls"]
            assert CALLER in call["from"]
            path = f"/calls/{call['call_id']}"

            async def conversation_has(role: str, text: str) -> bool:
                entries = (await operator.ask("GET", f"{path}/conversation", 200)).json()["entries"]
                return any(entry["role"] == role and text in entry["text"] for entry in entries)

            await until(lambda: conversation_has("assistant", "Quartzfield"), "the greeting was heard")
            await operator.ask("POST", f"{path}/say", 204, json={"text": "Do not be quarrelsome."})
            await until(lambda: conversation_has("assistant", "quarrelsome"), "the bot said it")
            await handset.press("7")
            await logged(agent, "services.agent.call: key ")
            if not shown:  # a turn through all the services
                await handset.play(said("opening-hours"))
                await until(lambda: conversation_has("user", ""), "the caller was heard")
            await operator.ask("POST", f"{path}/transfer", 409, json={"target": f"{ELSEWHERE} x"})
            target = f"sip:{DIALLED}@{HOST}:{free_port()}"
            dialled = await operator.ask("POST", "/calls", (201, 503), json={"target": target})  # 503: a slow machine
            if dialled.status_code == 201:
                await operator.ask("DELETE", f"/calls/{dialled.json()['call_id']}", 204)
            managed = await operator.ask("GET", "/personas", 409)
            assert "from its files alone" in managed.json()["detail"]
            await handset.hang_up()
        await free_again(agent)
        async with httpx.AsyncClient(timeout=60.0) as stranger:
            assert (await stranger.get(f"{agent.page}/api/v1/calls", params={"to": CALLER})).status_code == 401
    log = agent.process.log.read_text()
    services = {name: process.log.read_text() for name, process in tiny_stack.processes.items()}
    for name, text in {"agent": MARKED.sub("", log), **services}.items():
        assert not [word for word in ALL if word.casefold() in text.casefold()], f"in the log of {name}"
    assert "DEBUG" in log
    assert shown or "utterance tokenised" in services["tokenizer"]
    assert [word for word in TOLD if word in log] == (TOLD if shown else [])
    assert ("pii_digit=" in log) is shown
