"""`python -m training vocoder`."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from training.paths import WEIGHTS, Models

app = typer.Typer(help="The vocoder: the agent's mel spectrogram to its waveform.")


@app.callback(invoke_without_command=True)
def run(
    minutes: Annotated[float, typer.Option(help="Minutes of training in all, those of earlier runs included.")] = 8.0,
    seed: Annotated[int, typer.Option(help="Of data and initial weights.")] = 0,
    threads: Annotated[int, typer.Option(help="Torch threads.")] = 1,
    weights: Annotated[Path, typer.Option(help="A directory as weights/nano.")] = WEIGHTS,
) -> None:
    """Trains the vocoder, or goes on with it."""
    from training.vocoder.train import train

    torch.set_num_threads(threads)
    train(minutes, seed, Models(weights))


if __name__ == "__main__":
    app()
