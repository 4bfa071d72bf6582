"""`python -m services.agent.ask FILE.wav`: calls the running demo, says the file, keeps the answer, shows how it came.

It is a phone of its own: the call goes over SIP and RTP like any other, in G.711.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from services.agent.ask_audio import RATE, NotAWavError, read_wav, write_wav

if TYPE_CHECKING:
    from services.agent.ask_call import Asked

STATE = Path(".demo") / "state.json"
BAR = 40  # characters of the longest bar


def show(asked: "Asked", out: Path, console: Console) -> None:
    """Prints captions and the waterfall of the turn."""
    for turn in sorted(asked.story.captions):
        who = "greeting" if turn == 0 else "answer" if turn == 1 else f"answer {turn}"
        console.print(f"[bold]{who:>9}[/bold]  ", end="")
        console.print(asked.story.captions[turn].strip(), markup=False, highlight=False)
    if asked.story.stages:
        stages = asked.story.stages[max(asked.story.stages)]  # of the last turn: a pause in the file may make two
        console.print(waterfall({**stages, "heard_by_phone": asked.heard_after_ms}))
    console.print(f"{len(asked.answer) / RATE:.1f} s of answer in {out}", markup=False, highlight=False)


def waterfall(stages: dict[str, float]) -> Table:
    """Each stage as a bar from the end of the one before; milliseconds after the caller's end of speech."""
    table = Table(title="after the end of speech", title_justify="left", box=None)
    table.add_column("stage")
    table.add_column("ms", justify="right")
    table.add_column("+", justify="right")
    table.add_column("")
    longest = max(max(stages.values()), 1.0)
    before = 0.0
    for name, end in sorted(stages.items(), key=lambda stage: stage[1]):
        start = round(max(before, 0.0) / longest * BAR)
        width = max(1, round((end - max(before, 0.0)) / longest * BAR))
        table.add_row(name.replace("_", " "), f"{end:.0f}", f"{end - before:.0f}", " " * start + "━" * width)
        before = end
    return table


def main(
    file: Annotated[Path, typer.Argument(help="the question: a WAV file of any rate and number of channels")],
    out: Annotated[Path, typer.Option(help="where the answer goes")] = Path("reply.wav"),
    sip: Annotated[str, typer.Option(help="host:port of the SIP user agent, instead of the running demo's")] = "",
    calls: Annotated[str, typer.Option(help="host:port of the Calls service, instead of the running demo's")] = "",
    state: Annotated[Path, typer.Option(help="state file of the demo")] = STATE,
) -> None:
    """Calls Trunkline, asks a question from a WAV file, writes the answer and shows how it came."""
    try:
        question = read_wav(file)
    except NotAWavError as error:
        _fail(str(error), 2)
    os.environ.setdefault("LOGURU_AUTOINIT", "False")  # pipecat greets on stderr when it is imported
    from services.agent.ask_call import AskError, Target, ask, read_state

    try:
        target = Target(sip, calls) if sip and calls else read_state(state)
        target = Target(sip or target.sip, calls or target.calls)
        asked = asyncio.run(ask(question, target))
    except AskError as error:
        _fail(str(error), 1)
    write_wav(out, asked.answer)
    show(asked, out, Console())


def _fail(message: str, status: int) -> None:
    print(f"ask: error: {message}", file=sys.stderr, flush=True)
    raise typer.Exit(status)


if __name__ == "__main__":
    typer.run(main)
