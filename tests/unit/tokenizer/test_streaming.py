"""A stream's tokens are those of the whole utterance, however the samples are cut."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from services.tokenizer.features import LogMel
from services.tokenizer.streaming import Tokens, Utterance
from services.tokenizer.weights import Checkpoint, load
from services.tokenizer.whole import tokenise
from tests.unit.tokenizer.checkpoint import noise, write

TOKEN = 1280
BLOCK = 4 * TOKEN  # 16 frames at 50 Hz
PIECE = 50 * TOKEN  # 200 frames at 50 Hz


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load(write(tmp_path_factory.mktemp("fixed")))


@pytest.fixture(scope="module")
def per_clip(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load(write(tmp_path_factory.mktemp("per_clip"), preprocessor={"log_mel_max": None}))


def steps(utterance: Utterance) -> list[Tokens]:
    results = []
    while (tokens := utterance.step()) is not None:
        results.append(tokens)
    return results


def stream(checkpoint: Checkpoint, samples: torch.Tensor, sizes: list[int], interim_tokens: int = 0) -> list[Tokens]:
    """Results of an utterance whose chunks have these sizes in turn, over and over."""
    utterance = Utterance(checkpoint, interim_tokens)
    results = []
    at = turn = 0
    while at < samples.shape[0]:
        size = sizes[turn % len(sizes)]
        utterance.push(samples[at : at + size])
        results += steps(utterance)
        at += size
        turn += 1
    utterance.end()
    return results + steps(utterance)


def final_ids(results: list[Tokens]) -> list[int]:
    """The utterance, with a check that final tokens come in order and without gaps."""
    ids: list[int] = []
    for tokens in results:
        assert tokens.ids
        assert tokens.start == len(ids)
        if tokens.final:
            ids += tokens.ids
    return ids


@pytest.mark.parametrize("seed", range(25))
def test_random_lengths_and_cuts_give_the_whole_utterances_tokens(checkpoint: Checkpoint, seed: int) -> None:
    chance = random.Random(seed)
    samples = noise(chance.randint(1, 3 * PIECE), seed)
    sizes = [chance.choice([1, 7, 159, 161, 320, 1279, 4001, 20011]) for _ in range(5)] + [997]
    results = stream(checkpoint, samples, sizes, interim_tokens=chance.choice([0, 0, 1, 3]))
    (whole,) = tokenise(checkpoint, [samples])
    assert final_ids(results) == whole
    assert len(whole) == -(-samples.shape[0] // TOKEN)
    assert len(set(whole)) > len(whole) // 20  # the sound matters


@pytest.mark.parametrize("edge", [BLOCK, 2 * BLOCK, PIECE - BLOCK // 2, PIECE, PIECE + TOKEN, 2 * PIECE])
@pytest.mark.parametrize("beyond", [-TOKEN, -200, -41, -1, 0, 1, 39, 40, 41, 200, 201, 1279])
def test_lengths_around_every_edge(checkpoint: Checkpoint, edge: int, beyond: int) -> None:
    samples = noise(edge + beyond, seed=3)
    assert final_ids(stream(checkpoint, samples, [320])) == tokenise(checkpoint, [samples])[0]


@pytest.mark.parametrize("length", [1, 2, 160, 199, 200, 201, 202, TOKEN])
def test_utterances_of_one_token(checkpoint: Checkpoint, length: int) -> None:
    samples = noise(length, seed=5)
    results = stream(checkpoint, samples, [1])
    assert [(tokens.start, len(tokens.ids), tokens.final) for tokens in results] == [(0, 1, True)]
    assert final_ids(results) == tokenise(checkpoint, [samples])[0]


def test_an_empty_utterance_has_no_tokens(checkpoint: Checkpoint) -> None:
    utterance = Utterance(checkpoint)
    utterance.end()
    assert steps(utterance) == []
    assert tokenise(checkpoint, [torch.zeros(0)]) == [[]]


def test_a_block_is_final_as_soon_as_its_last_window_is_complete(checkpoint: Checkpoint) -> None:
    samples = noise(BLOCK + 40, seed=1)
    utterance = Utterance(checkpoint)
    utterance.push(samples[:-1])
    assert steps(utterance) == []
    utterance.push(samples[-1:])
    (tokens,) = steps(utterance)
    assert (tokens.start, len(tokens.ids), tokens.final) == (0, 4, True)


def test_final_tokens_do_not_depend_on_what_follows(checkpoint: Checkpoint) -> None:
    head = noise(3 * BLOCK + 40, seed=1)
    after_one = final_ids(stream(checkpoint, torch.cat((head, noise(BLOCK, seed=2))), [320]))
    after_other = final_ids(stream(checkpoint, torch.cat((head, noise(BLOCK, seed=9))), [320]))
    assert after_one[:12] == after_other[:12]
    assert after_one != after_other


def test_interim_tokens_are_those_of_the_sound_so_far(checkpoint: Checkpoint) -> None:
    samples = noise(BLOCK + 3 * TOKEN, seed=4)
    results = stream(checkpoint, samples, [TOKEN], interim_tokens=1)
    shapes = [(tokens.start, len(tokens.ids), tokens.final) for tokens in results]
    # A token's last window reaches 40 samples into the next one.
    assert shapes == [
        (0, 1, False),
        (0, 2, False),
        (0, 3, False),
        (0, 4, True),
        (4, 1, False),
        (4, 2, False),
        (4, 3, True),
    ]
    # What the encoder makes of the beginning of the sound's features.
    features, _ = checkpoint.log_mel([samples], TOKEN)
    ids, _ = checkpoint.encoder(features[:, :, : 3 * 8], torch.tensor([3 * 8]))
    assert results[2].ids == ids[0].tolist()


def test_nothing_can_follow_the_end(checkpoint: Checkpoint) -> None:
    utterance = Utterance(checkpoint)
    utterance.end()
    with pytest.raises(RuntimeError, match="ended"):
        utterance.push(torch.zeros(1))


def test_with_the_clips_own_maximum_a_stream_is_exact_once_the_loudest_block_was_heard(per_clip: Checkpoint) -> None:
    loud_first = noise(4 * BLOCK, seed=6)
    loud_first[BLOCK:] *= 1e-4  # so quiet that parts of it count as silence beside the first block
    assert final_ids(stream(per_clip, loud_first, [333])) == tokenise(per_clip, [loud_first])[0]


def test_with_the_clips_own_maximum_a_stream_cannot_know_what_follows(per_clip: Checkpoint) -> None:
    # Frames eight decades below what comes later: only the whole clip knows that they count as silence.
    quiet = noise(2 * BLOCK, seed=8) * 1e-4
    samples = torch.cat((quiet, noise(2 * BLOCK, seed=6)))
    assert final_ids(stream(per_clip, samples, [333])) != tokenise(per_clip, [samples])[0]


def test_the_golden_utterances_stream_exactly(golden_dir: Path) -> None:
    """The released block of 200 frames. Its features hang from the clip's maximum, which is fixed here instead."""
    released = load(golden_dir / "tokenizer")
    log_mel = LogMel(replace(released.log_mel.config, log_mel_max=1.5))
    fixed = replace(released, log_mel=log_mel)
    with np.load(golden_dir / "tokenizer" / "golden.npz") as file:
        clips = [torch.from_numpy(file["audio0"]), torch.from_numpy(file["audio1"])]
    for clip, whole in zip(clips, tokenise(fixed, clips), strict=True):
        assert final_ids(stream(fixed, clip, [321])) == whole
