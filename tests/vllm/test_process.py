"""`python -m services.lm --engine vllm` as a process."""

import asyncio
import os
import signal
from pathlib import Path

import grpc
import pytest

from tests.contract.test_lm import start
from tests.vllm.processes import command, descendants, lives, wait_for_end
from trunkline.v1 import lm_pb2, lm_pb2_grpc

NANO = Path(__file__).parents[2] / "weights" / "nano" / "lm"
ARGUMENTS = ("--engine", "vllm", "--listen", "127.0.0.1:0")


async def speak(port: str) -> list[int]:
    """One answer."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: lm_pb2_grpc.VoiceLMAsyncStub = lm_pb2_grpc.VoiceLMStub(channel)
        call = stub.Converse()
        await call.write(lm_pb2.ConverseRequest(open=lm_pb2.OpenSession(tokens=[1, 2, 3])))
        await call.write(lm_pb2.ConverseRequest(append=lm_pb2.Append(user_text="hello")))
        await call.write(lm_pb2.ConverseRequest(generate=lm_pb2.Generate(max_new_tokens=5)))
        await call.done_writing()
        return [token for response in [r async for r in call] for token in response.generated.tokens]


async def speak_for_ever(port: str) -> None:
    while True:
        await speak(port)


async def test_process_serves_the_shipped_weights_and_ends_when_its_engine_dies() -> None:
    process = start(*ARGUMENTS, "--weights", str(NANO), "--threads", "1")
    children: list[int] = []
    try:
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        assert line.startswith("services.lm: serving on port ")
        port = line.split()[-1]
        assert len(await speak(port)) > 5
        children = descendants(process.pid)
        engine = next(child for child in children if "EngineCore" in command(child))
        os.kill(engine, signal.SIGKILL)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await speak_for_ever(port)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        _, err = await asyncio.to_thread(process.communicate, timeout=60)
        assert process.returncode == 0, err
        await asyncio.to_thread(wait_for_end, children)
    finally:
        process.kill()
        process.wait()
        for pid in children:
            if lives(pid):
                os.kill(pid, signal.SIGKILL)


async def test_wrong_device(checkpoint_dir: Path) -> None:
    process = start(*ARGUMENTS, "--weights", str(checkpoint_dir), "--device", "cuda")
    out, err = await asyncio.to_thread(process.communicate, timeout=280)
    assert (process.returncode, out) == (2, "")
    # vLLM's log comes before it
    assert err.splitlines()[-1] == ("services.lm: error: --device: cuda cannot be used, this vLLM was built for cpu")
