"""What a second of a speaking call costs, in seconds of one core, by stage: each alone, one call at a time."""

import time
from collections.abc import Callable

import numpy as np
import torch

from services.decoder import weights as decoder_weights
from services.lm import weights as lm_weights
from services.lm.engine import Added, Event, GenerationSettings, Kind
from services.lm.prompt import ChatTemplate
from services.lm.torch_engine import parameters
from services.lm.torch_engine.build import chunks_for
from services.lm.torch_engine.runner import Runner
from services.lm.torch_engine.scheduler import Scheduler
from services.tokenizer import weights as tokenizer_weights
from training.decoder.voice import speak
from training.domain.facts import DEFAULT
from training.paths import SPEECH_RATE, Models
from training.tokenizer.encode import encode_waves

_SECONDS = 4.0  # of a turn
_TOKEN_RATE = 12.5
_TEXT_A_SPEECH = 0.5  # 13 text tokens go with 26 of speech
_ROUNDS = 5


def _core_seconds(run: Callable[[], object], rounds: int = _ROUNDS) -> float:
    """Least of a few rounds, after one that warms up: other programs can only add."""
    run()
    found = []
    for _ in range(rounds):
        started = time.process_time()
        run()
        found.append(time.process_time() - started)
    return min(found)


def _tokenizer(models: Models) -> float:
    checkpoint = tokenizer_weights.load(models.tokenizer)
    wave = np.random.default_rng(1).standard_normal(int(_SECONDS * SPEECH_RATE)).astype(np.float32) * 0.1
    return _core_seconds(lambda: encode_waves(checkpoint, [wave])) / _SECONDS


def _lm(models: Models) -> float:
    """Decoding alone, at the rate of tokens that speech asks for; float32, as it is served."""
    network = parameters.load(lm_weights.inspect(models.lm), torch.float32)
    template = ChatTemplate.load(models.lm)
    architecture = network.architecture
    runner = Runner(network, architecture.context_length)
    scheduler = Scheduler(
        runner, template, architecture.context_length, architecture.end_tokens, chunks_for(architecture, network.device)
    )
    return _decoding(scheduler, template) * _TOKEN_RATE * (1 + _TEXT_A_SPEECH)


def _decoder(models: Models) -> float:
    checkpoint = decoder_weights.load(models.decoder)
    rng = np.random.default_rng(1)
    codes = rng.integers(0, checkpoint.config.flow.vocab_size, int(_SECONDS * _TOKEN_RATE)).tolist()
    return _core_seconds(lambda: speak(checkpoint, codes, 1)) / _SECONDS


def _decoding(scheduler: Scheduler, template: ChatTemplate, tokens: int = 150) -> float:
    """Core seconds a token of one session that answers to a second of speech again and again."""
    made = 0

    def count(event: Event) -> None:
        nonlocal made
        if isinstance(event, Added) and event.kind is not Kind.CONTROL:
            made += len(event.tokens)

    turn = [*template.user_speech_head(), *template.speech(range(12)), *template.end_of_speech()]
    prompt = [*template.prefix, *template.system(DEFAULT.prompt()), *turn]
    session = scheduler.open(prompt, count)
    seed, spent = 0, 0.0
    while made < tokens:
        if session.answer is None:
            seed += 1
            scheduler.truncate(session, len(prompt))
            scheduler.generate(session, GenerationSettings(0.2, 0.8, seed, 400))
            before = made
            while made == before:  # what comes before the first token is no decoding
                scheduler.step()
        started = time.process_time()
        scheduler.step()
        spent += time.process_time() - started
    scheduler.close(session)
    return spent / made


def cost(models: Models) -> dict[str, float]:
    """Prints and returns core seconds a second of speech by stage, and their sum; what is not there is left out."""
    stages = {
        "tokenizer": (models.tokenizer, _tokenizer),
        "lm": (models.lm, _lm),
        "decoder": (models.decoder, _decoder),
    }
    spent = {name: round(run(models), 4) for name, (folder, run) in stages.items() if folder.is_dir()}
    spent["sum"] = round(sum(spent.values()), 4)
    print("\ncore seconds a second of speech, one thread, one call:")
    for name, seconds in spent.items():
        print(f"  {name:10} {seconds:.4f}")
    return spent
