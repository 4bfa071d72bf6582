"""The command line's side of the HTTP API: where it is, with which key, and errors in one line."""

import json
import os
from pathlib import Path
from typing import Any

import httpx

from services.agent.secrets import SecretError, read_secret

STATE = Path(".demo") / "state.json"
ANSWER_S = 30.0
DEFAULT = "http://127.0.0.1:8080"


class ApiError(Exception):
    """A request came to nothing; the message says why in one line."""


class Api:
    """Requests to one agent.

    Args:
        url: of the agent; empty: the running demo's, else `DEFAULT`.
        key_file: with the key; None: the environment variable `TRUNKLINE_API_KEY`, else the running demo's.
    """

    def __init__(self, url: str = "", key_file: Path | None = None) -> None:
        demo = _demo()
        self._url = (url or demo.get("api", "") or DEFAULT).rstrip("/")
        try:
            given = read_secret("" if key_file else os.environ.get("TRUNKLINE_API_KEY", ""), key_file, "the key")
        except SecretError as error:
            raise ApiError(str(error)) from error
        self._key = given or ("" if url and url != demo.get("api") else demo.get("api_key", ""))
        if not self._key:
            raise ApiError("no key: set TRUNKLINE_API_KEY, or name a file with --key-file")

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request under `/api/v1`.

        Raises:
            ApiError: refused, or not answered.
        """
        headers = {**more.pop("headers", {}), "Authorization": f"Bearer {self._key}"}
        try:
            response = httpx.request(
                method, f"{self._url}/api/v1{path}", headers=headers, timeout=ANSWER_S, trust_env=False, **more
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ApiError(f"{self._url} does not answer: {error}") from error
        if response.is_success:
            return response
        try:
            detail = response.json()["detail"]
        except (ValueError, KeyError, TypeError):
            detail = response.text[:200] or response.reason_phrase
        raise ApiError(f"{detail} ({response.status_code})")


def _demo() -> dict[str, str]:
    """What the running demo says of itself; empty when there is none."""
    try:
        state = json.loads(STATE.read_text())
        return {name: str(state[name]) for name in ("api", "api_key") if name in state}
    except (OSError, ValueError, TypeError):
        return {}
