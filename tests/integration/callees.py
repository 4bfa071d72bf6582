"""Far ends of calls that the agent places: SIPp and baresip, and one watcher of what the agent tells of its calls."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from tests.integration.phone import Phone, phone
from tests.integration.stack import HOST, free_port
from trunkline.v1 import calls_pb2, calls_pb2_grpc

SCENARIOS = Path(__file__).parent / "sipp"
WAIT_S = 90.0  # for whatever must come: a machine may be busy


@contextlib.asynccontextmanager
async def sipp_callee(directory: Path, scenario: str, final: str = "") -> AsyncIterator[str]:
    """A SIPp that takes one call as the scenario says; gives its URI, and fails when the call went another way.

    Args:
        final: takes the place of `[final]` in the scenario: SIPp itself wants a status to be a number there.
    """
    port = free_port()
    script = directory / scenario
    script.write_text((SCENARIOS / scenario).read_text().replace("[final]", final))
    process = await asyncio.create_subprocess_exec(
        "sipp", "-sf", str(script), "-i", HOST, "-mi", HOST, "-p", str(port), "-m", "1", "-nostdin",
        "-timeout", f"{WAIT_S:.0f}s", "-timeout_error",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(WAIT_S):
            while not _taken(port):  # a call that is given up at once is not offered a second time
                await asyncio.sleep(0.02)
        yield f"sip:callee@{HOST}:{port}"
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode(errors="replace")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _taken(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


@contextlib.asynccontextmanager
async def callee(directory: Path, name: str = "callee", port: int = 0) -> AsyncIterator[tuple[Phone, str]]:
    """A baresip phone that can be rung, with its URI. It answers at `accept`."""
    port = port or free_port()
    async with phone(directory, name, sip_port=port) as handset:
        yield handset, f"sip:{name}@{HOST}:{port}"


async def accept(handset: Phone) -> None:
    """Picks up the call that rings."""
    await handset.wait_for("CALL_INCOMING", timeout_s=WAIT_S)
    await handset.command("accept")
    await handset.wait_for("CALL_ESTABLISHED", timeout_s=WAIT_S)


class Desk:
    """An operator at the Calls service, who sees all events from the moment it is made with `desk`."""

    def __init__(self, stub: "calls_pb2_grpc.CallsAsyncStub") -> None:
        self.stub = stub
        self.events: list[calls_pb2.WatchCallsResponse] = []
        self._changed = asyncio.Event()

    async def follow(
        self, stream: "grpc.aio.UnaryStreamCall[calls_pb2.WatchCallsRequest, calls_pb2.WatchCallsResponse]"
    ) -> None:
        async for event in stream:
            self.events.append(event)
            self._changed.set()

    async def dial(self, target: str, **options: object) -> str:
        return (await self.stub.Dial(calls_pb2.DialRequest(target=target, **options))).call_id  # type: ignore[arg-type]

    async def first(self, kind: str, call_id: str = "", **fields: object) -> calls_pb2.WatchCallsResponse:
        """The first event of a kind (of one call) whose message has these values."""
        async with asyncio.timeout(WAIT_S):
            while True:
                self._changed.clear()
                for event in self.events:
                    if event.HasField(kind) and call_id in ("", event.call_id):  # type: ignore[arg-type]
                        message = getattr(event, kind)
                        if all(getattr(message, name) == value for name, value in fields.items()):
                            return event
                await self._changed.wait()

    async def says(self, text: str) -> None:
        """Waits until the bot's text holds this."""
        async with asyncio.timeout(WAIT_S):
            while text not in self.captions():
                await asyncio.sleep(0.02)

    async def ended(self, call_id: str = "") -> calls_pb2.Call:
        """The record of a call that has ended; the only one's without an id."""
        return (await self.first("call", call_id, state=calls_pb2.CALL_STATE_ENDED)).call

    def captions(self) -> str:
        """All that the bot has said, as text."""
        return "".join(event.caption.text for event in self.events if event.HasField("caption"))

    def outcomes(self) -> list[tuple[str, int]]:
        """Actions that are over, in their order."""
        return [
            (event.action_done.name, event.action_done.outcome)
            for event in self.events
            if event.HasField("action_done")
        ]


@contextlib.asynccontextmanager
async def desk(address: str) -> AsyncIterator[Desk]:
    """An operator who misses nothing from now on."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub: calls_pb2_grpc.CallsAsyncStub = calls_pb2_grpc.CallsStub(channel)
        stream = stub.WatchCalls(calls_pb2.WatchCallsRequest())
        await stream.initial_metadata()
        operator = Desk(stub)
        following = asyncio.create_task(operator.follow(stream))
        try:
            yield operator
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
