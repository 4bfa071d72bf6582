"""`python -m services.agent.cli`: places calls and works on live ones, through an agent's Calls service; personas."""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import grpc
import typer

from services.agent.cli_personas import keys, personas
from services.agent.cli_text import Story, outcome, row
from services.agent.cli_watermark import watermark
from services.common.channels import channel
from services.common.errors import SetupError
from trunkline.v1 import calls_pb2, calls_pb2_grpc

if TYPE_CHECKING:
    from trunkline.v1.calls_pb2_grpc import CallsAsyncStub as Stub  # a type without a run-time twin

STATE = Path(".demo") / "state.json"
ANSWER_S = 10.0  # a request is answered within
DIAL_S = 30.0  # a call rings within: the models must have room first
NOT_ANSWERED = 3  # exit status of `dial`
_STATUSES = {calls_pb2.DIAL_OUTCOME_ANSWERED: 0, calls_pb2.DIAL_OUTCOME_ANSWERING_MACHINE: 4}

app = typer.Typer(
    help="Places calls and works on live ones, through an agent's Calls service. Manages personas.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(personas, name="personas")
app.add_typer(keys, name="keys")
app.add_typer(watermark, name="watermark")
CallId = Annotated[str, typer.Argument(help="id of a call, as `list` shows it", metavar="CALL")]


class OnMachine(StrEnum):
    """What `dial` does when an answering machine takes the call."""

    IGNORE = "ignore"
    HANG_UP = "hang-up"
    LEAVE_TEXT = "leave-text"


_ON_MACHINE = {
    OnMachine.IGNORE: calls_pb2.ON_MACHINE_IGNORE,
    OnMachine.HANG_UP: calls_pb2.ON_MACHINE_HANG_UP,
    OnMachine.LEAVE_TEXT: calls_pb2.ON_MACHINE_LEAVE_TEXT,
}


@app.callback()
def _where(
    context: typer.Context,
    calls: Annotated[
        str,
        typer.Option(
            envvar="TRUNKLINE_CALLS",
            help="host:port of the Calls service; without it the running demo's, else 127.0.0.1:50050",
        ),
    ] = "",
) -> None:
    context.obj = calls or _demo() or "127.0.0.1:50050"


@app.command()
def dial(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="a SIP URI, like sip:ann@example.com, or a number for the first trunk")],
    persona: Annotated[str, typer.Option(help="who calls; without it the agent's default")] = "",
    ring_timeout: Annotated[float, typer.Option(help="seconds that it may ring, 1 to 180; 0: the agent's own")] = 0.0,
    greet_after: Annotated[
        float, typer.Option(help="seconds of silence after the answer, 0.2 to 10, until the bot speaks first; 0: 2 s")
    ] = 0.0,
    on_machine: Annotated[OnMachine, typer.Option(help="when an answering machine answers")] = OnMachine.IGNORE,
    text: Annotated[str, typer.Option(help="for --on-machine leave-text: said after the beep")] = "",
    wait: Annotated[bool, typer.Option(help="follow the call to its end; else only print its id")] = True,
) -> None:
    """Places a call and tells what becomes of it.

    Exit status: 0 when it was answered, 3 when it was not, 4 when an answering machine took it, 1 when it could not
    be placed. Ctrl-C hangs up.
    """
    request = calls_pb2.DialRequest(
        target=target,
        persona=persona,
        ring_timeout_s=ring_timeout,
        greet_after_s=greet_after,
        on_machine=_ON_MACHINE[on_machine],
        machine_text=text,
    )
    final = _run(context, lambda stub: _dial(stub, request, wait))
    if wait:
        raise typer.Exit(_STATUSES.get(final, NOT_ANSWERED))


@app.command("list")
def list_calls(context: typer.Context) -> None:
    """Lists ringing and live calls: id, state, leg, from, to, persona."""

    async def ask(stub: "Stub") -> None:
        for call in (await stub.ListCalls(calls_pb2.ListCallsRequest(), timeout=ANSWER_S)).calls:
            print(row(call), flush=True)

    _run(context, ask)


@app.command()
def show(context: typer.Context, call: CallId) -> None:
    """Shows one call, live or ended (for seven days): its state, how it ended, and what became of a placed one."""

    async def ask(stub: "Stub") -> None:
        record = (await stub.GetCall(calls_pb2.GetCallRequest(call_id=call), timeout=ANSWER_S)).call
        print(row(record), flush=True)

    _run(context, ask)


@app.command()
def watch(
    context: typer.Context,
    call: Annotated[str, typer.Argument(help="id of a call; without it all calls", metavar="[CALL]")] = "",
) -> None:
    """Prints events as they come, one a line, until the call ends or Ctrl-C."""

    async def follow(stub: "Stub") -> None:
        story = Story()
        async for event in stub.WatchCalls(calls_pb2.WatchCallsRequest(call_id=call)):
            if line := story.line(event):
                print(line if call else f"{event.call_id} {line}", flush=True)

    _run(context, follow)


@app.command("hang-up")
def hang_up(context: typer.Context, call: CallId) -> None:
    """Ends a call, or cancels one that still rings."""
    request = calls_pb2.HangUpRequest(call_id=call)
    _run(context, lambda stub: _done(stub.HangUp(request, timeout=DIAL_S)))


@app.command()
def transfer(
    context: typer.Context,
    call: CallId,
    target: Annotated[str, typer.Argument(help="a SIP URI, or a number at the caller's own domain")],
) -> None:
    """Transfers a call blindly (SIP REFER)."""
    request = calls_pb2.TransferRequest(call_id=call, target=target)
    _run(context, lambda stub: _done(stub.Transfer(request)))


@app.command()
def say(context: typer.Context, call: CallId, text: Annotated[str, typer.Argument(help="1 to 500 characters")]) -> None:
    """Has the bot say a text, after what it is saying now."""
    _run(context, lambda stub: _done(stub.Say(calls_pb2.SayRequest(call_id=call, text=text), timeout=ANSWER_S)))


@app.command()
def dtmf(context: typer.Context, call: CallId, digits: Annotated[str, typer.Argument(help="0-9, *, #, A-D")]) -> None:
    """Sends keys to the far end."""
    request = calls_pb2.SendDtmfRequest(call_id=call, digits=digits)
    _run(context, lambda stub: _done(stub.SendDtmf(request, timeout=DIAL_S)))


async def _done(call: Any) -> None:
    await call


async def _dial(stub: "Stub", request: calls_pb2.DialRequest, wait: bool) -> int:
    # Watched before it is dialled, so that a call refused at once is seen too.
    events = stub.WatchCalls(calls_pb2.WatchCallsRequest())
    await asyncio.wait_for(events.initial_metadata(), ANSWER_S)
    call_id = (await stub.Dial(request, timeout=DIAL_S)).call_id
    print(call_id, flush=True)
    story, final = Story(), calls_pb2.DIAL_OUTCOME_UNSPECIFIED
    if not wait:
        return final
    try:
        async for event in events:
            if event.call_id != call_id:
                continue
            if line := story.line(event):
                print(line, flush=True)
            if event.call.outcome not in (final, calls_pb2.DIAL_OUTCOME_UNSPECIFIED):
                final = event.call.outcome
                print(f"outcome: {outcome(event.call)}", flush=True)
            if event.call.state == calls_pb2.CALL_STATE_ENDED:
                break
    except asyncio.CancelledError:
        await stub.HangUp(calls_pb2.HangUpRequest(call_id=call_id), timeout=DIAL_S)
        raise
    return final


def _run(context: typer.Context, work: Callable[["Stub"], Coroutine[Any, Any, Any]]) -> Any:
    try:
        return asyncio.run(_with_stub(str(context.obj), work))
    except grpc.aio.AioRpcError as error:
        _fail(f"{error.details()} ({error.code().name})")
    except SetupError as error:
        _fail(str(error))
    except TimeoutError:
        _fail(f"the Calls service at {context.obj} does not answer")
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


async def _with_stub(address: str, work: Callable[["Stub"], Coroutine[Any, Any, Any]]) -> Any:
    async with channel(address) as connection:
        return await work(calls_pb2_grpc.CallsStub(connection))


def _demo() -> str:
    """Where the running demo's Calls service listens; empty when there is none."""
    try:
        return str(json.loads(STATE.read_text())["calls"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _fail(message: str) -> None:
    print(f"calls: error: {message}", file=sys.stderr, flush=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
