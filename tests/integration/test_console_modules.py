"""The pages' pure modules in a real Chromium: what they make of events, streams, audio, diffs and addresses."""

import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page

from services.agent.http import WEB
from tests.integration.chromium import chromium
from tests.integration.stack import HOST

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and says nothing."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def files() -> Iterator[str]:
    """Where the pages' files are served, without an agent."""
    server = ThreadingHTTPServer((HOST, 0), functools.partial(Quiet, directory=str(WEB)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://{HOST}:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(files: str, require_debian: Callable[..., None]) -> AsyncIterator[Page]:
    require_debian("chromium")
    async with chromium() as browser:
        page = await browser.new_page()
        await page.goto(f"{files}/icon.svg")
        yield page


async def of(page: Page, module: str, expression: str) -> Any:
    """The value of an expression over a module `m`."""
    return await page.evaluate(f"async () => {{ const m = await import('/{module}'); return {expression}; }}")


# as a call's stream brings it: an answer, the caller's words to which it was one, another answer that is cut
ANSWERS = """
let lines = m.spoken([], { turn: 0, answer: 1, text: "Hello.", done: true, interrupted: false });
lines = m.spoken(lines, { turn: 1, answer: 2, text: "We", done: false, interrupted: false });
lines = m.heard(lines, 1, "when are you open");
lines = m.heard(lines, 1, "when are you open");
lines = m.spoken(lines, { turn: 1, answer: 2, text: "We are open", done: true, interrupted: true });
"""


async def test_captions_stand_in_the_order_of_the_conversation(page: Page) -> None:
    lines = await of(page, "shared/captions.js", f"(() => {{ {ANSWERS} return lines; }})()")
    assert [(line["who"], line["turn"], line["text"], line["cut"]) for line in lines] == [
        ("bot", 0, "Hello.", False),
        ("caller", 1, "when are you open", False),
        ("bot", 1, "We are open", True),
    ]
    assert len({line["id"] for line in lines}) == 3


async def test_pieces_of_captions_are_joined_and_cut(page: Page) -> None:
    pieces = """(() => {
        let lines = m.said(m.said([], "bot", 1, "We are"), "bot", 1, " open");
        lines = m.whole(lines, "bot", 1, "We are open.");
        lines = m.said(lines, "bot", 1, "Else");
        return m.cut(lines);
    })()"""
    lines = await of(page, "shared/captions.js", pieces)
    assert [(line["text"], line["done"], line["cut"]) for line in lines] == [
        ("We are open.", True, False),
        ("Else", True, True),
    ]
    again = 'm.restored([{ turn: 1, text: "One", interrupted: true }, { turn: 2, text: "Two", unfinished: true }])'
    lines = await of(page, "shared/captions.js", f'm.said({again}, "bot", 2, " three")')
    assert [(line["text"], line["cut"]) for line in lines] == [("One", True), ("Two three", False)]


async def test_a_stream_of_events_is_read_whatever_its_pieces_are(page: Page) -> None:
    text = ': hello\nid: 7\nevent: call\ndata: {"a":\ndata: 1}\n\ndata: {}\r\n\r\nevent: x\n\n'
    for size in (1, 2, 5, 100):
        code = f"""(() => {{
            const parser = new m.EventParser();
            const text = {text!r};
            const found = [];
            for (let at = 0; at < text.length; at += {size}) found.push(...parser.push(text.slice(at, at + {size})));
            return [found, parser.lastId];
        }})()"""
        found, last = await of(page, "console/sse.js", code)
        assert found == [{"name": "call", "data": '{"a":\n1}'}, {"name": "message", "data": "{}"}], size
        assert last == "7"


async def test_audio_is_joined_over_the_borders_of_its_chunks(page: Page) -> None:
    code = """(() => {
        const frames = new m.Frames();
        return [[0x40], [0x00, 0xc0, 0x00, 0x7f], [], [0xff, 0x80, 0x00]]
            .map((bytes) => Array.from(frames.push(Uint8Array.from(bytes))));
    })()"""
    found = await of(page, "console/pcm.js", code)
    assert found[:3] == [[], [0.5, -0.5], []]
    assert found[3] == pytest.approx([32767 / 32768, -1.0])


async def test_a_call_told_twice_is_one_call(page: Page) -> None:
    """A stream that is begun again repeats what the agent still has."""
    code = """(() => {
        const told = [
            ["call", { call_id: "a", state: "ringing", time: 1 }],
            ["call", { call_id: "a", state: "live", time: 2 }],
            ["Spoken", { turn: 0, answer: 1, text: "Hello.", done: true, interrupted: false }],
            ["TurnTimes", { turn: 2, stages: { first_packet: 5 } }],
            ["TurnTimes", { turn: 1, stages: { first_packet: 4 } }],
            ["BargeIn", { turn: 1, tokens_heard: 3, time: 3 }],
            ["Listening", { who: "night", on: true, time: 4 }],
            ["Quality", { received: null, sent: { mos: 4.2 } }],
            ["Unheard", { of: 1 }],
        ];
        const once = told.reduce((state, [name, data]) => m.after(state, name, data), m.nothing);
        const twice = told.slice(2).reduce((state, [name, data]) => m.after(state, name, data), once);
        const ended = m.after(once, "call", { call_id: "a", state: "ended", end_reason: "transferred", time: 9 });
        return [once, twice, ended];
    })()"""
    once, twice, ended = await of(page, "console/call_state.js", code)
    assert once == twice
    assert [turn["turn"] for turn in once["turns"]] == [1, 2]
    assert [event["text"] for event in once["events"]] == [
        "the call is ringing",
        "the call is live",
        "the caller interrupted the bot in turn 1",
        "night listens in",
    ]
    assert (once["listeners"], once["over"]) == (["night"], False)
    assert (ended["listeners"], ended["over"]) == ([], True)
    assert ended["events"][-1]["text"] == "the call is ended: transferred"


async def test_what_was_said_before_stands_before_what_the_stream_brings(page: Page) -> None:
    code = """(() => {
        const entries = [
            { role: "system", turn: 0, text: "" },
            { role: "assistant", turn: 0, text: "Hello." },
            { role: "user", turn: 1, text: "" },
            { role: "assistant", turn: 1, text: "We are open", interrupted: true },
            { role: "assistant", turn: 2, text: "Of course." },
        ];
        const state = m.withPast(m.nothing, entries);
        const brought = (state, turn, answer, text) => m.after(state, "Spoken", { turn, answer, text, done: true });
        return [state, brought(state, 2, 3, "Of course. It"), brought(state, 1, 2, "We are")].map((one) =>
            m.linesOf(one).map(({ who, text }) => `${who}: ${text}`));
    })()"""
    alone, after, cut = await of(page, "console/call_state.js", code)
    assert alone == ["bot: Hello.", "bot: We are open", "bot: Of course."]
    assert after == ["bot: Hello.", "bot: We are open", "bot: Of course. It"]
    assert cut == ["bot: Hello.", "bot: We are"], "what comes after it will be brought too"


async def test_the_list_of_calls_follows_the_events(page: Page) -> None:
    code = """(() => {
        const call = (call_id, state, started) => ({ call_id, state, started });
        const calls = [call("a", "live", "1"), call("b", "live", "3")];
        const body = { agent_id: "one", capacity: 3, active: 2, draining: false, calls };
        let state = m.listed(m.noCalls, body);
        state = m.happened(state, "call", call("c", "ringing", "2"));
        state = m.happened(state, "Quality", { call_id: "b", received: null });
        state = m.happened(state, "call", call("a", "ended", "1"));
        const order = m.inOrder(state).map((one) => one.call_id);
        return [order, [...state.quality.keys()], [...m.listed(state, { ...body, calls: [] }).quality.keys()]];
    })()"""
    assert await of(page, "console/calls_state.js", code) == [["b", "c"], ["b"], []]


async def test_a_waterfall_shows_the_stages_in_the_order_of_time(page: Page) -> None:
    stages = "{ turn_decided: 300, last_tokens: 100, first_lm_token: 120, first_packet: 400 }"
    parts = await of(page, "console/ui/waterfall.js", f"m.parts({stages}, 500)")
    assert [(part["stage"], part["x"], part["width"]) for part in parts] == [
        ("last_tokens", 0, 20),
        ("first_lm_token", 20, pytest.approx(4)),
        ("turn_decided", 24, 36),
        ("first_packet", 60, 20),
    ]
    assert await of(page, "console/ui/waterfall.js", f"m.scaleOf([{{ turn: 1, stages: {stages} }}])") == 500


async def test_a_diff_counts_the_lines_of_both_sides(page: Page) -> None:
    diff = "--- a\\n+++ b\\n@@ -3,3 +3,3 @@\\n same\\n-- old\\n++ new\\n same\\n"
    lines = await of(page, "console/diff.js", f'm.parseDiff("{diff}")')
    assert [(line["kind"], line.get("old"), line.get("new"), line["text"]) for line in lines[1:]] == [
        ("same", 3, 3, "same"),
        ("removed", 4, None, "- old"),
        ("added", None, 4, "+ new"),
        ("same", 5, 5, "same"),
    ]
    assert await of(page, "console/diff.js", 'm.parseDiff("")') == []


@pytest.mark.parametrize(
    ("module", "expression", "value"),
    [
        ("route.js", "m.parse('#/calls/a%2Fb')", {"view": "calls", "name": "a/b"}),
        ("route.js", "m.parse('')", {"view": "calls", "name": ""}),
        ("route.js", "m.parse('#/%')", {"view": "calls", "name": ""}),
        ("route.js", "m.parse('#/elsewhere/x')", {"view": "calls", "name": ""}),
        ("route.js", "m.parse(m.address('personas', 'new persona'))", {"view": "personas", "name": "new persona"}),
        ("format.js", "[0, 75.9, 3700, -1].map(m.duration)", ["0:00", "1:15", "1:01:40", "0:00"]),
        ("format.js", "[4.4, 3.7, 2, 0, undefined].map(m.grade)", ["good", "fair", "poor", "", ""]),
        ("format.js", "m.worst({ received: { mos: 4.1 }, sent: { mos: 3.2 } }).mos", 3.2),
        ("format.js", "m.worst({ received: null, sent: null })", None),
        ("format.js", "m.percent(0.0123)", "1.2 %"),
        ("format.js", "m.party('sips:100@example.com')", "100@example.com"),
        ("format.js", "m.personaOf({ persona: 'a', persona_version: 0 })", "a (draft)"),
        ("ui/editor.js", "m.lineRange('one\\ntwo\\nthree', 2)", [4, 7]),
    ],
)
async def test_small_values(page: Page, module: str, expression: str, value: object) -> None:
    assert await of(page, f"console/{module}", expression) == value
