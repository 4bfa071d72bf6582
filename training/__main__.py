"""`python -m training`: how weights/nano came about. Each step is one command; interrupted, it goes on where it was."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from training.paths import SAMPLES, WEIGHTS

app = typer.Typer(
    help="Make weights/nano: data, tokenizer, tokens, lm, decoder, vocoder, evaluate.", no_args_is_help=True
)
data_app = typer.Typer(help="Synthesise speech into .cache/nano/speech.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Shards = Annotated[int, typer.Option(min=1, help="shards of 500 clips; those already written are kept")]
Seed = Annotated[int, typer.Option(help="same seed, same data")]
Minutes = Annotated[float, typer.Option(min=0.1, help="training time in all, earlier runs counted in")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads")]


@data_app.command()
def wide(shards: Shards = 24, seed: Seed = 1) -> None:
    """General English in many voices, for the tokenizer."""
    from training.synthesis import make_wide

    make_wide(1, "test", seed)
    make_wide(shards, "train", seed)


@data_app.command()
def mandarin(
    shards: Annotated[int, typer.Option(min=1, help="shards of 100 clips; those already written are kept")] = 60,
    first: Annotated[int, typer.Option(min=0, help="where to begin, for several processes side by side")] = 0,
    seed: Seed = 1,
) -> None:
    """General Mandarin in Kokoro's voices, for the tokenizer; five minutes of one core a shard."""
    from training.synthesis import make_mandarin

    if not first:
        make_mandarin(2, "test", seed)
    make_mandarin(shards, "train", seed, first)


@data_app.command()
def mandarin_callers(
    shards: Annotated[int, typer.Option(min=1, help="shards of 100 clips; those already written are kept")] = 60,
    first: Annotated[int, typer.Option(min=0, help="where to begin, for several processes side by side")] = 0,
    seed: Seed = 1,
) -> None:
    """Callers' requests in Mandarin; five minutes of one core a shard."""
    from training.domain.mandarin.callers import make_mandarin_callers

    if not first:
        make_mandarin_callers(3, "test", seed)
    make_mandarin_callers(shards, "train", seed, first)


@data_app.command()
def callers(shards: Shards = 80, reading: Shards = 5, seed: Seed = 1) -> None:
    """Callers' requests, and digits and words to be read, for the language model."""
    from training.domain.callers import make_callers, make_reading

    make_callers(3, "test", seed)
    make_callers(1, "validation", seed)
    make_callers(shards, "train", seed)
    make_reading(reading, seed)


@data_app.command()
def replies(shards: Shards = 14, heard: Shards = 20, seed: Seed = 1) -> None:
    """The agent's answers in its own voice; after `callers`, whose numbers are answered."""
    from training.domain.callers import make_number_replies, make_replies

    make_replies(shards, "train", seed)
    make_number_replies("train", seed, heard)


@data_app.command()
def everything(seed: Seed = 1) -> None:
    """All of the above, in order."""
    wide(seed=seed)
    callers(seed=seed)
    replies(seed=seed)


@app.command()
def tokenizer(
    minutes: Minutes = 108.0,
    seed: Seed = 1,
    threads: Threads = 1,
    folder: Annotated[Path, typer.Option(help="where the model goes")] = WEIGHTS / "tokenizer",
) -> None:
    """Train the speech tokenizer and write it to weights/nano/tokenizer."""
    from training.tokenizer.train import train

    train(minutes, seed, threads, folder=folder)


@app.command()
def tokens(takes: Annotated[int, typer.Option(min=1, help="lines per training caller")] = 1, seed: Seed = 1) -> None:
    """Encode callers and replies with the exported tokenizer."""
    from services.tokenizer import weights
    from training.shards import list_shards
    from training.synthesis import SPEECH
    from training.tokenizer.encode import encode_all
    from training.tokenizer.export import TOKENIZER

    checkpoint = weights.load(TOKENIZER)
    held_out = [*list_shards(SPEECH, "callers-test"), *list_shards(SPEECH, "callers-validation")]
    heard = [*list_shards(SPEECH, "callers-train"), *list_shards(SPEECH, "reading-train")]
    spoken = [*list_shards(SPEECH, "replies-train"), *list_shards(SPEECH, "replies-heard-train")]
    encode_all(checkpoint, [*held_out, *spoken], 0, seed)
    for take in range(takes):
        encode_all(checkpoint, heard, take, seed)


@app.command()
def lm(
    minutes: Minutes = 60.0,
    seed: Seed = 1,
    threads: Threads = 1,
    folder: Annotated[Path, typer.Option(help="where the model goes")] = WEIGHTS / "lm",
    begin_with: Annotated[Path | None, typer.Option(help="an earlier version to go on from")] = None,
) -> None:
    """Train the language model and write it to weights/nano/lm."""
    from training.lm.train import train

    train(minutes, seed, threads, folder=folder, begin_with=begin_with)


@app.command()
def evaluate(limit: Annotated[int, typer.Option(min=1, help="held-out recordings of callers")] = 1500) -> None:
    """Measure tokenizer and language model on held-out wordings, numbers and lines."""
    from training.lm.evaluate import evaluate as evaluate_lm
    from training.tokenizer.evaluate import evaluate as evaluate_tokenizer

    evaluate_tokenizer()
    evaluate_lm(limit=limit)


@app.command()
def questions(
    folder: Annotated[Path, typer.Argument(help="where the WAV files and questions.json go")],
    count: Annotated[int, typer.Option(min=1)] = 40,
    seed: Seed = 1,
    mandarin: Annotated[bool, typer.Option("--mandarin", help="questions in Mandarin")] = False,
) -> None:
    """Write acceptance questions: unseen wordings in training voices, and what a right answer contains."""
    from training.questions import write_questions

    write_questions(folder, count, seed, "zh" if mandarin else "en")


@app.command()
def samples(folder: Annotated[Path, typer.Argument()] = SAMPLES) -> None:
    """Write the questions that lie in samples/."""
    from training.questions import write_samples

    write_samples(folder)


for name in ("decoder", "vocoder"):
    app.add_typer(import_module(f"training.{name}.cli").app, name=name)

if __name__ == "__main__":
    app()
