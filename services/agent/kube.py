"""What an agent tells Kubernetes of itself: how dear its pod is, and that it lives. Not needed for anything else.

The pod's deletion cost is the number of its calls, so that a deployment that shrinks loses idle pods first. A Lease of
coordination.k8s.io is renewed for as long as the agent runs; it belongs to the pod and goes with it.
"""

import asyncio
import datetime
import importlib.util
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
LEASE_S = 15
RENEW_S = 5.0
COST_S = 5.0  # between two changes of the cost: each is work for the API server
POLL_S = 0.5
REQUEST_S = 4.0
_NOT_FOUND, _CONFLICT = 404, 409


def is_pod(account: Path, environ: Mapping[str, str]) -> bool:
    """Whether this process runs in a pod that may talk to the API server."""
    return bool(environ.get("KUBERNETES_SERVICE_HOST")) and (account / "token").is_file()


def client_is_installed() -> bool:
    """Whether the package `kubernetes` is there: the extra `kubernetes`."""
    return importlib.util.find_spec("kubernetes") is not None


class Pod:
    """The pod that this process runs in. Its methods block for `REQUEST_S` at most per request.

    Args:
        account: directory of the service account: token, ca.crt, namespace.
        environ: where the API server is, as Kubernetes says to each container.
        name: of the pod.
        holder: who holds the Lease.

    Raises:
        OSError: a file of the service account cannot be read.
    """

    def __init__(self, account: Path, environ: Mapping[str, str], name: str, holder: str) -> None:
        from kubernetes import client
        from kubernetes.config.incluster_config import InClusterConfigLoader

        configuration = client.Configuration()
        loader: Any = InClusterConfigLoader
        token, authorities = str(account / "token"), str(account / "ca.crt")
        loader(token_filename=token, cert_filename=authorities, environ=environ).load_and_set(configuration)
        configuration.retries = False  # the next round is the retry
        self._client = client
        self._api: Any = client.ApiClient(configuration)
        self._pods: Any = client.CoreV1Api(self._api)
        self._leases: Any = client.CoordinationV1Api(self._api)
        self._namespace = (account / "namespace").read_text().strip()
        self._name = name
        self._holder = holder
        self._lease: Any = None
        self._owner: Any = None

    @property
    def lease_name(self) -> str:
        """Of the Lease."""
        return f"trunkline-agent-{self._name}"

    def cost(self, calls: int) -> None:
        """Says how dear the pod is. Raises ApiException or an error of urllib3."""
        patch = {"metadata": {"annotations": {DELETION_COST: str(calls)}}}
        self._pods.patch_namespaced_pod(self._name, self._namespace, patch, _request_timeout=REQUEST_S)

    def renew(self, now: datetime.datetime) -> None:
        """Takes the Lease, or renews it. Raises as `cost` does.

        A Lease that somebody else has written to is read again, once: an earlier process of this pod may have.
        """
        try:
            self._write(now)
        except self._client.ApiException as error:
            if error.status not in (_NOT_FOUND, _CONFLICT):
                raise
            self._lease = None
            self._write(now)

    def release(self) -> None:
        """Gives the Lease up. Raises as `cost` does."""
        if self._lease is not None:
            self._leases.delete_namespaced_lease(self.lease_name, self._namespace, _request_timeout=REQUEST_S)
            self._lease = None

    def close(self) -> None:
        """Closes the connections."""
        self._api.close()

    def _write(self, now: datetime.datetime) -> None:
        lease = self._lease or self._found()
        if lease is None:
            self._lease = self._leases.create_namespaced_lease(
                self._namespace, self._new(now), _request_timeout=REQUEST_S
            )
            return
        if lease.spec.holder_identity != self._holder:
            lease.spec.holder_identity, lease.spec.acquire_time = self._holder, now
            lease.spec.lease_transitions = (lease.spec.lease_transitions or 0) + 1
        lease.spec.renew_time, lease.spec.lease_duration_seconds = now, LEASE_S
        # With the resourceVersion that was read: the server refuses it (409) when the Lease has changed since.
        self._lease = self._leases.replace_namespaced_lease(
            self.lease_name, self._namespace, lease, _request_timeout=REQUEST_S
        )

    def _found(self) -> Any:
        try:
            return self._leases.read_namespaced_lease(self.lease_name, self._namespace, _request_timeout=REQUEST_S)
        except self._client.ApiException as error:
            if error.status == _NOT_FOUND:
                return None
            raise

    def _new(self, now: datetime.datetime) -> Any:
        if self._owner is None:
            pod = self._pods.read_namespaced_pod(self._name, self._namespace, _request_timeout=REQUEST_S)
            self._owner = self._client.V1OwnerReference(
                api_version="v1", kind="Pod", name=self._name, uid=pod.metadata.uid
            )
        metadata = self._client.V1ObjectMeta(name=self.lease_name, owner_references=[self._owner])
        spec = self._client.V1LeaseSpec(
            holder_identity=self._holder,
            lease_duration_seconds=LEASE_S,
            acquire_time=now,
            renew_time=now,
            lease_transitions=0,
        )
        return self._client.V1Lease(metadata=metadata, spec=spec)


class Presence:
    """Keeps Kubernetes informed until it is cancelled. That it cannot be reached is logged, and changes nothing else.

    Args:
        calls: how many there are.
        clock: monotonic, seconds.
    """

    def __init__(self, pod: Pod, calls: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._pod = pod
        self._calls = calls
        self._clock = clock
        self._said: int | None = None
        self._cost_at = self._renew_at = 0.0
        self._reaches = True

    async def run(self) -> None:
        """Until cancelled; then the Lease is given up."""
        try:
            while True:
                await self.step()
                await asyncio.sleep(POLL_S)
        finally:
            await self._try(self._pod.release)
            self._pod.close()

    async def step(self) -> None:
        """Says what is due now."""
        now, calls = self._clock(), self._calls()
        if now >= self._renew_at:
            self._renew_at = now + RENEW_S
            await self._try(lambda: self._pod.renew(datetime.datetime.now(datetime.UTC)))
        if calls != self._said and now >= self._cost_at:
            self._cost_at = now + COST_S
            if await self._try(lambda: self._pod.cost(calls)):
                self._said = calls

    async def _try(self, request: Callable[[], None]) -> bool:
        try:
            await asyncio.to_thread(request)
        except Exception as error:  # whatever the client raises: calls go on without Kubernetes
            if self._reaches:
                log.warning("Kubernetes is not reached", extra={"why": _why(error)})
            self._reaches = False
            return False
        if not self._reaches:
            log.info("Kubernetes is reached again")
        self._reaches = True
        return True


def _why(error: Exception) -> str:
    status = getattr(error, "status", None)
    return f"{type(error).__name__} {status}" if status else type(error).__name__
