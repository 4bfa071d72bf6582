import asyncio
import json
from pathlib import Path

import pytest

from services.common.errors import DrainingError, WeightsError
from services.lm.prompt import ChatTemplate
from services.lm.torch_engine.build import build
from tests.unit.lm.checkpoint import write_checkpoint


def test_unknown_device_is_named(checkpoint_dir: Path, template: ChatTemplate) -> None:
    with pytest.raises(ValueError, match="warp cannot be used"):
        build(checkpoint_dir, template, device="warp")


def test_tokenizer_with_more_ids_than_the_model(tmp_path: Path, golden_dir: Path) -> None:
    path = write_checkpoint(tmp_path, golden_dir) / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config["added_tokens_decoder"]["1024"] = {"content": "<|late|>"}
    path.write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"ids up to 1024, config\.json's padded_vocab_size is 1024"):
        build(tmp_path, ChatTemplate.load(tmp_path))


async def test_stopped_engine_takes_nothing(checkpoint_dir: Path, template: ChatTemplate) -> None:
    engine, _ = build(checkpoint_dir, template)
    session = await engine.open([1, 2], lambda event: None)
    await asyncio.to_thread(engine.stop)
    with pytest.raises(DrainingError):
        await session.append([3])
