import sys
from pathlib import Path

import pytest
from pydantic_settings import SettingsConfigDict

from services.common.settings import ModelServiceSettings, load


class Settings(ModelServiceSettings):
    model_config = SettingsConfigDict(env_prefix="TRUNKLINE_TEST_")

    listen: str = "127.0.0.1:0"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Settings:
    monkeypatch.setattr(sys, "argv", ["prog", *arguments])
    return load(Settings, "prog")


def test_command_line_wins_over_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_TEST_WEIGHTS", "/a")
    monkeypatch.setenv("TRUNKLINE_TEST_CAPACITY", "3")
    settings = run(monkeypatch, "--capacity", "5")
    assert settings.weights == Path("/a")
    assert settings.capacity == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--weights: Field required"),
        (["--weights", "w", "--capacity", "0"], "--capacity: Input should be greater than or equal to 1 (given: '0')"),
        (["--weights", "w", "--log-level", "LOUD"], "must be one of DEBUG, INFO, WARNING, ERROR (given: 'LOUD')"),
    ],
)
def test_bad_settings_end_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as raised:
        run(monkeypatch, *arguments)
    assert raised.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert error.startswith("prog: error: ")
