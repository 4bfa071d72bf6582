"""A model's settings at Triton: config.pbtxt's parameters, and the environment over them."""

import json
from pathlib import Path

import pytest

from services.common.triton_python import ROOT, read_settings
from services.lm.triton_model import TritonSettings


def config(**parameters: str) -> str:
    return json.dumps({"parameters": {name: {"string_value": value} for name, value in parameters.items()}})


def test_parameters_of_the_model() -> None:
    settings = read_settings(TritonSettings, config(weights="weights/nano/lm", capacity="5", dtype="bfloat16"))
    assert settings.weights == ROOT / "weights" / "nano" / "lm"
    assert settings.weights.is_dir()
    assert (settings.capacity, settings.dtype, settings.lease_s) == (5, "bfloat16", 30.0)


def test_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_LM_WEIGHTS", "/models/lm")
    monkeypatch.setenv("TRUNKLINE_LM_DEVICE", "cuda")
    settings = read_settings(TritonSettings, config(weights="weights/nano/lm", device="cpu", capacity="5"))
    assert settings.weights == Path("/models/lm")
    assert (settings.device, settings.capacity) == ("cuda", 5)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"weights": "x", "capacity": "0"}, "capacity: Input should be greater than or equal to 1"),
        ({"weights": "x", "dtype": "int8"}, "dtype: Input should be"),
        ({}, "weights: Field required"),
    ],
)
def test_bad_settings_are_named(parameters: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_settings(TritonSettings, config(**parameters))
