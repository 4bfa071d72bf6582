"""The console in a real Chromium: calls that are watched, heard and acted on, personas, voices; and who may do what."""

import dataclasses
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import soundfile
from playwright.async_api import Browser, expect

from services.agent.api.keys import Role
from tests.integration.api import Keys
from tests.integration.chromium import chromium, holds, put_into
from tests.integration.console_page import WAIT_MS, Colours, Console, console
from tests.integration.patience import greedy_personas
from tests.integration.phone import phone
from tests.integration.sip_bots import until
from tests.integration.sipp_runs import sipp_callee
from tests.integration.stack import HOST, Agent, Process, Stack, free_again, nano_weights
from tests.integration.webrtc_caller import RATE, Waveform, sample
from tests.unit.decoder.test_speaker import write_model

pytestmark = pytest.mark.asyncio(loop_scope="module")
expect.set_options(timeout=WAIT_MS)

GREETING = "Hello, this is Mira at Harbour Parcel. How can I help you?"
SAID = "One moment please."
QUESTION_S = 9.0  # the greeting is over by then
SELECTED = "(area) => area.value.slice(area.selectionStart, area.selectionEnd)"
ACTIONS = {"Listen", "Say", "Keys", "Transfer", "Hang up"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def agent(stack: Stack, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An agent whose decoder can register voices, with personas of its own in Redis."""
    directory = tmp_path_factory.mktemp("console")
    command = [sys.executable, "-m", "services.decoder", "--listen", f"{HOST}:0", "--threads", "1"]
    command += ["--weights", str(nano_weights()["decoder"])]
    command += ["--speaker-model", str(write_model(directory / "speaker.onnx"))]
    decoder = Process("decoder", command, directory / "decoder.log")
    try:
        own = dataclasses.replace(stack, decoder=f"{HOST}:{decoder.wait_serving()}")
        more = ["--redis-prefix", "console:", "--api-keys-file", str(keys.file), "--api-rate", ""]
        # On a busy machine the question may come during the greeting, which must be heard whole.
        personas = greedy_personas(directory / "personas", supervision={"listen": True}, barge_in=False)
        with own.agent(3, personas, True, *more, persona_files="seed") as agent:
            yield agent
    finally:
        decoder.stop()


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("microphone") / "microphone.wav"
    asked: list[Waveform | float] = [QUESTION_S, sample("opening-hours")]
    put_into(path, *asked * 12)
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(microphone: Path, require_debian: Callable[..., None]) -> AsyncIterator[Browser]:
    require_debian("chromium", "baresip", "sip-tester")
    async with chromium(microphone) as browser:
        yield browser


async def hears(tab: Console, side: str) -> None:
    """Until the level of a side, taken from what is being played, is that of speech."""
    await holds(tab.page, f"document.querySelector('meter[data-side={side}]')?.value > 0.1")


async def test_who_is_let_in(browser: Browser, agent: Agent, keys: Keys) -> None:
    async with console(browser, agent, keys) as tab:
        await tab.page.goto(f"{agent.page}/console")
        await tab.page.get_by_label("API key").fill("tlk_wrong")
        await tab.page.keyboard.press("Enter")
        await expect(tab.page.get_by_role("alert")).to_contain_text("This key is not known.")
        await tab.sign_in(Role.VIEWER)
        await expect(tab.page.locator(".key-name")).to_have_text("viewer viewer")
        assert keys.secrets[Role.VIEWER] not in tab.page.url
        assert await tab.page.evaluate("JSON.stringify(localStorage)") == "{}", "a key is kept in the tab alone"
        await tab.page.reload()
        await expect(tab.page.get_by_role("heading", name="Calls")).to_be_visible()
        await tab.page.get_by_role("button", name="Sign out").click()
        await expect(tab.page.get_by_label("API key")).to_be_focused()
        assert await tab.page.evaluate("sessionStorage.length") == 0


async def test_a_module_that_does_not_arrive_is_asked_for_again(browser: Browser, agent: Agent, keys: Keys) -> None:
    async with console(browser, agent, keys) as tab:
        await tab.page.route("**/console/app.js", lambda route: route.abort(), times=1)
        await tab.page.goto(f"{agent.page}/console/")
        await expect(tab.page.get_by_label("API key")).to_be_focused()
        assert await tab.page.evaluate("sessionStorage.length") == 0
        await tab.page.route("**/console/app.js", lambda route: route.abort(), times=2)
        await tab.page.reload()
        await expect(tab.page.locator("body")).to_contain_text("The console could not be loaded.")


async def test_a_conversation_is_watched_heard_and_ended(browser: Browser, agent: Agent, keys: Keys) -> None:
    async with console(browser, agent, keys) as caller, console(browser, agent, keys) as supervisor:
        await caller.sign_in(Role.OPERATOR, "talk/default")
        await caller.press("Call")
        await supervisor.sign_in(Role.OPERATOR)
        row = supervisor.page.locator("tr[data-call]")
        await expect(row).to_contain_text("webrtc")
        await supervisor.picture("calls")
        await row.get_by_role("link").click()
        await expect(supervisor.page.locator(".captions .bot").first).to_contain_text(GREETING)
        await supervisor.press("Listen")
        await hears(supervisor, "caller")
        await hears(supervisor, "bot")
        await expect(supervisor.page.locator(".facts")).to_contain_text("operator")  # listens in
        await expect(supervisor.page.locator(".bars li").first).to_be_visible()
        await expect(caller.page.locator(".bars li").first).to_be_visible()
        await expect(supervisor.page.locator(".facts .badge")).to_have_text(re.compile("good|fair|poor"))
        await supervisor.picture("call")
        await caller.picture("talk")
        await supervisor.press("Stop listening")
        await expect(supervisor.page.locator(".events")).to_contain_text("no longer listens in")
        await supervisor.press("Transfer")
        await supervisor.page.get_by_label("To", exact=True).fill("100")
        await supervisor.confirm("Transfer")
        await expect(supervisor.page.locator("dialog .problem")).to_contain_text("cannot be transferred")
        await supervisor.page.keyboard.press("Escape")
        await expect(supervisor.page.get_by_role("button", name="Transfer")).to_be_focused()
        await supervisor.press("Hang up")
        await supervisor.confirm("Hang up")
        await expect(supervisor.page.locator(".head .badge")).to_have_text("ended")
        await expect(supervisor.page.get_by_role("button", name="Hang up")).to_have_count(0)
        await expect(caller.page.get_by_role("status")).to_have_text("The call has ended.")
    await free_again(agent)


async def test_a_phone_call_is_told_something_sent_keys_and_transferred(
    browser: Browser, agent: Agent, keys: Keys, tmp_path: Path
) -> None:
    async with (
        sipp_callee("uas") as colleague,
        phone(tmp_path) as handset,
        console(browser, agent, keys, width=360, height=720, colours="dark") as tab,
    ):
        await tab.sign_in(Role.OPERATOR)
        await handset.call(agent.sip_uri, timeout_s=WAIT_MS / 1000)
        await tab.page.locator("tr[data-call]").get_by_role("link").click()
        await expect(tab.page.locator(".captions .bot").first).to_be_visible()
        await tab.press("Say")
        await tab.page.get_by_label("Text", exact=True).fill(SAID)
        await tab.confirm("Say")
        await expect(tab.page.locator(".captions")).to_contain_text(SAID)
        await tab.press("Keys")
        await tab.page.get_by_label("Keys", exact=True).fill("5#")
        await tab.confirm("Send")
        await until(lambda: [event["param"] for event in handset.events_of("CALL_DTMF_START")] == ["5", "#"], 60)
        await expect(tab.page.locator("dialog")).to_have_count(0)
        await tab.picture("phone")
        await tab.press("Transfer")
        await tab.page.get_by_label("To", exact=True).fill(colleague)
        await tab.confirm("Transfer")
        await expect(tab.page.locator(".head .badge")).to_have_text("ended")
        await expect(tab.page.locator(".facts")).to_contain_text("transferred")
        await until(lambda: any(e["peeruri"] == colleague for e in handset.events_of("CALL_ESTABLISHED")), 60)
    await free_again(agent)


async def test_a_persona_is_edited_broken_and_rolled_back(browser: Browser, agent: Agent, keys: Keys) -> None:
    async with console(browser, agent, keys) as tab:
        await tab.sign_in(Role.ADMIN, "personas/new%20persona")
        editor = tab.page.get_by_role("textbox")
        await editor.fill("name: desk\nprompt: You are at the desk.\ngreeting: Good morning.\n")
        await tab.press("Save")
        await expect(tab.page.get_by_role("heading", name="desk")).to_be_visible()
        await expect(tab.page.locator("tr[data-version]")).to_have_count(1)
        first = await editor.input_value()
        await editor.fill(first.replace("Good morning", "Good evening"))
        await tab.press("Save")
        await expect(tab.page.get_by_role("status").first).to_have_text("Saved as version 2.")
        await editor.fill(f"{await editor.input_value()}temprature: 1\nbarge_in: maybe\n")
        await tab.press("Check")
        problems = tab.page.locator(".problems li")
        await expect(problems.filter(has_text="Line 4")).to_contain_text("temprature Extra inputs are not permitted")
        await expect(problems.filter(has_text="Line 5").first).to_contain_text("barge_in")
        await expect(tab.page.locator(".gutter .wrong")).to_have_text(["4", "5"])
        await tab.picture("persona")
        await tab.press("Save")
        await expect(problems.first).to_be_visible()
        await problems.get_by_role("button", name="Line 4").click()
        await expect(editor).to_be_focused()
        assert await editor.evaluate(SELECTED) == "temprature: 1"
        await tab.press("Discard changes")
        await tab.press("What changed in version 2")
        await expect(tab.page.locator(".diff .removed")).to_contain_text("Good morning")
        await expect(tab.page.locator(".diff .added")).to_contain_text("Good evening")
        await tab.page.locator(".diff").scroll_into_view_if_needed()
        await tab.picture("history")
        await tab.press("Roll back to version 1")
        await tab.confirm("Roll back")
        await expect(tab.page.locator("tr[data-version]")).to_have_count(3)
        assert await editor.input_value() == first
        async with console(browser, agent, keys) as other:
            await other.sign_in(Role.ADMIN, "personas/desk")
            await other.page.get_by_role("textbox").fill(first.replace("Good morning", "Welcome"))
            await other.press("Save")
            await expect(other.page.get_by_role("status").first).to_have_text("Saved as version 4.")
        await editor.fill(first.replace("Good morning", "Hi"))
        await tab.press("Save")
        await expect(tab.page.locator("main > section > .problem")).to_contain_text("version 4, not at 3")
        await tab.press("Discard mine and read theirs")
        await expect(editor).to_have_value(first.replace("Good morning", "Welcome"))
        await tab.press("Delete")
        await tab.confirm("Delete")
        await expect(tab.page.get_by_role("heading", name="Personas")).to_be_visible()
        await expect(tab.page.get_by_role("link", name="default")).to_be_visible()
        await expect(tab.page.get_by_role("link", name="desk")).to_have_count(0)


async def test_a_persona_is_tried_before_it_is_saved(browser: Browser, agent: Agent, keys: Keys) -> None:
    async with console(browser, agent, keys) as tab:
        await tab.sign_in(Role.ADMIN, "personas/default")
        editor = tab.page.get_by_role("textbox")
        await editor.fill((await editor.input_value()).replace(GREETING, "This is a draft."))
        await tab.press("Try it unsaved")
        await tab.press("Call")
        await expect(tab.page.locator(".captions .bot").first).to_contain_text("This is a draft.")
        await tab.press("Hang up")
        await expect(tab.page.locator(".conversation").get_by_role("status")).to_have_text("The call has ended.")
        await expect(tab.page.locator("tr[data-version]")).to_have_count(1)
    await free_again(agent)


async def test_a_voice_is_registered_and_heard(browser: Browser, agent: Agent, keys: Keys, tmp_path: Path) -> None:
    clip = tmp_path / "mira.wav"
    soundfile.write(clip, np.tile(sample("opening-hours"), 3)[: 8 * RATE], RATE, subtype="PCM_16")
    async with console(browser, agent, keys) as tab:
        await tab.sign_in(Role.ADMIN, "voices")
        await tab.press("Add a voice")
        await tab.page.get_by_label("Name", exact=True).fill("mira")
        await tab.page.get_by_label("Clip", exact=True).set_input_files(clip)
        await tab.page.get_by_label("Who agreed").fill("Mira Harbour")
        await tab.page.get_by_label("When", exact=True).fill(date.today().isoformat())
        add = tab.page.locator("dialog").get_by_role("button", name="Add")
        await expect(add).to_have_attribute("aria-disabled", "true")  # not without the consent's note
        await tab.page.get_by_label("To what").fill("The bot may speak with her voice; her letter is filed.")
        await tab.confirm("Add")
        card = tab.page.locator("[data-voice=mira]")
        await expect(card).to_contain_text("Mira Harbour")
        await card.get_by_role("button", name="Hear it").click()
        await holds(tab.page, "document.querySelector('[data-voice=mira] audio').currentTime > 0.1")
        assert await card.locator("audio").evaluate("(audio) => audio.duration") > 0.5
        await expect(card.locator(".badge")).to_have_count(0)  # the decoders have learnt of it
        await tab.picture("voices")
        await card.get_by_role("button", name="Delete").click()
        await tab.confirm("Delete")
        await expect(card).to_have_count(0)


async def test_a_viewer_is_offered_what_a_viewer_may_do_and_refused_the_rest(
    browser: Browser, agent: Agent, keys: Keys
) -> None:
    async with console(browser, agent, keys) as caller, console(browser, agent, keys) as tab:
        await caller.sign_in(Role.VIEWER, "talk")
        await expect(caller.page.get_by_label("Persona")).to_have_count(0)
        await caller.press("Call")
        await tab.sign_in(Role.VIEWER)
        row = tab.page.locator("tr[data-call]")
        await expect(row).to_be_visible()
        assert await tab.offered() == set(), "no call is placed"
        call_id = await row.get_attribute("data-call")
        await row.get_by_role("link").click()
        await expect(tab.page.locator(".captions .bot").first).to_contain_text("Hello")
        assert not await tab.offered() & ACTIONS
        for method, path, body in (
            ("GET", f"/calls/{call_id}/audio", None),
            ("DELETE", f"/calls/{call_id}", None),
            ("POST", f"/calls/{call_id}/say", {"text": "x"}),
            ("POST", f"/calls/{call_id}/transfer", {"target": "100"}),
            ("POST", f"/calls/{call_id}/dtmf", {"digits": "1"}),
            ("POST", "/calls", {"target": "100"}),
            ("PUT", "/personas/default", {"name": "default", "prompt": "x"}),
            ("POST", "/personas:validate", {}),
            ("POST", "/personas:try", {}),
            ("POST", "/personas/default/rollback", {"version": 1}),
            ("DELETE", "/personas/default", None),
            ("POST", "/voices/default:try", {"text": "x"}),
            ("DELETE", "/voices/mira", None),
        ):
            assert await tab.status(method, path, body) == 403, f"{method} {path}"
        await tab.go("personas")
        await expect(tab.page.get_by_role("link", name="default")).to_be_visible()
        await expect(tab.page.get_by_role("link", name="New persona")).to_have_count(0)
        await tab.go("personas/default")
        await expect(tab.page.get_by_role("textbox")).not_to_be_editable()
        await expect(tab.page.locator("tr[data-version]")).to_have_count(1)
        assert await tab.offered() == set()
        await expect(tab.page.get_by_role("link", name="Talk", exact=True)).to_have_count(1)  # that of the navigation
        await tab.go("voices")
        await expect(tab.page.locator("[data-voice=default]")).to_be_visible()
        assert await tab.offered() == set()
        await tab.go("system")
        await expect(tab.page.locator("tbody tr").first).to_contain_text("Tokenizer")
        await caller.press("Hang up")
    await free_again(agent)


@pytest.mark.parametrize(("colours", "width"), [("light", 1200), ("dark", 360)])
async def test_every_view_is_legible_and_fits(
    browser: Browser, agent: Agent, keys: Keys, colours: Colours, width: int
) -> None:
    async with console(browser, agent, keys, width=width, height=720, colours=colours) as tab:
        await tab.page.goto(f"{agent.page}/console/")
        await expect(tab.page.get_by_label("API key")).to_be_focused()
        assert await tab.pale() == []
        await tab.sign_in(Role.ADMIN)
        for place, there in (
            ("calls", ".empty"),
            ("talk", "option >> nth=1"),
            ("personas", "tbody tr"),
            ("personas/default", "tr[data-version]"),
            ("voices", "[data-voice]"),
            ("system", "tbody tr"),
        ):
            await tab.go(place)
            await tab.page.locator(there).first.wait_for(state="attached")
            assert await tab.pale() == [], place
            assert await tab.nameless() == [], place
            assert await tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), place
            await expect(tab.page.locator("h1")).to_be_focused()
            if place == "system" and colours == "light":
                await tab.picture("system")
        await tab.press("Colours: system")
        assert await tab.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(251, 250, 247)"
        await tab.page.reload()
        await tab.press("Colours: light")
        assert await tab.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 23)"


async def test_everything_is_reached_from_the_keyboard(browser: Browser, agent: Agent, keys: Keys) -> None:
    async with console(browser, agent, keys) as tab:
        page = tab.page

        async def tab_to(name: str) -> None:
            for _ in range(40):
                await page.keyboard.press("Tab")
                if await page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.innerText") == name:
                    return
            raise AssertionError(f"Tab does not reach {name!r}")

        await page.goto(f"{agent.page}/console/")
        await expect(page.get_by_label("API key")).to_be_focused()
        await page.keyboard.type(keys.secrets[Role.ADMIN])
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Calls")).to_be_focused()
        await tab_to("Place a call")
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("To", exact=True)).to_be_focused()
        await tab_to("Cancel")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Place a call")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("To", exact=True)).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Place a call")).to_be_focused()
        await page.reload()
        await expect(page.get_by_role("heading", name="Calls")).to_be_focused()
        await tab_to("Personas")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Personas")).to_be_focused()
        await page.get_by_role("link", name="default").wait_for()
        await tab_to("default")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="default")).to_be_focused()
        await page.get_by_role("textbox").wait_for()
        await tab_to("Settings of default as YAML")
        await page.keyboard.press("Control+End")
        await page.keyboard.type("unknown: 1")
        await tab_to("Check")
        await page.keyboard.press("Enter")
        await expect(page.locator(".problems li")).to_contain_text("unknown")
        await expect(page.get_by_role("button", name="Check")).to_be_focused()
