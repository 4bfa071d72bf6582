import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from services.decoder import config as decoder_config
from services.decoder import weights
from services.decoder.config import InferenceConfig
from services.decoder.flow.model import TokenToMel
from training import paths
from training.decoder import export, train
from training.decoder.agent_voice import reply_text
from training.decoder.data import Recording, Windows, everyday_sentences, with_everyday_sentences
from training.splits import Split
from training.vocoder import train as vocoder_train

CODES = 512


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Two threads that wait for each other on a busy machine take many times as long as one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def flow() -> TokenToMel:
    torch.manual_seed(0)
    return train.new_model(torch.linspace(-4, -8, 80), CODES)


def recording(tokens: int, flow: TokenToMel) -> Recording:
    generator = torch.Generator().manual_seed(tokens)
    mel = torch.randn((80, flow.frames(tokens) - 3), generator=generator) - 5
    return Recording("some words", "reply", None, torch.randint(0, CODES, (tokens,), generator=generator), mel.half())


@pytest.fixture(scope="module")
def windows(flow: TokenToMel) -> Windows:
    return Windows([recording(tokens, flow) for tokens in (2, 20, 31, 32, 33, 34, 150)], flow, seed=0)


def test_a_fresh_flow_begins_at_the_mean_mel(flow: TokenToMel) -> None:
    with torch.inference_mode():
        mu = flow.condition(torch.zeros(1, 12, dtype=torch.long), flow.frames(12))
    assert torch.allclose(mu.mean((0, 2)), torch.linspace(-4, -8, 80), atol=0.5)


def test_windows_fit_together(flow: TokenToMel, windows: Windows) -> None:
    prompted = 0
    for _ in range(40):
        batch = windows.batch(3)
        frames = batch.mask.sum((1, 2))
        for have, count in zip(frames.tolist(), batch.lengths.tolist(), strict=True):
            assert abs(have - count * float(flow.frames_per_token)) <= 1
        assert int(batch.lengths.max()) <= 70
        known = batch.prompt.abs().sum(1) > 0
        prompted += int(known.any(1).sum())
        for row in range(3):  # a prompt is the mel's own beginning, and never all of it
            count = int(known[row].sum())
            assert torch.equal(batch.prompt[row, :, :count], batch.mel[row, :, :count])
            assert count <= 0.8 * float(frames[row]) + 1
    assert 30 < prompted < 90


def test_same_seed_same_windows(flow: TokenToMel) -> None:
    found = [recording(tokens, flow) for tokens in range(20, 30)]
    one, same, other = (Windows(found, flow, seed).batch(4).mel for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert one.shape != other.shape or not torch.equal(one, other)


def test_training_learns(flow: TokenToMel) -> None:
    """A flow that begins four nepers too low finds the level of its recordings."""
    learner = train.new_model(torch.full((80,), -9.0)).train()
    batch = Windows([recording(tokens, flow) for tokens in (6, 7, 8)], flow, seed=0).batch(2)
    optimiser = torch.optim.AdamW(learner.parameters(), lr=5e-3)
    torch.manual_seed(1)
    totals: list[float] = []
    for _ in range(25):
        velocity, mu = train.losses(learner, batch)
        optimiser.zero_grad()
        (velocity + mu).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        totals.append((velocity + mu).item())
        assert math.isfinite(totals[-1])
    assert sum(totals[-3:]) < 0.6 * sum(totals[:3])


def test_padding_is_no_part_of_the_loss(windows: Windows, flow: TokenToMel) -> None:
    batch = windows.batch(3)
    spoilt = torch.where(batch.mask.bool(), batch.mel, torch.full_like(batch.mel, 50.0))
    found: list[list[Tensor]] = []
    for mel in (batch.mel, spoilt):
        torch.manual_seed(2)
        changed = replace(batch, mel=mel)
        found.append(list(train.losses(flow.eval(), changed)))
    for clean, with_noise in zip(*found, strict=True):
        assert clean.item() == pytest.approx(with_noise.item(), rel=1e-4)


@pytest.mark.parametrize("split", ["train", "test"])
def test_replies_are_full_sentences(split: Split) -> None:
    from random import Random

    rng = Random(0)
    texts = [reply_text(rng, split) for _ in range(200)]
    assert len(set(texts)) > 150
    assert not any(mark in text for text in texts for mark in "[]{}|")


def test_what_is_exported_can_be_loaded(flow: TokenToMel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    models = paths.Models(tmp_path / "out")
    models.checkpoint("decoder").parent.mkdir(parents=True)
    torch.save({"average": flow.state_dict()}, models.checkpoint("decoder"))
    torch.save({"model": vocoder_train.new_model().state_dict()}, models.checkpoint("vocoder"))
    export.export(models, InferenceConfig(n_timesteps=6, temperature=0.4, cfg_rate=0.0))
    config = decoder_config.read(models.decoder / "config.yaml")
    assert (config.inference.n_timesteps, config.inference.temperature, config.guidance) == (6, 0.4, 0.0)
    assert config.flow.vocab_size == CODES
    loaded = weights.load(models.decoder)
    for ours, theirs in zip(loaded.flow.parameters(), flow.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=2e-3, rtol=2e-3)


def test_everyday_sentences_come_often_and_read_back_numbers_once(flow: TokenToMel) -> None:
    def of(text: str) -> Recording:
        blank = recording(20, flow)
        return Recording(text, blank.kind, None, blank.codes, blank.mel)

    found = [of("I have four seven one nine. Is that right?"), of("A small parcel costs four euros.")]
    everyday = everyday_sentences(found)
    assert everyday == ["A small parcel costs four euros."]
    assert [item.text for item in with_everyday_sentences(found, everyday, 3)] == [found[0].text] + 3 * everyday


def test_a_voice_is_heard_in_mu_and_zeros_are_the_default_one(flow: TokenToMel) -> None:
    codes, vector = torch.arange(12)[None], torch.randn(1, 192, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        plain, silent, other = (
            flow.condition(codes, flow.frames(12), embedding=embedding)
            for embedding in (None, torch.zeros(1, 192), vector)
        )
        louder = flow.condition(codes, flow.frames(12), embedding=3 * vector)
    assert torch.equal(plain, silent)
    assert not torch.allclose(plain, other, atol=1e-3)
    assert torch.allclose(other, louder, atol=1e-5)


def test_the_default_voice_answers_to_zeros_and_to_its_vector(flow: TokenToMel) -> None:
    own, another = torch.ones(192), -torch.ones(192)
    found = [replace(recording(tokens, flow), speaker=own) for tokens in range(20, 30)]
    found += [replace(recording(tokens, flow), speaker=another, default=False) for tokens in range(30, 40)]
    windows = Windows(found, flow, seed=0)
    seen = torch.cat([windows.batch(4).speaker for _ in range(60)])
    unnamed = seen.norm(dim=1) == 0
    assert 0.15 < float(unnamed.float().mean()) < 0.5
    named = torch.sign(seen[~unnamed].mean(1))
    assert set(named.tolist()) == {1.0, -1.0}
    without = Windows([recording(tokens, flow) for tokens in range(20, 30)], flow, seed=0).batch(4).speaker
    assert not without.any()
