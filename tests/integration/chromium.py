"""Debian's Chromium with a WAV file as its microphone, and waiting in a page."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import soundfile
from playwright.async_api import Browser, Page, async_playwright

from tests.integration.webrtc_caller import RATE, Waveform

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
WAIT_S = 150.0


@contextlib.asynccontextmanager
async def chromium(microphone: Path | None = None) -> AsyncIterator[Browser]:
    """A browser; its microphone plays a WAV file from the beginning for each page that opens it."""
    heard = [f"--use-file-for-fake-audio-capture={microphone}%noloop"] if microphone else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *heard])
        yield browser
        await browser.close()


def put_into(microphone: Path, *pieces: Waveform | float) -> None:
    """What a page hears that opens the microphone from now on: waves, seconds of silence, and silence."""
    waves = [np.zeros(int(piece * RATE), np.float32) if isinstance(piece, float) else piece for piece in pieces]
    soundfile.write(microphone, np.concatenate([*waves, np.zeros(60 * RATE, np.float32)]), RATE, subtype="PCM_16")


async def holds(page: Page, condition: str) -> None:
    """Until an expression of JavaScript is true in a page; Playwright's own waiting is stopped by the page's policy."""
    async with asyncio.timeout(WAIT_S):
        while not await page.evaluate(condition):
            await asyncio.sleep(0.05)
