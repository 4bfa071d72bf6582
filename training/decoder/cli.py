"""`python -m training decoder`."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from training.paths import WEIGHTS, Models

Weights = Annotated[Path, typer.Option(help="A directory as weights/nano: its tokenizer is used, decoder/ written.")]

app = typer.Typer(help="The flow: speech tokens to the agent's mel spectrogram.")


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    minutes: Annotated[float, typer.Option(help="Minutes of training in all, those of earlier runs included.")] = 30.0,
    seed: Annotated[int, typer.Option(help="Of data and initial weights.")] = 0,
    threads: Annotated[int, typer.Option(help="Torch threads.")] = 1,
    weights: Weights = WEIGHTS,
    begin_with: Annotated[Path | None, typer.Option(help="An earlier version to go on from.")] = None,
) -> None:
    """Trains the flow, or goes on with it, and exports it with the vocoder."""
    if context.invoked_subcommand is not None:
        return
    from training.decoder.export import export
    from training.decoder.train import train

    torch.set_num_threads(threads)
    train(minutes, seed, Models(weights), begin_with)
    export(Models(weights))


@app.command("export")
def export_command(weights: Weights = WEIGHTS) -> None:
    """Exports the last checkpoints of flow and vocoder to decoder/ there."""
    from training.decoder.export import export

    export(Models(weights))


@app.command("evaluate")
def evaluate_command(
    clips: Annotated[int, typer.Option(help="Clips of each language's test set.")] = 60,
    sweep: Annotated[bool, typer.Option(help="Also other starts, steps and temperatures.")] = False,
    weights: Weights = WEIGHTS,
) -> None:
    """Judges the exported decoder: word error rate of what it says, and the time it takes."""
    from training.decoder.evaluate import evaluate

    torch.set_num_threads(1)
    evaluate(Models(weights), clips, sweep)


if __name__ == "__main__":
    app()
