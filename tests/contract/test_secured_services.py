"""All four services as processes, with mutual TLS and a token from the environment, and a call through them."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.common.channels import channel
from services.common.security import GrpcSecurity
from tests.integration import stack as stacks
from tests.integration.certificates import certificate
from tests.integration.personas import short_persona
from tests.integration.stack import ROOT, Agent, Stack
from tests.integration.webrtc_caller import calling
from tests.unit.lm.checkpoint import write_checkpoint
from trunkline.v1 import (
    calls_pb2,
    calls_pb2_grpc,
    decoder_pb2,
    decoder_pb2_grpc,
    lm_pb2,
    lm_pb2_grpc,
    tokenizer_pb2,
    tokenizer_pb2_grpc,
)

TOKEN = "correct-horse-battery-staple"
INFOS: dict[str, tuple[Any, Any]] = {
    "tokenizer": (tokenizer_pb2_grpc.SpeechTokenizerStub, tokenizer_pb2.SpeechTokenizerInfoRequest()),
    "lm": (lm_pb2_grpc.VoiceLMStub, lm_pb2.VoiceLMInfoRequest()),
    "decoder": (decoder_pb2_grpc.SpeechDecoderStub, decoder_pb2.SpeechDecoderInfoRequest()),
    "calls": (calls_pb2_grpc.CallsStub, calls_pb2.CallsInfoRequest()),
}


@pytest.fixture(scope="module")
def agent(
    tmp_path_factory: pytest.TempPathFactory, require_debian: Any, golden_dir: Path
) -> Iterator[tuple[Stack, Agent]]:
    require_debian("redis-server")
    directory = tmp_path_factory.mktemp("secured")
    made = certificate(directory / "certificates")
    (directory / "token").write_text(TOKEN + "\n")
    lm = write_checkpoint(directory / "lm-weights", golden_dir, context_length=1024)
    weights = {"tokenizer": golden_dir / "tokenizer", "lm": lm, "decoder": golden_dir / "decoder"}
    with pytest.MonkeyPatch.context() as patch:
        variables = {"CERTIFICATE": made.certificate, "KEY": made.key, "CLIENT_CA": made.ca, "CA": made.ca}
        for name, path in {**variables, "TOKEN_FILE": directory / "token"}.items():
            patch.setenv(f"TRUNKLINE_GRPC_{name}", str(path))
        with (
            stacks.running(directory, weights) as stack,
            stack.agent(capacity=50, personas=short_persona(directory / "personas", max_new_tokens=60)) as agent,
        ):
            yield stack, agent


def addresses(agent: tuple[Stack, Agent]) -> dict[str, str]:
    stack, calls = agent
    return {"tokenizer": stack.tokenizer, "lm": stack.lm, "decoder": stack.decoder, "calls": calls.calls}


async def outcomes(
    agent: tuple[Stack, Agent], security: GrpcSecurity, welcome: bool = False
) -> set[tuple[str, str, str]]:
    """What Info, health and reflection of each service come to: status codes' names."""

    async def ask(name: str, address: str) -> set[tuple[str, str, str]]:
        make, request = INFOS[name]
        async with channel(address, security=security) as connection:
            info = make(connection).Info(request, timeout=60)
            health: Any = health_pb2_grpc.HealthStub(connection)
            check = health.Check(health_pb2.HealthCheckRequest(), timeout=60)
            reflection: Any = reflection_pb2_grpc.ServerReflectionStub(connection)
            # A stranger sends nothing: grpc.aio calls it INTERNAL when a refusal crosses what the client is sending.
            question = reflection_pb2.ServerReflectionRequest(list_services="")
            listed = reflection.ServerReflectionInfo(iter([question]) if welcome else None, timeout=60)
            with contextlib.suppress(grpc.aio.AioRpcError):
                while await listed.read() is not grpc.aio.EOF:
                    pass
            return {
                (name, what, (await call.code()).name)
                for what, call in (("info", info), ("health", check), ("reflection", listed))
            }

    found = await asyncio.gather(*(ask(name, address) for name, address in addresses(agent).items()))
    return set().union(*found)


def expected(info: str, health: str) -> set[tuple[str, str, str]]:
    return {
        (name, what, code)
        for name in INFOS
        for what, code in (("info", info), ("health", health), ("reflection", info))
    }


async def test_who_gets_in_at_each_of_the_four(agent: tuple[Stack, Agent], tmp_path: Path) -> None:
    ours = GrpcSecurity.read()
    assert await outcomes(agent, ours, welcome=True) == expected("OK", "OK")
    plain = GrpcSecurity.model_construct()
    no_token = ours.model_copy(update={"token_file": None})
    assert await outcomes(agent, no_token) == expected("UNAUTHENTICATED", "OK")
    no_certificate = ours.model_copy(update={"certificate": None, "key": None, "client_ca": None})
    assert await outcomes(agent, no_certificate) == expected("UNAVAILABLE", "UNAVAILABLE")
    assert await outcomes(agent, plain) == expected("UNAVAILABLE", "UNAVAILABLE")
    made = certificate(tmp_path)
    stranger = ours.model_copy(update={"certificate": made.certificate, "key": made.key})
    assert await outcomes(agent, stranger) == expected("UNAVAILABLE", "UNAVAILABLE")


async def test_the_agent_publishes_what_the_models_can_take(agent: tuple[Stack, Agent]) -> None:
    stack, calls = agent
    async with channel(stack.lm) as models, channel(calls.calls) as desk:
        lm: lm_pb2_grpc.VoiceLMAsyncStub = lm_pb2_grpc.VoiceLMStub(models)
        stub: calls_pb2_grpc.CallsAsyncStub = calls_pb2_grpc.CallsStub(desk)
        most = (await lm.Info(lm_pb2.VoiceLMInfoRequest())).capacity
        assert (await stub.Info(calls_pb2.CallsInfoRequest())).capacity == most < 50


async def test_a_call_is_answered_and_listed(agent: tuple[Stack, Agent]) -> None:
    _, calls = agent
    async with calling(calls.page) as caller:
        command = [sys.executable, "-m", "services.agent.cli", "--calls", calls.calls, "list"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stderr
        assert caller.call_id in done.stdout
        async with asyncio.timeout(120):
            while not caller.loud_at:
                await asyncio.sleep(0.05)


def test_a_client_without_the_token_is_told(agent: tuple[Stack, Agent], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRUNKLINE_GRPC_TOKEN_FILE")
    command = [sys.executable, "-m", "services.agent.cli", "--calls", agent[1].calls, "list"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert "UNAUTHENTICATED" in done.stderr
