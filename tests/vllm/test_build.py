import json
from pathlib import Path

import pytest

from services.common.errors import WeightsError
from services.lm.prompt import ChatTemplate
from services.lm.vllm_engine.build import VllmSettings, build
from tests.unit.lm.checkpoint import write_checkpoint


def refusal(directory: Path, monkeypatch: pytest.MonkeyPatch, settings: VllmSettings) -> str:
    """Why vLLM is not started."""
    monkeypatch.setattr("services.lm.vllm_engine.build.find_spec", lambda name: object())
    with pytest.raises((WeightsError, ValueError)) as caught:
        build(directory, ChatTemplate.load(directory), settings, died=lambda: None)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ffn_hidden_size": 345}, "has shape (128, 344), config.json asks for (128, 345)"),
        (
            {"num_attention_heads": 8, "kv_channels": 16, "multi_query_group_num": 4},
            "kv_channels is 16; vLLM on the CPU supports 32, 64,",
        ),
        ({"eos_token_id": 2000}, "ids up to 2000, config.json's padded_vocab_size is 1024"),
    ],
)
def test_a_wrong_checkpoint_is_told_before_vllm_starts(
    tmp_path: Path, golden_dir: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], message: str
) -> None:
    path = write_checkpoint(tmp_path, golden_dir) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert message in refusal(tmp_path, monkeypatch, VllmSettings())


def test_memory_that_does_not_hold_one_session(
    tmp_path: Path, golden_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write_checkpoint(tmp_path, golden_dir, context_length=1024)
    # ten blocks of 128 tokens, 1,536 bytes each
    line = refusal(directory, monkeypatch, VllmSettings(kv_mib=1))
    assert line == "--kv-mib: 1 MiB are too few; one session of 1024 tokens needs 2 MiB"
