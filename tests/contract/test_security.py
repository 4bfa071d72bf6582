"""TLS and tokens on gRPC ports, by real handshakes: who gets in, who does not, and what changed files do."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from services.common.channels import channel
from services.common.errors import SetupError
from services.common.grpc_server import Server, Slots
from services.common.security import GrpcSecurity
from services.common.settings import TritonTls
from services.common.triton import TritonModel
from tests.contract.test_server import SERVICE, Holding, one
from tests.integration.certificates import certificate
from trunkline.v1 import tokenizer_pb2 as pb
from trunkline.v1 import tokenizer_pb2_grpc as rpc

TOKEN = "correct-horse-battery-staple"
SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> GrpcSecurity:
    """Of a process that has all there is: mutual TLS and a token."""
    return files(tmp_path_factory.mktemp("ours")).model_copy(update={"token": GrpcSecurity(token=TOKEN).token})


def files(directory: Path) -> GrpcSecurity:
    """Mutual TLS with an authority of its own."""
    made = certificate(directory)
    for path in directory.iterdir():
        os.utime(path, (path.stat().st_mtime - 60.0,) * 2)  # what is written later is seen to be newer
    return GrpcSecurity(certificate=made.certificate, key=made.key, client_ca=made.ca, ca=made.ca)


@asynccontextmanager
async def serving(security: GrpcSecurity, host: str = "127.0.0.1") -> AsyncIterator[str]:
    slots = Slots(2, "streams")
    servicer = Holding(slots)
    server = Server(
        SERVICE,
        lambda inner: rpc.add_SpeechTokenizerServicer_to_server(servicer, inner),
        f"{host}:0",
        slots,
        security,
    )
    try:
        yield f"{host}:{await server.start()}"
    finally:
        await server.drain(0)


async def info(address: str, security: GrpcSecurity) -> Any:
    """The answer to Info, or the status it failed with."""
    async with channel(address, security=security) as connection:
        stub: Any = rpc.SpeechTokenizerStub(connection)
        try:
            return await stub.Info(pb.SpeechTokenizerInfoRequest(), timeout=30)
        except grpc.aio.AioRpcError as error:
            return error.code()


async def health(address: str, security: GrpcSecurity) -> Any:
    async with channel(address, security=security) as connection:
        stub: Any = health_pb2_grpc.HealthStub(connection)
        try:
            return (await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=30)).status
        except grpc.aio.AioRpcError as error:
            return error.code()


def without(security: GrpcSecurity, *names: str) -> GrpcSecurity:
    plain = GrpcSecurity()
    return security.model_copy(update={name: getattr(plain, name) for name in names})


async def test_certificate_and_token_open_everything(ours: GrpcSecurity) -> None:
    async with serving(ours) as address, channel(address, security=ours) as connection:
        stub: Any = rpc.SpeechTokenizerStub(connection)
        assert (await stub.Info(pb.SpeechTokenizerInfoRequest())).capacity == 2
        assert len([_ async for _ in stub.Tokenize(one(b"1234"))]) == 1
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(connection)
        names = reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        answer = await names.read()
        assert SERVICE in [service.name for service in answer.list_services_response.service]


@pytest.mark.parametrize("token", ["", "correct-horse-battery-stable", TOKEN + "s"])
async def test_no_or_a_wrong_token_is_unauthenticated_but_health_answers(ours: GrpcSecurity, token: str) -> None:
    stranger = ours.model_copy(update={"token": GrpcSecurity(token=token).token})
    async with serving(ours) as address:
        assert await info(address, stranger) is grpc.StatusCode.UNAUTHENTICATED
        assert await health(address, stranger) == SERVING
        async with channel(address, security=stranger) as connection:
            stub: Any = rpc.SpeechTokenizerStub(connection)
            silent = stub.Tokenize()  # sends nothing, and is refused all the same
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await silent.read()
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            reflection: Any = reflection_pb2_grpc.ServerReflectionStub(connection)
            with pytest.raises(grpc.aio.AioRpcError) as hidden:
                await reflection.ServerReflectionInfo().read()
            assert hidden.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_without_a_certificate_of_ours_nothing_answers(ours: GrpcSecurity, tmp_path: Path) -> None:
    other = files(tmp_path)
    async with serving(ours) as address:
        for stranger in (
            without(ours, "ca"),  # speaks no TLS
            without(ours, "certificate", "key", "client_ca"),  # shows no certificate
            other.model_copy(update={"ca": ours.ca, "token": ours.token}),  # one of another authority
            ours.model_copy(update={"ca": other.ca}),  # does not trust the server's
        ):
            assert await info(address, stranger) is grpc.StatusCode.UNAVAILABLE
            assert await health(address, stranger) is grpc.StatusCode.UNAVAILABLE
        assert (await info(address, ours)).capacity == 2


async def test_a_token_alone_is_asked_for_on_a_plain_port(ours: GrpcSecurity) -> None:
    plain = GrpcSecurity(token=TOKEN)
    async with serving(plain) as address:
        assert (await info(address, plain)).capacity == 2
        assert await info(address, GrpcSecurity()) is grpc.StatusCode.UNAUTHENTICATED
        assert await health(address, GrpcSecurity()) == SERVING


async def test_new_certificates_are_used_without_a_restart(tmp_path: Path) -> None:
    security = files(tmp_path / "now")
    old = files(tmp_path / "old")
    async with serving(security) as address, channel(address, security=security) as connection:
        stub: Any = rpc.SpeechTokenizerStub(connection)
        held = stub.Tokenize()
        await held.read()
        certificate(tmp_path / "now")  # another authority's, under the same names
        assert (await stub.Info(pb.SpeechTokenizerInfoRequest(), timeout=30)).active == 1, "on a new connection"
        assert (await info(address, security)).capacity == 2
        assert await info(address, old) is grpc.StatusCode.UNAVAILABLE
        await held.done_writing()
        assert await held.read() is grpc.aio.EOF, "a stream goes on over the connection it has"


async def test_new_certificates_that_are_broken_change_nothing(tmp_path: Path) -> None:
    security = files(tmp_path / "now")
    elsewhere = files(tmp_path / "copy")
    for name in ("certificate.pem", "key.pem", "ca.pem"):
        (tmp_path / "copy" / name).write_bytes((tmp_path / "now" / name).read_bytes())
    async with serving(security) as address:
        (tmp_path / "now" / "key.pem").write_text("half a key")
        assert (await info(address, elsewhere)).capacity == 2


async def test_a_new_token_is_taken_beside_the_old_one(tmp_path: Path) -> None:
    old, new = TOKEN, "a-token-of-the-next-month"
    (tmp_path / "server").write_text(f"{old}\n")
    (tmp_path / "client").write_text(f"{old}\n")
    client = GrpcSecurity(token_file=tmp_path / "client")
    async with (
        serving(GrpcSecurity(token_file=tmp_path / "server")) as address,
        channel(address, security=client) as connection,
    ):
        stub: Any = rpc.SpeechTokenizerStub(connection)
        request = pb.SpeechTokenizerInfoRequest()
        await stub.Info(request)
        (tmp_path / "server").write_text(f"{new}\n{old}\n")
        await stub.Info(request)
        (tmp_path / "client").write_text(f"{new}\n")
        await stub.Info(request)
        (tmp_path / "server").write_text(f"{new}\n")
        await stub.Info(request)
        assert await info(address, GrpcSecurity(token=old)) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_replica_found_by_its_address_is_checked_by_name(ours: GrpcSecurity) -> None:
    async with serving(ours, "127.0.0.2") as address:
        assert await info(address, ours) is grpc.StatusCode.UNAVAILABLE, "the certificate is 127.0.0.1's"
        for name, answers in (("127.0.0.1", True), ("lm.example", False)):
            async with channel(address, server_name=name, security=ours) as connection:
                stub: Any = rpc.SpeechTokenizerStub(connection)
                call = stub.Info(pb.SpeechTokenizerInfoRequest(), timeout=30)
                assert (await call.code() is grpc.StatusCode.OK) is answers


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:50051", "a.example:50051"])
def test_a_port_that_is_open_to_the_network_is_refused(address: str, ours: GrpcSecurity, tmp_path: Path) -> None:
    tls_only = without(ours, "client_ca", "token")
    for security in (GrpcSecurity(), tls_only):
        with pytest.raises(SetupError, match="TRUNKLINE_GRPC_TRUST_NETWORK"):
            security.check_exposure(address)
    for security in (GrpcSecurity(trust_network=True), GrpcSecurity(token=TOKEN), without(ours, "token"), ours):
        security.check_exposure(address)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.8.9.1:5", "localhost:50051", "[::1]:50051"])
def test_loopback_may_be_plain(address: str) -> None:
    GrpcSecurity().check_exposure(address)


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"TOKEN": "short"}, "TRUNKLINE_GRPC_TOKEN: a token has at least 16 characters"),
        ({"TOKEN_FILE": "/nowhere"}, "TRUNKLINE_GRPC_TOKEN_FILE: /nowhere: cannot be read"),
        ({"TOKEN": TOKEN, "TOKEN_FILE": "/nowhere"}, "not both"),
        ({"CERTIFICATE": "/nowhere"}, "belong together"),
        ({"CLIENT_CA": "/nowhere"}, "TRUNKLINE_GRPC_CLIENT_CA needs TRUNKLINE_GRPC_CERTIFICATE"),
        ({"CERTIFICATE": "/nowhere", "KEY": "/nowhere"}, "/nowhere: cannot be read"),
        ({"TRUST_NETWORK": "perhaps"}, "TRUNKLINE_GRPC_TRUST_NETWORK"),
    ],
)
def test_unusable_settings_are_named(
    variables: dict[str, str], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"TRUNKLINE_GRPC_{name}", value)
    with pytest.raises(SetupError) as error:
        Server(SERVICE, lambda server: None, "127.0.0.1:0", Slots(1, "streams"))
    assert complaint in str(error.value)
    assert TOKEN not in str(error.value)


def test_a_key_of_another_certificate_is_refused(ours: GrpcSecurity, tmp_path: Path) -> None:
    mixed = ours.model_copy(update={"key": files(tmp_path).key})
    with pytest.raises(SetupError, match="TRUNKLINE_GRPC_KEY"):
        mixed.server_credentials()


async def test_the_probe_speaks_tls(ours: GrpcSecurity) -> None:
    async with serving(ours) as address:
        command = [sys.executable, "-m", "services.common.probe", "--address", address, "--service", SERVICE]
        command += ["--timeout", "60"]
        good = {"CA": str(ours.ca), "CERTIFICATE": str(ours.certificate), "KEY": str(ours.key)}
        for variables, status, said in ((good, 0, "SERVING"), ({}, 1, "UNAVAILABLE")):
            environment = {f"TRUNKLINE_GRPC_{name}": value for name, value in variables.items()}
            done = await asyncio.to_thread(
                subprocess.run, command, capture_output=True, text=True, env=environment, check=False
            )
            assert (done.returncode, done.stdout.strip(), done.stderr) == (status, said, "")


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    async def ModelReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=True)


async def test_triton_is_reached_over_tls(tmp_path: Path) -> None:
    made = certificate(tmp_path / "triton")
    security = files(tmp_path / "triton")
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Triton(), server)
    credentials = security.server_credentials()
    assert credentials is not None
    url = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    await server.start()
    assert made.key is not None
    assert made.ca is not None
    try:
        for tls, ready in (
            (TritonTls(security.ca or Path(), security.certificate, security.key), True),
            (TritonTls(security.ca or Path(), None, None), False),
            (None, False),
        ):
            model = TritonModel(url, "voice_lm", tls)
            assert await model.ready() is ready
            await model.close()
    finally:
        await server.stop(0)
    with pytest.raises(SetupError, match="TRITON_CA"):
        TritonModel(url, "voice_lm", TritonTls(tmp_path / "nowhere", None, None))
