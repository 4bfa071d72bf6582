"""A real Chromium calls the agent from the web page, with a WAV file as its microphone."""

import asyncio
import base64
import io
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import av
import grpc
import numpy as np
import numpy.typing as npt
import pytest
from playwright.async_api import Browser, Page

from tests.integration.chromium import chromium, holds, put_into
from tests.integration.patience import TRIES, greedy_personas, judged
from tests.integration.personas import short_persona
from tests.integration.stack import Agent, Stack, free_again
from tests.integration.webrtc_caller import RATE, Waveform, sample, spoken
from training.judge import normalise
from trunkline.v1 import calls_pb2, calls_pb2_grpc

BEFORE_S = 10.0  # the greeting is over by then
AGAIN_S = 25.0  # so is an answer
RELOAD_S = 4.0  # the connection is there again
WAIT_MS = 150_000
# Records what the page plays, from the moment it plays something, and counts how often the bot has finished speaking.
RECORD = """
() => new Promise((resolve) => {
  const bot = document.getElementById("bot");
  let speaking = false;
  window.botFinished = 0;
  new MutationObserver(() => {
    const on = bot.classList.contains("on");
    if (speaking && !on) window.botFinished += 1;
    speaking = on;
  }).observe(bot, { attributes: true });
  const look = () => {
    const stream = document.getElementById("remote").srcObject;
    if (!stream) return setTimeout(look, 20);
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    window.quiet = () => new Promise((done) => {
      let since = null;
      const poll = () => {
        analyser.getFloatTimeDomainData(samples);
        const loud = samples.some((sample) => Math.abs(sample) > 0.01);
        since = loud ? null : since ?? context.currentTime;
        if (since !== null && context.currentTime - since > 1) done();
        else setTimeout(poll, 20);
      };
      poll();
    });
    const chunks = [];
    const recorder = new MediaRecorder(stream, { mimeType: "audio/webm;codecs=opus" });
    recorder.ondataavailable = (event) => chunks.push(event.data);
    window.recorded = async () => {
      const bytes = new Uint8Array(await new Blob(chunks).arrayBuffer());
      return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
    };
    recorder.start(200);
    resolve();
  };
  look();
})
"""


@pytest.fixture(scope="module")
def agent(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with stack.agent(capacity=1, personas=greedy_personas(tmp_path_factory.mktemp("personas"))) as agent:
        yield agent


@pytest.fixture
def microphone(tmp_path: Path) -> Path:
    """Silence while the bot greets, then a question."""
    path = tmp_path / "question.wav"
    put_into(path, BEFORE_S, sample("opening-hours"))
    return path


@pytest.fixture
async def browser(microphone: Path, require_debian: Callable[..., None]) -> AsyncIterator[Browser]:
    require_debian("chromium")
    async with chromium(microphone) as browser:
        yield browser


@pytest.fixture(autouse=True)
async def free_line(agent: Agent) -> None:
    """A browser that was killed does not say goodbye; its call ends when its packets have stopped for a while."""
    await free_again(agent)


async def open_page(browser: Browser, agent: Agent, width: int = 900) -> tuple[Page, list[str]]:
    page = await browser.new_page(viewport={"width": width, "height": 700})
    page.set_default_timeout(WAIT_MS)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    await page.goto(agent.page)
    return page, problems


async def live_calls(agent: Agent) -> list[str]:
    async with grpc.aio.insecure_channel(agent.calls) as channel:
        listed = await calls_pb2_grpc.CallsStub(channel).ListCalls(calls_pb2.ListCallsRequest())
    return [call.call_id for call in listed.calls]


def pcm_of(recording: str) -> Waveform:
    """A WebM recording as 16 kHz mono."""
    pieces: list[npt.NDArray[np.float32]] = []
    resampler = av.AudioResampler("flt", "mono", RATE)
    with av.open(io.BytesIO(base64.b64decode(recording)), mode="r") as container:
        for frame in container.decode(audio=0):
            pieces += [piece.to_ndarray()[0].astype(np.float32) for piece in resampler.resample(frame)]
    return np.concatenate(pieces)


async def said_aloud(wave: Waveform) -> list[str]:
    """The judge's words of each thing said: of a long recording it may hear no more than the beginning."""
    loud = np.flatnonzero(np.abs(wave) > 0.01)
    pieces = np.split(loud, np.flatnonzero(np.diff(loud) > RATE) + 1)
    return [word for at in pieces if len(at) for word in normalise(await judged(wave[at[0] : at[-1] + 1], RATE))]


async def test_a_question_is_answered_in_sound_and_on_the_page(
    browser: Browser, agent: Agent, microphone: Path, tmp_path: Path
) -> None:
    asked: list[Waveform | float] = [sample("opening-hours"), AGAIN_S]
    put_into(microphone, BEFORE_S, *asked * TRIES)
    page, problems = await open_page(browser, agent)
    recording = asyncio.create_task(page.evaluate(RECORD))  # looks for the stream from before it is there
    await page.click("#call")
    await recording
    await holds(page, "window.botFinished >= 1")
    await page.locator("#turns tr").wait_for(state="attached")
    await page.locator("details summary").click()
    await holds(page, "window.botFinished >= 2")
    await page.evaluate("window.quiet()")  # a busy browser plays what it has heard of some time later
    await page.screenshot(path=os.environ.get("TRUNKLINE_SCREENSHOT", tmp_path / "page.png"))
    shown = await page.locator("#captions li").all_inner_texts()
    assert shown[0] == "Hello, this is Mira at Harbour Parcel. How can I help you?"
    for fact in ("nine", "six", "ten", "two", "Sunday"):
        assert fact in shown[1]
    cells = await page.locator("#turns td").all_inner_texts()
    assert cells[0] == "1"
    decided, *models, packet = map(int, cells[1:])
    assert models == sorted(models)
    assert packet >= max(decided, *models)
    facts, words = {"friday", "nine", "six", "saturday", "ten", "two", "sunday"}, list[str]()
    for answers in range(1, TRIES + 1):
        await holds(page, f"window.botFinished > {answers}")
        await page.evaluate("window.quiet()")
        words = await said_aloud(pcm_of(await page.evaluate("window.recorded()")))
        if facts <= set(words):
            break
    assert facts <= set(words), f"the bot's voice says: {' '.join(words)}"
    await page.click("#call")
    assert await page.inner_text("#status") == "The call has ended."
    assert await page.inner_text("#call") == "Call"
    assert problems == []


async def test_a_reloaded_page_is_back_in_its_conversation(
    browser: Browser, agent: Agent, microphone: Path, stack: Stack
) -> None:
    """What the small model makes of its memory is not always right; that it has it is seen in the conversation."""
    put_into(microphone, BEFORE_S, sample("parcel-number"))
    page, problems = await open_page(browser, agent)
    await page.click("#call")
    await page.locator("#captions li >> text=four seven one nine").wait_for()
    shown = await page.locator("#captions li").all_inner_texts()
    [call_id] = await live_calls(agent)
    put_into(microphone, RELOAD_S, spoken("which number did i give you"))
    await page.reload()
    await page.locator("#call[data-state=live]").wait_for()
    await page.locator("#captions li").nth(len(shown) - 1).wait_for()
    assert await page.locator("#captions li").all_inner_texts() == shown
    await page.locator("#turns tr").wait_for(state="attached")
    await page.locator("#captions li").nth(len(shown)).wait_for()
    assert await live_calls(agent) == [call_id]
    store = stack.store("reader")
    entries = await store.conversation(call_id)
    await store.redis.close()
    roles = [entry.role.value for entry in entries]
    assert roles[:5] == ["system", "assistant", "user", "assistant", "user"], "one conversation over the reload"
    assert "four seven one nine" in entries[3].text
    await page.click("#call")
    await page.locator("text=The call has ended.").wait_for()
    assert await page.evaluate("sessionStorage.length") == 0
    assert problems == []


async def test_a_page_whose_call_is_over_says_so_and_can_call_again(browser: Browser, agent: Agent) -> None:
    page, problems = await open_page(browser, agent)
    await page.evaluate("sessionStorage.setItem('trunkline-call', 'of yesterday')")
    await page.reload()
    await page.locator("text=The call has ended.").wait_for()
    assert await page.inner_text("#call") == "Call"
    assert problems == []


async def test_a_second_caller_is_told_that_the_lines_are_busy(browser: Browser, agent: Agent) -> None:
    first, problems = await open_page(browser, agent)
    await first.click("#call")
    await first.locator("#call[data-state=live]").wait_for()
    second, more = await open_page(browser, agent)
    await second.click("#call")
    await second.locator("text=All lines are busy. Please try again in").wait_for()
    assert await second.inner_text("#call") == "Call"
    await first.click("#call")
    assert problems + more == []


async def test_a_call_that_the_agent_ends_is_shown_as_ended(
    browser: Browser, tiny_stack: Stack, tmp_path: Path
) -> None:
    with tiny_stack.agent(capacity=1, personas=short_persona(tmp_path)) as own:
        page, problems = await open_page(browser, own)
        await page.click("#call")
        await page.locator("#call[data-state=live]").wait_for()
        own.process.stop()
        await page.locator("text=The call has ended.").wait_for()
        assert problems == []


async def test_the_page_fits_a_phone_and_works_from_the_keyboard(browser: Browser, agent: Agent) -> None:
    page, problems = await open_page(browser, agent, width=360)
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.id") == "call"
    assert await page.locator("#captions").get_attribute("aria-live") == "polite"
    assert await page.locator("#status").get_attribute("role") == "status"
    assert problems == []


async def test_the_page_loads_nothing_from_elsewhere(browser: Browser, agent: Agent) -> None:
    page = await browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(agent.page)
    assert len(asked) >= 3
    assert all(url.startswith(agent.page) for url in asked), asked
