"""vLLM starts slowly: one engine serves all tests, with room for a few sessions of full length only."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

import grpc
import pytest
import pytest_asyncio

from services.common.grpc_server import Server, Slots
from services.lm.prompt import ChatTemplate
from services.lm.servicer import SERVICE, VoiceLMServicer
from services.lm.vllm_engine.build import VllmSettings, build
from tests.contract.test_lm import CAPACITY, CONTEXT, Service
from tests.unit.lm.checkpoint import write_checkpoint
from tests.vllm.processes import command, descendants, wait_for_end
from trunkline.v1 import lm_pb2_grpc

if TYPE_CHECKING:
    from services.lm.torch_engine.cache import BlockPool
    from services.lm.torch_engine.scheduler import Scheduler
    from services.lm.vllm_engine.engine import VllmEngine

if find_spec("vllm") is None:
    collect_ignore = ["test_contract.py", "test_engine.py", "test_process.py"]

SESSIONS = 16
KV_MIB = 8  # five sessions of full length


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The engine belongs to one event loop, so the tests share it."""
    for item in items:
        if Path(__file__).parent in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def checkpoint_dir(tmp_path_factory: pytest.TempPathFactory, golden_dir: Path) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("lm-vllm") / "weights", golden_dir, CONTEXT)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(checkpoint_dir: Path) -> "AsyncIterator[VllmEngine]":
    settings = VllmSettings(capacity=SESSIONS, threads=1, kv_mib=KV_MIB)
    engine, _ = build(checkpoint_dir, ChatTemplate.load(checkpoint_dir), settings, died=lambda: None)
    yield engine
    children = [pid for pid in descendants(os.getpid()) if "VLLM" in command(pid)]
    assert len(children) >= 2
    engine.stop()
    wait_for_end(children)


class Load:
    """What the contract's tests look at to see that nothing is left; a request that vLLM has stands for its blocks."""

    blocks = 0

    def __init__(self, engine: "VllmEngine") -> None:
        self._engine = engine

    @property
    def sessions(self) -> int:
        return self._engine.sessions

    @property
    def has_work(self) -> bool:
        return self._engine.requests > 0

    @property
    def free(self) -> int:
        return -self._engine.requests


@asynccontextmanager
async def serve(engine: "VllmEngine", directory: Path, capacity: int) -> AsyncIterator[Service]:
    """The gRPC service over the engine."""
    template = ChatTemplate.load(directory)
    slots = Slots(capacity, "language model sessions")
    servicer = VoiceLMServicer(engine, template, slots, "0123456789ab", capacity * CONTEXT)
    server = Server(SERVICE, lambda s: lm_pb2_grpc.add_VoiceLMServicer_to_server(servicer, s), "127.0.0.1:0", slots)
    port = await server.start()
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        stub: lm_pb2_grpc.VoiceLMAsyncStub = lm_pb2_grpc.VoiceLMStub(channel)
        load = Load(engine)
        yield Service(stub, cast("Scheduler", load), cast("BlockPool", load), template, server, slots, channel)
    await server.drain(0)


@pytest_asyncio.fixture(loop_scope="session")
async def service(engine: "VllmEngine", checkpoint_dir: Path) -> AsyncIterator[Service]:
    async with serve(engine, checkpoint_dir, CAPACITY) as service:
        yield service


@pytest_asyncio.fixture(loop_scope="session")
async def large_service(engine: "VllmEngine", checkpoint_dir: Path) -> AsyncIterator[Service]:
    async with serve(engine, checkpoint_dir, SESSIONS) as service:
        yield service
