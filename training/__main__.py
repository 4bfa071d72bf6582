"""`python -m training`: how weights/nano came about. Each step is one command; interrupted, it goes on where it was."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from training.languages import LANGUAGES
from training.paths import SAMPLES, WEIGHTS, Models

app = typer.Typer(
    help="Make weights/nano: data, tokenizer, tokens, lm, vocoder, speaker, decoder, evaluate.", no_args_is_help=True
)
data_app = typer.Typer(help="Synthesise speech into .cache/nano/speech.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Shards = Annotated[int, typer.Option(min=1, help="shards of 500 clips; those already written are kept")]
Seed = Annotated[int, typer.Option(help="same seed, same data")]
Minutes = Annotated[float, typer.Option(min=0.1, help="training time in all, earlier runs counted in")]
Weights = Annotated[Path, typer.Option(help="a directory as weights/nano: tokenizer, lm, decoder")]
ALL_PARTS = "tokenizer,lm,decoder,noise,cost"
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
    from training.domain.agent import make_number_replies, make_replies

    make_replies(shards, "train", seed)
    make_number_replies("train", seed, heard)


@data_app.command()
def mandarin_replies(
    shards: Annotated[int, typer.Option(min=1, help="shards of 100 clips; those already written are kept")] = 26,
    first: Annotated[int, typer.Option(min=0, help="where to begin, for several processes side by side")] = 0,
    heard: Annotated[int, typer.Option(min=0, help="shards of answers to the numbers of `mandarin-callers`")] = 4,
    seed: Seed = 1,
) -> None:
    """The agent's answers in Mandarin; four minutes of one core a shard."""
    from training.domain.agent import make_number_replies, make_replies

    if not first:
        make_replies(1, "test", seed, "zh")
    make_replies(shards, "train", seed, "zh", first)
    if heard:
        make_number_replies("train", seed, heard, "zh")


@data_app.command()
def manners(seed: Seed = 1) -> None:
    """The answers that there are, again in other styles (for the language model) and other voices (the decoder)."""
    from training.domain.agent import make_styled, make_voices

    for language in LANGUAGES:
        make_styled("train", seed, language)
        make_voices("train", seed, language)


@data_app.command()
def strangers(seed: Seed = 1) -> None:
    """Callers in English voices that no training has: Kokoro's, for tests."""
    from training.domain.callers import make_strangers

    make_strangers(seed)


@data_app.command()
def everything(seed: Seed = 1) -> None:
    """All of it in order: days of one core, for Kokoro is slow."""
    wide(seed=seed)
    callers(seed=seed)
    replies(seed=seed)
    mandarin(seed=seed)
    mandarin_callers(seed=seed)
    mandarin_replies(seed=seed)
    manners(seed=seed)
    strangers(seed=seed)


@app.command()
def tokenizer(
    minutes: Minutes = 108.0,
    seed: Seed = 1,
    threads: Threads = 1,
    weights: Weights = WEIGHTS,
) -> None:
    """Train the speech tokenizer and write it to tokenizer/ there."""
    from training.tokenizer.train import train

    train(minutes, seed, threads, folder=Models(weights).tokenizer)


@app.command()
def tokens(
    takes: Annotated[int, typer.Option(min=1, help="lines per training caller")] = 1,
    mandarin_takes: Annotated[int, typer.Option(min=1, help="the same for Mandarin, of which there is less")] = 3,
    seed: Seed = 1,
    weights: Weights = WEIGHTS,
) -> None:
    """Encode callers and answers of both languages; what this tokenizer has encoded before is kept."""
    from services.tokenizer.weights import load
    from training.tokenizer.encode import encode_recordings

    encode_recordings(load(Models(weights).tokenizer), {"en": takes, "zh": mandarin_takes}, seed)


@app.command()
def lm(
    minutes: Minutes = 60.0,
    seed: Seed = 1,
    threads: Threads = 1,
    weights: Weights = WEIGHTS,
    begin_with: Annotated[Path | None, typer.Option(help="an earlier version to go on from")] = None,
) -> None:
    """Train the language model on the tokens there are and write it to lm/ there."""
    from training.lm.train import train

    train(minutes, seed, threads, Models(weights), begin_with)


@app.command()
def speaker(
    minutes: Minutes = 6.0,
    seed: Seed = 1,
    threads: Threads = 1,
    weights: Weights = WEIGHTS,
) -> None:
    """Train the speaker encoder, which gives the decoder a voice, and write it to decoder/speaker.onnx there."""
    from training.speaker.train import train

    train(minutes, seed, threads, Models(weights))


@app.command()
def evaluate(
    weights: Weights = WEIGHTS,
    parts: Annotated[str, typer.Option(help="of tokenizer, lm, decoder, noise, cost; divided by commas")] = ALL_PARTS,
    limit: Annotated[int, typer.Option(min=1, help="held-out recordings of callers in each language")] = 800,
    failures: Annotated[int, typer.Option(min=0, help="wrong answers to show of each kind")] = 6,
) -> None:
    """Measure a directory of weights, ours or released ones, on what training has not: wordings, facts, voices."""
    from training.evaluation import evaluate as evaluate_models

    evaluate_models(Models(weights), tuple(parts.split(",")), limit, failures)


@app.command()
def questions(
    folder: Annotated[Path, typer.Argument(help="where the WAV files and questions.json go")],
    count: Annotated[int, typer.Option(min=1)] = 40,
    seed: Seed = 1,
    mandarin: Annotated[bool, typer.Option("--mandarin", help="questions in Mandarin")] = False,
    strangers: Annotated[bool, typer.Option("--strangers", help="in voices that no training has; slow")] = False,
) -> None:
    """Write acceptance questions: unseen wordings, half of them by hand, and what a right answer contains."""
    from training.questions import write_questions

    write_questions(folder, count, seed, "zh" if mandarin else "en", strangers)


@app.command()
def samples(folder: Annotated[Path, typer.Argument()] = SAMPLES) -> None:
    """Write the questions that lie in samples/."""
    from training.questions import write_samples

    write_samples(folder)


for name in ("decoder", "vocoder"):
    app.add_typer(import_module(f"training.{name}.cli").app, name=name)

if __name__ == "__main__":
    app()
