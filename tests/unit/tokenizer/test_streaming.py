"""A stream's tokens are those of the whole utterance, however the samples are cut."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from services.tokenizer.features import LogMel
from services.tokenizer.streaming import Due, Tokens, Utterance, encode
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


def steps(checkpoint: Checkpoint, utterance: Utterance) -> list[Tokens]:
    results = []
    while utterance.due is not None:
        results += encode(checkpoint, [utterance])
    return results


def stream(
    checkpoint: Checkpoint, samples: torch.Tensor, sizes: list[int], interim_tokens: int = 0, whole: bool = False
) -> list[Tokens]:
    """Results of an utterance whose chunks have these sizes in turn, over and over."""
    utterance = Utterance(checkpoint, interim_tokens, whole)
    results = []
    at = turn = 0
    while at < samples.shape[0]:
        size = sizes[turn % len(sizes)]
        utterance.push(samples[at : at + size])
        results += steps(checkpoint, utterance)
        at += size
        turn += 1
    utterance.end()
    return results + steps(checkpoint, utterance)


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
    assert steps(checkpoint, utterance) == []
    assert tokenise(checkpoint, [torch.zeros(0)]) == [[]]


def test_a_block_is_final_as_soon_as_its_last_window_is_complete(checkpoint: Checkpoint) -> None:
    samples = noise(BLOCK + 40, seed=1)
    utterance = Utterance(checkpoint)
    utterance.push(samples[:-1])
    assert steps(checkpoint, utterance) == []
    utterance.push(samples[-1:])
    (tokens,) = steps(checkpoint, utterance)
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


@pytest.mark.parametrize("seed", range(6))
def test_whole_mode_gives_the_whole_utterances_tokens_with_the_clips_own_maximum(
    per_clip: Checkpoint, seed: int
) -> None:
    samples = noise(random.Random(seed).randint(1, 2 * PIECE), seed)
    samples[: samples.shape[0] // 2] *= 1e-4
    results = stream(per_clip, samples, [1601], whole=True)
    assert final_ids(results) == tokenise(per_clip, [samples])[0]
    # A piece is one step.
    assert len(results) == -(-samples.shape[0] // PIECE)


def test_whole_mode_shows_interim_tokens_of_all_that_was_said(checkpoint: Checkpoint) -> None:
    results = stream(checkpoint, noise(2 * BLOCK, seed=4), [TOKEN], interim_tokens=3, whole=True)
    shapes = [(tokens.start, len(tokens.ids), tokens.final) for tokens in results]
    assert shapes == [(0, 3, False), (0, 6, False), (0, 8, True)]


def live_utterances(checkpoint: Checkpoint) -> list[Utterance]:
    """Eight with something due: in finished blocks, at the end, interim; after nothing, after a block, after many."""
    utterances = []
    for seed, (spoken, interim_tokens, ended) in enumerate(
        [
            (BLOCK + 40, 0, False),
            (3 * TOKEN + 7, 0, True),
            (5 * BLOCK + 40, 0, False),
            (11 * BLOCK + TOKEN, 0, True),
            (2 * BLOCK + 3 * TOKEN, 1, False),
            (1, 0, True),
            (PIECE + 2 * TOKEN, 0, True),
            (PIECE, 0, False),
        ]
    ):
        utterance = Utterance(checkpoint, interim_tokens)
        samples = noise(spoken, seed)
        utterance.push(samples[:-1])
        steps(checkpoint, utterance)
        utterance.push(samples[-1:])
        if interim_tokens:
            utterance.push(noise(TOKEN, seed))
        if ended:
            utterance.end()
        assert utterance.due is not None
        utterances.append(utterance)
    return utterances


def test_utterances_of_different_lengths_give_in_one_batch_what_they_give_alone(checkpoint: Checkpoint) -> None:
    alone = [steps(checkpoint, utterance) for utterance in live_utterances(checkpoint)]
    together = live_utterances(checkpoint)
    results = encode(checkpoint, together)
    assert [[tokens] for tokens in results] == alone
    assert {tokens.start for tokens in results} == {0, 16, 44, 8, 50, 48}
    assert {tokens.final for tokens in results} == {True, False}
    assert all(utterance.due is None for utterance in together)
    # Those that have not ended go on from it as they would alone.
    others = live_utterances(checkpoint)
    for index in (0, 2, 4, 7):
        steps(checkpoint, others[index])
        for utterance in (together[index], others[index]):
            utterance.push(noise(2 * BLOCK, seed=77))
            utterance.end()
        rest = steps(checkpoint, together[index])
        assert rest == steps(checkpoint, others[index])
        assert sum(len(tokens.ids) for tokens in rest) >= 8


def test_what_is_due_tells_its_length_and_whether_someone_waits(checkpoint: Checkpoint) -> None:
    utterance = Utterance(checkpoint, interim_tokens=1)
    utterance.push(torch.zeros(2 * TOKEN))
    assert utterance.due == Due(frames=4, urgent=False)
    utterance.push(torch.zeros(BLOCK))
    assert utterance.due == Due(frames=16, urgent=False)
    utterance.end()
    assert utterance.due == Due(frames=16, urgent=True)
    encode(checkpoint, [utterance])
    assert utterance.due == Due(frames=8, urgent=True)


def test_an_utterance_with_nothing_due_fails_before_any_moves_on(checkpoint: Checkpoint) -> None:
    ready, waiting = Utterance(checkpoint), Utterance(checkpoint)
    ready.push(noise(TOKEN, seed=1))
    ready.end()
    with pytest.raises(RuntimeError, match="nothing is due"):
        encode(checkpoint, [ready, waiting])
    assert ready.due == Due(frames=4, urgent=True)
    assert len(encode(checkpoint, [ready])[0].ids) == 1


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
