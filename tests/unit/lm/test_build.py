import asyncio
import json
from pathlib import Path

import pytest
import torch

from services.common.errors import DrainingError, WeightsError
from services.lm import weights
from services.lm.engine import Added, Event, Finished, GenerationSettings, Reason
from services.lm.prompt import ChatTemplate
from services.lm.torch_engine.build import TorchSettings, build, kv_tokens
from tests.unit.lm.checkpoint import write_checkpoint


def test_unknown_device_is_named(checkpoint_dir: Path, template: ChatTemplate) -> None:
    with pytest.raises(ValueError, match="--device: warp cannot be used"):
        build(checkpoint_dir, template, TorchSettings(device="warp"))


def test_tokenizer_with_more_ids_than_the_model(tmp_path: Path, golden_dir: Path) -> None:
    path = write_checkpoint(tmp_path, golden_dir) / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config["added_tokens_decoder"]["1024"] = {"content": "<|late|>"}
    path.write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"ids up to 1024, config\.json's padded_vocab_size is 1024"):
        build(tmp_path, ChatTemplate.load(tmp_path), TorchSettings())


async def test_stopped_engine_takes_nothing(checkpoint_dir: Path, template: ChatTemplate) -> None:
    engine, _ = build(checkpoint_dir, template, TorchSettings())
    session = await engine.open([1, 2], lambda event: None)
    await asyncio.to_thread(engine.stop)
    with pytest.raises(DrainingError):
        await session.append([3])


def test_memory_for_keys_and_values(checkpoint_dir: Path) -> None:
    architecture = weights.inspect(checkpoint_dir).architecture
    cpu = torch.device("cpu")
    assert kv_tokens(architecture, torch.float32, cpu, TorchSettings(capacity=3)) == 3 * 1024
    # A position is 3 layers x keys and values x 2 heads x 32 numbers.
    per_token = 3 * 2 * 2 * 32 * 4
    assert kv_tokens(architecture, torch.float32, cpu, TorchSettings(kv_mib=4)) == 4 * 2**20 // per_token // 32 * 32
    assert kv_tokens(architecture, torch.bfloat16, cpu, TorchSettings(kv_mib=2)) == 4 * 2**20 // per_token // 32 * 32
    with pytest.raises(ValueError, match=r"--kv-mib: 0 MiB are too few; one session of 1024 tokens needs 2 MiB"):
        kv_tokens(architecture, torch.float32, cpu, TorchSettings(kv_mib=1))


async def test_int4_answers_through_the_engine(checkpoint_dir: Path, template: ChatTemplate) -> None:
    engine, _ = build(checkpoint_dir, template, TorchSettings(quantization="int4"))
    events: asyncio.Queue[Event] = asyncio.Queue()
    session = await engine.open([*template.prefix, *template.user_text("hello")], events.put_nowait)
    await session.generate(GenerationSettings(max_new_tokens=20))
    async with asyncio.timeout(60):
        while not isinstance(event := await events.get(), Finished):
            assert isinstance(event, Added)
    assert event.reason in (Reason.MAX_TOKENS, Reason.END_OF_TURN)
    await asyncio.to_thread(engine.stop)
