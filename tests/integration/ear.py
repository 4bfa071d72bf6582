"""A supervisor's ear: listens in on a call over the HTTP API, and keeps what it hears."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import numpy as np
import numpy.typing as npt

from services.agent.api.keys import Role
from tests.integration.api import WAIT_S, Keys
from tests.integration.stack import Agent

RATE = 16_000
LOUD = 300

Pcm = npt.NDArray[np.int16]


def loud_s(pcm: Pcm) -> float:
    """Seconds of pieces of 20 ms with sound in them."""
    pieces = np.abs(pcm[: len(pcm) // 320 * 320].astype(np.int32)).reshape(-1, 320).max(axis=1, initial=0)
    return float((pieces > LOUD).sum() * 0.02)


def tone_s(pcm: Pcm, hertz: float) -> float:
    """Seconds of pieces of 50 ms that are this tone and little else; a busy machine leaves gaps between them."""
    pieces = pcm[: len(pcm) // 800 * 800].reshape(-1, 800) * np.hanning(800)
    spectra = np.abs(np.fft.rfft(pieces, axis=1)) ** 2
    middle = round(hertz * 800 / RATE)
    near, whole = spectra[:, middle - 2 : middle + 3].sum(axis=1), spectra.sum(axis=1)
    return float(((near > 0.9 * whole) & (whole > LOUD**2 * 800)).sum() * 0.05)


class Ear:
    """What was heard so far; `over` completes when the stream has ended by itself."""

    def __init__(self, response: httpx.Response) -> None:
        self.type = response.headers["content-type"]
        self._heard = bytearray()
        self.over = asyncio.create_task(self._listen(response))

    def heard(self) -> tuple[Pcm, Pcm]:
        """The caller's side and the bot's."""
        stereo = np.frombuffer(bytes(self._heard[: len(self._heard) // 4 * 4]), ">i2").astype(np.int16).reshape(-1, 2)
        return stereo[:, 0], stereo[:, 1]

    async def _listen(self, response: httpx.Response) -> None:
        async for piece in response.aiter_raw():
            self._heard += piece


@contextlib.asynccontextmanager
async def listening(agent: Agent, keys: Keys, call_id: str) -> AsyncIterator[Ear]:
    """Listens in as an operator."""
    async with httpx.AsyncClient(headers=keys.headers(Role.OPERATOR), timeout=WAIT_S) as http:
        url = f"{agent.page}/api/v1/calls/{call_id}/audio"
        async with http.stream("GET", url) as response:
            assert response.status_code == 200, (await response.aread()).decode()
            ear = Ear(response)
            try:
                yield ear
            finally:
                ear.over.cancel()
                await asyncio.gather(ear.over, return_exceptions=True)
