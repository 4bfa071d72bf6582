from pathlib import Path

import pytest
from pydantic import SecretStr

from services.agent.secrets import SecretError, read_secret


def test_a_secret_comes_from_its_setting_or_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("  s3cret\n")
    assert read_secret(SecretStr("given"), None, "X") == "given"
    assert read_secret("", tmp_path / "secret", "X") == "s3cret"
    assert read_secret(SecretStr(""), "", "X") == ""


def test_an_unusable_one_is_told_without_its_value(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for given, file, complaint in (
        ("s3cret", tmp_path / "empty", "X: give it or a file, not both"),
        ("", tmp_path / "empty", "empty is empty"),
        ("", tmp_path / "binary", "binary cannot be read: not UTF-8"),
        ("", tmp_path / "none", "none cannot be read: No such file"),
    ):
        with pytest.raises(SecretError, match=complaint) as error:
            read_secret(given, file, "X")
        assert "s3cret" not in str(error.value)
