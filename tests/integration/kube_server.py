"""As much of the Kubernetes API server as an agent talks to, over real TLS: pods and Leases with resource versions."""

import contextlib
import itertools
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.integration.certificates import certificate

NAMESPACE, POD, TOKEN = "calls", "agent-7", "service-account-token"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"


class KubeServer:
    """The objects by path, and what was asked.

    Attributes:
        account: directory of a service account that is let in.
        environ: what a container is told of the server.
        broken: it answers everything with 500.
    """

    def __init__(self, directory: Path) -> None:
        tls = certificate(directory / "tls")
        assert tls.ca is not None
        self.account = directory / "account"
        self.account.mkdir()
        (self.account / "ca.crt").write_bytes(tls.ca.read_bytes())
        (self.account / "namespace").write_text(NAMESPACE)
        (self.account / "token").write_text(TOKEN)
        self.objects: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.broken = False
        self._versions = itertools.count(1)
        self.put(f"{PODS}/{POD}", {"metadata": {"name": POD, "uid": "5f2c", "annotations": {}}})
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
                status, answer = server.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()
        self.environ = {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self._http.server_address[1]),
        }

    @property
    def lease(self) -> dict[str, Any] | None:
        """The spec of the agent's Lease."""
        found = self.objects.get(f"{LEASES}/trunkline-agent-{POD}")
        return None if found is None else dict(found["spec"])

    @property
    def cost(self) -> str | None:
        """Deletion cost of the pod."""
        annotations: dict[str, str] = self.objects[f"{PODS}/{POD}"]["metadata"]["annotations"]
        return annotations.get("controller.kubernetes.io/pod-deletion-cost")

    def put(self, path: str, item: dict[str, Any]) -> dict[str, Any]:
        """Writes an object, whoever asks for it."""
        item["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[path] = item
        return item

    def answer(self, method: str, path: str, authorization: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.asked.append(f"{method} {path}")
        there = self.objects.get(path)
        if self.broken:
            return 500, {}
        if authorization.lower() != f"bearer {TOKEN}":
            return 401, {}
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            return (409, {}) if path in self.objects else (201, self.put(path, body))
        if there is None:
            return 404, {}
        if method == "PUT" and body["metadata"].get("resourceVersion") != there["metadata"]["resourceVersion"]:
            return 409, {}
        if method == "PUT":
            return 200, self.put(path, body)
        if method == "PATCH":
            there["metadata"]["annotations"].update(body["metadata"]["annotations"])
            return 200, self.put(path, there)
        if method == "DELETE":
            del self.objects[path]
        return 200, there

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@contextlib.contextmanager
def kube_server(directory: Path) -> Iterator[KubeServer]:
    server = KubeServer(directory)
    try:
        yield server
    finally:
        server.close()
