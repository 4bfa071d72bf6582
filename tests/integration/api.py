"""The HTTP API for tests: keys of every role, and requests with them."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx

from services.agent.api.keys import Role, new_key
from tests.integration.stack import Agent

WAIT_S = 120.0


class Keys:
    """One key of each role, named like it, in a file for agents."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        made = {role: new_key(role.value, role) for role in Role}
        self.secrets = {role: secret for role, (secret, _) in made.items()}
        self.file = directory / "api-keys"
        self.file.write_text("".join(f"{line}\n" for _, line in made.values()))

    def headers(self, role: Role) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secrets[role]}"}


class Client:
    """Requests to one agent, as one role."""

    def __init__(self, agent: Agent, keys: Keys, role: Role) -> None:
        self._http = httpx.AsyncClient(base_url=f"{agent.page}/api/v1", headers=keys.headers(role), timeout=WAIT_S)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, method: str, path: str, status: int | tuple[int, ...], **more: Any) -> httpx.Response:
        """One request that must be answered with a status, or one of several."""
        response = await self._http.request(method, path, **more)
        allowed = status if isinstance(status, tuple) else (status,)
        assert response.status_code in allowed, f"{method} {path}: {response.status_code} {response.text}"
        return response

    async def events(self, call_id: str = "") -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """Names and contents of server-sent events."""
        params = {"call_id": call_id} if call_id else {}
        async with self._http.stream("GET", "/events", params=params, timeout=150.0) as response:
            assert response.status_code == 200
            name = ""
            async for line in response.aiter_lines():
                if line.startswith("event:"):
                    name = line.partition(":")[2].strip()
                elif line.startswith("data:"):
                    yield name, json.loads(line.partition(":")[2])


async def logged(agent: Agent, line: str, times: int = 1) -> None:
    """A line is written after its request was answered."""
    end = time.monotonic() + WAIT_S
    while agent.process.log.read_text().count(line) < times:
        assert time.monotonic() < end, f"{line!r} is not {times} times in the log: {agent.process.tail()}"
        await asyncio.sleep(0.02)
