"""grpc.health.v1, with a Watch that several clients can use at once.

In grpcio-health-checking 1.81 all watchers of a service are forgotten when one leaves: the others hear of no change.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

SERVICE_NAME: str = health.SERVICE_NAME


class Health(health.aio.HealthServicer):  # type: ignore[misc]
    """As in the library, but for `Watch`."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    async def Watch(  # noqa: N802 - the contract's name
        self, request: health_pb2.HealthCheckRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status of a service now, and whenever it changes."""
        last = None
        while True:
            changed = self._changed
            status = self._server_status.get(request.service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            if status != last:
                last = status
                yield health_pb2.HealthCheckResponse(status=status)
            await changed.wait()

    async def _set(self, service: str, status: Any) -> None:
        await super()._set(service, status)
        before, self._changed = self._changed, asyncio.Event()
        before.set()
