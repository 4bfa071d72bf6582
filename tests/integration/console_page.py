"""The console in a real Chromium, for tests and for the pictures of the documentation."""

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, Page

from services.agent.api.keys import Role
from tests.integration.api import Keys
from tests.integration.stack import Agent

Colours = Literal["light", "dark"]
WAIT_MS = 120_000
LOOKS = (Path(__file__).parent / "console_looks.js").read_text()
PICTURES = os.environ.get("TRUNKLINE_PICTURES", "")  # the directory that pictures go to; empty: none are kept


class Console:
    """The console in one tab of its own, whose storage no other tab shares."""

    def __init__(self, page: Page, agent: Agent, keys: Keys) -> None:
        self.page = page
        self._agent = agent
        self._keys = keys
        self.errors: list[str] = []
        self.noted: list[str] = []  # for whoever looks into a failure
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on(
            "console", lambda line: (self.errors if "Content Security" in line.text else self.noted).append(line.text)
        )
        page.on("requestfailed", lambda request: self.noted.append(f"{request.url}: {request.failure}"))
        page.on("crash", lambda _: self.errors.append("the page crashed"))

    async def sign_in(self, role: Role, place: str = "") -> None:
        """With a key of a role; then goes to a place, such as `personas/default`."""
        await self.page.goto(f"{self._agent.page}/console/")
        await self.page.get_by_label("API key").fill(self._keys.secrets[role])
        await self.page.keyboard.press("Enter")
        await self.page.get_by_role("navigation").wait_for()
        await self.go(place)

    async def go(self, place: str) -> None:
        """To a place of the console."""
        await self.page.evaluate("(place) => { location.hash = `#/${place}`; }", place or "calls")
        await self.page.locator("main h1").wait_for()

    async def press(self, name: str) -> None:
        """A button of the page by its name."""
        await self.page.locator("main, .top").get_by_role("button", name=name, exact=True).click()

    async def confirm(self, name: str) -> None:
        """A button of the dialog that is open or about to be."""
        await self.page.locator("dialog[open]").get_by_role("button", name=name, exact=True).click()

    async def offered(self) -> set[str]:
        """Names of all buttons that stand there."""
        texts = await self.page.locator("main").get_by_role("button").all_inner_texts()
        return {" ".join(text.split()) for text in texts}

    async def status(self, method: str, path: str, body: object = None) -> int:
        """Of a request that the page makes with the key it was given."""
        code = """async ([method, path, body]) => {
            const headers = { Authorization: `Bearer ${sessionStorage.getItem("trunkline-console-key")}` };
            if (body !== null) headers["Content-Type"] = "application/json";
            const init = { method, headers, ...(body !== null && { body: JSON.stringify(body) }) };
            return (await fetch(`../api/v1${path}`, init)).status;
        }"""
        found: int = await self.page.evaluate(code, [method, path, body])
        return found

    async def pale(self) -> list[str]:
        """Texts that have too little contrast."""
        found: list[str] = await self.page.evaluate(f"({LOOKS}).pale()")
        return found

    async def nameless(self) -> list[str]:
        """What can be operated and has no name for those who cannot see it."""
        found: list[str] = await self.page.evaluate(f"({LOOKS}).nameless()")
        return found

    async def picture(self, name: str) -> None:
        """For the documentation, where it was asked for."""
        if PICTURES:
            await self.page.evaluate("document.activeElement.blur()")
            await self.page.mouse.move(0, 0)
            await self.page.screenshot(path=Path(PICTURES) / f"console-{name}.png")


@contextlib.asynccontextmanager
async def console(
    browser: Browser, agent: Agent, keys: Keys, width: int = 1200, height: int = 800, colours: Colours = "light"
) -> AsyncIterator[Console]:
    """A tab; fails when the page had an error or broke its own content security policy."""
    context = await browser.new_context(viewport={"width": width, "height": height}, color_scheme=colours)
    tab = Console(await context.new_page(), agent, keys)
    try:
        yield tab
        assert tab.errors == []
    except BaseException as error:
        error.add_note("\n".join(["the page says:", *tab.errors, *tab.noted]))
        raise
    finally:
        await context.close()
