"""`python -m services.common.probe --address HOST:PORT`: whether a gRPC service serves, for ports behind TLS.

Kubernetes' own gRPC probes speak no TLS; this is an `exec` probe with the settings that the services have.
"""

import asyncio
import os
import sys
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.channels import channel
from services.common.errors import SetupError
from services.common.settings import ProcessSettings, fail, load

PROG = "services.common.probe"


class ProbeSettings(ProcessSettings):
    """What to ask whom."""

    model_config = SettingsConfigDict(env_prefix="TRUNKLINE_PROBE_")

    address: str = Field(description="host:port of the service")
    service: str = Field("", description="full name of the service; empty for the server as a whole")
    server_name: str = Field("", description="name in the server's certificate, where that is not the address's host")
    timeout: float = Field(2.0, gt=0, le=60, description="seconds to wait for the answer")


async def probe(settings: ProbeSettings) -> str:
    """`SERVING`, or what it is instead. Raises SetupError."""
    async with channel(settings.address, server_name=settings.server_name) as connection:
        stub: Any = health_pb2_grpc.HealthStub(connection)
        try:
            request = health_pb2.HealthCheckRequest(service=settings.service)
            answer = await stub.Check(request, timeout=settings.timeout)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def main() -> None:
    """Prints the status; exit status 0 for SERVING, 1 for anything else, 2 for unusable settings."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # the status says it
    settings = load(ProbeSettings, PROG)
    try:
        status = asyncio.run(probe(settings))
    except SetupError as error:
        fail(PROG, str(error))
    print(status)
    sys.exit(status != "SERVING")


if __name__ == "__main__":
    main()
