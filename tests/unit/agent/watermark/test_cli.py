import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from services.agent.cli import app
from services.agent.cli_watermark import KEY
from services.agent.watermark.code import Code
from tests.unit.agent.watermark.test_watermark import RATE, marked, syllables


@pytest.fixture
def own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["watermark", "detect", *arguments])
    return result.exit_code, result.output


@pytest.mark.usefixtures("own_key")
def test_tells_of_each_file_whether_where_and_how_surely(tmp_path: Path) -> None:
    bot, human = tmp_path / "bot.wav", tmp_path / "human.wav"
    pcm = syllables(6.0)
    stereo = np.stack([pcm, marked(pcm)], axis=1)
    soundfile.write(bot, stereo, RATE, subtype="PCM_16")
    soundfile.write(human, pcm, RATE, subtype="ULAW")
    assert run(str(bot))[0] == 0
    status, said = run(str(bot), str(human))
    assert status == 1
    first, second = said.splitlines()
    assert first.startswith(f"{bot}: watermark, 0.0 to 6.0 s of channel 2 (p = ")
    assert second.startswith(f"{human}: no watermark (p = ")
    record = json.loads(run(str(bot), "--json")[1])
    assert record["found"]
    assert record["p_value"] < 1e-9
    assert record["spans"] == [{"start_s": 0.0, "end_s": pytest.approx(6.0), "channel": 2}]


@pytest.mark.usefixtures("own_key")
def test_operators_key_comes_from_a_file_or_the_agents_own_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot, key = tmp_path / "bot.wav", tmp_path / "key"
    key.write_text("a secret\n")
    soundfile.write(bot, marked(syllables(5.0), code=Code.of(b"a secret")), RATE, subtype="PCM_16")
    assert run(str(bot))[0] == 1
    assert run(str(bot), "--key-file", str(key))[0] == 0
    monkeypatch.setenv(KEY, "a secret")
    assert run(str(bot))[0] == 0


@pytest.mark.usefixtures("own_key")
def test_what_cannot_be_read_is_said_in_a_line(tmp_path: Path) -> None:
    text, short = tmp_path / "notes.wav", tmp_path / "short.wav"
    text.write_text("no audio")
    soundfile.write(short, np.zeros(800, np.int16), 8000)
    for arguments, message in (
        ((str(tmp_path / "none.wav"),), "does not exist"),
        ((str(tmp_path),), "is a directory"),
        ((str(text),), "cannot be read as audio"),
        ((str(short),), "0.10 s long: at least 1 s"),
        ((str(short), "--key-file", str(tmp_path / "none")), "No such file"),
    ):
        status, said = run(*arguments)
        assert status == 2
        assert said.startswith("watermark: error: ")
        assert message in said
        assert len(said.splitlines()) == 1
