"""The agent's recordings in other manners, languages and voices."""

from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import pytest

from training import prosody
from training.domain import agent
from training.domain.answers import answers, stated, styles_of
from training.domain.personas import DEFAULTS
from training.domain.replies import STYLE_TAGS, Receptionist, all_fixed, styled
from training.domain.sentences import STYLES
from training.languages import LANGUAGES, Language, language_of
from training.paths import REPLY_RATE
from training.prosody import STYLE_MANNERS, Manner, render
from training.quality import Prosody
from training.quality import prosody as prosody_of
from training.shards import Clip, Waveform, list_shards, read_shard, write_shard


def buzz(seconds: float = 0.8) -> Waveform:
    """A voice without words: a glide from 160 to 240 Hz with formants."""
    time = np.arange(int(seconds * REPLY_RATE)) / REPLY_RATE
    phase = 2 * np.pi * np.cumsum(160 + 80 * time / seconds) / REPLY_RATE
    weight = [1.0 / k + 0.6 * np.exp(-(((k * 200 - 900) / 300) ** 2)) for k in range(1, 30)]
    wave = sum(w * np.sin(k * phase) for k, w in enumerate(weight, 1))
    return np.asarray(0.3 * wave / np.abs(wave).max(), np.float32)


def measured(wave: Waveform) -> Prosody:
    found = prosody_of(wave, REPLY_RATE)
    assert found is not None
    return found


def test_a_plain_manner_changes_nothing() -> None:
    wave = buzz()
    assert render(wave, REPLY_RATE, Manner()) is wave


@pytest.mark.parametrize("style", STYLES)
def test_styles_differ_as_they_are_meant_to(style: str) -> None:
    wave, manner = buzz(), STYLE_MANNERS[style]  # type: ignore[index]
    changed, plain = render(wave, REPLY_RATE, manner), measured(wave)
    made = measured(changed)
    assert len(changed) == pytest.approx(len(wave) / manner.rate, abs=1)
    assert made.pitch / plain.pitch == pytest.approx(manner.pitch, rel=0.06)
    assert made.span / plain.span == pytest.approx(manner.span, rel=0.25)
    assert made.level - plain.level == pytest.approx(manner.gain_db, abs=1.5)
    assert np.abs(changed).max() <= 0.981


def test_slow_and_fast_are_far_enough_apart() -> None:
    assert 1 / STYLE_MANNERS["slow"].rate > 1.25
    assert 1 / STYLE_MANNERS["fast"].rate < 0.8
    assert STYLE_MANNERS["happy"].span > 2 * STYLE_MANNERS["sad"].span
    assert STYLE_MANNERS["happy"].gain_db > STYLE_MANNERS["sad"].gain_db + 6


def test_another_voice_keeps_the_timing() -> None:
    wave = buzz()
    deeper = render(wave, REPLY_RATE, agent.AGENT_VOICES[agent.SECOND_VOICE])
    assert len(deeper) == len(wave)
    assert measured(deeper).pitch == pytest.approx(0.55 * measured(wave).pitch, rel=0.06)
    voices = [prosody.random_voice(Random(seed)) for seed in range(200)]
    assert all(manner.rate == 1 for manner in voices)
    assert min(manner.pitch for manner in voices) < 0.6
    assert max(manner.pitch for manner in voices) > 1.3


@pytest.mark.parametrize("language", LANGUAGES)
def test_answers_come_in_their_language_those_of_every_call_first(language: Language) -> None:
    if language == "zh":
        pytest.importorskip("jieba", reason="the extra `training` is not installed")
    texts = list(islice(answers(Random(1), "train", language), 1_400))
    assert {language_of(text) for text in texts} == {language}
    assert set(all_fixed(DEFAULTS[language])) <= set(texts[: len(all_fixed(DEFAULTS[language])) + 400])
    limited = set(stated(language))
    share = sum(text in limited for text in texts[600:1_400]) / 800
    assert (0.4 < share < 0.8) if language == "zh" else share == 1


def test_everyday_answers_are_in_every_style() -> None:
    usual = set(all_fixed(DEFAULTS["zh"]))
    assert styles_of("再见。", "zh", usual, Random(1)) == list(STYLES)
    assert sum(len(styles_of("别的", "zh", usual, Random(seed))) for seed in range(200)) < 200


@pytest.fixture
def speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(agent, "SPEECH", tmp_path)
    clips = [(Clip(text, "hibari"), buzz(0.3)) for text in [*all_fixed(DEFAULTS["en"])[:3], *map(str, range(20))]]
    write_shard(tmp_path, "replies-train", 4, clips, REPLY_RATE)
    return tmp_path


def test_styles_and_voices_are_made_from_the_plain_recordings(speech: Path) -> None:
    agent.make_styled("train", 1)
    agent.make_voices("train", 1)
    (styled_path,) = list_shards(speech, "styled-replies-train")
    (voices_path,) = list_shards(speech, "voices-replies-train")
    assert styled_path.name.endswith("-00004")
    usual = all_fixed(DEFAULTS["en"])[0]
    assert {agent.style_of(clip) for clip, _ in read_shard(styled_path) if clip.text == usual} == set(STYLES)
    assert agent.source_shard(voices_path.name) == agent.source_shard(styled_path.name) == "replies-train-00004"
    plain = list(read_shard(speech / "replies-train-00004"))
    for clip, wave in read_shard(voices_path):
        source, recording = plain[int(clip.slots["of"])]
        assert clip.text == source.text
        assert len(wave) == len(recording)
    before = styled_path.with_suffix(".npy").stat().st_mtime_ns
    agent.make_styled("train", 1)
    assert styled_path.with_suffix(".npy").stat().st_mtime_ns == before


def test_a_style_of_the_prompt_is_kept_like_one_asked_for() -> None:
    assert styled("You are Mira.", "", "en") == "You are Mira."
    assert all(set(tags) == set(STYLES) for tags in STYLE_TAGS.values())
    assert styled("你是小美。", "sad", "zh").endswith(STYLE_TAGS["zh"]["sad"])
    assert Receptionist(style="sad").memory.style == "sad"
