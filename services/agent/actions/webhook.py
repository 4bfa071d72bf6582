"""Requests to an operator's HTTP servers. What they take and what they answer is bounded in time and size."""

import asyncio
import json
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from services.agent.actions.config import Webhook, with_secrets

MAX_REPLY_BYTES = 64 * 1024
SOCKET_TIMEOUT_S = 30.0  # of a single step; all of a request is bounded by the persona
FIRST_PAUSE_S = 0.2  # before a retry; it doubles
LONGEST_PAUSE_S = 2.0
logging.getLogger("httpx").setLevel(logging.WARNING)  # its INFO lines hold whole URLs


class WebhookError(Exception):
    """No usable reply; the message says why, without any content."""


class WebhookTimeoutError(WebhookError):
    """No whole reply in time."""


class _PassingError(WebhookError):
    """Another try may succeed."""


class _PassingTimeoutError(_PassingError, WebhookTimeoutError):
    """The same, for time."""


@dataclass(frozen=True)
class Notice:
    """What a webhook is told, as JSON or, with GET, as query parameters.

    Attributes:
        action: name of the action.
        text: the bot's sentence that set it off; empty when keys did.
        keys: that the caller pressed; empty when text set it off.
        turn: number of the caller's turn, 0 before the first.
    """

    call_id: str
    persona: str
    action: str
    turn: int
    text: str
    keys: str


class Reply(BaseModel):
    """What a server may answer; other keys are its own affair."""

    model_config = ConfigDict(extra="ignore", strict=True)

    say: str = Field("", max_length=500)


class Webhooks:
    """The HTTP client of all calls of an agent.

    It follows no redirects and takes neither proxies nor passwords from its surroundings: a request goes to the URL
    in the persona and nowhere else.

    Args:
        sleep: waits between tries.
    """

    def __init__(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._sleep = sleep
        self._client = httpx.AsyncClient(
            follow_redirects=False, trust_env=False, timeout=SOCKET_TIMEOUT_S, verify=ssl.create_default_context()
        )

    async def close(self) -> None:
        """Closes its connections."""
        await self._client.aclose()

    async def send(self, webhook: Webhook, notice: Notice, key: str) -> str:
        """Sends a notice; returns the text that the server wants said, if any.

        Args:
            key: names this request for servers that must not act twice on it; the same in all tries.

        Raises:
            WebhookError: no reply, not a 2xx one, or not a usable one.
        """
        tries = AsyncRetrying(
            stop=stop_after_attempt(1 + webhook.retries),
            wait=wait_random_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S),
            retry=retry_if_exception_type(_PassingError),
            sleep=self._sleep,
            reraise=True,
        )
        return await tries(self._send_once, webhook, notice, key)

    async def _send_once(self, webhook: Webhook, notice: Notice, key: str) -> str:
        headers = {name: with_secrets(value) for name, value in webhook.headers.items()}
        headers |= {"Idempotency-Key": key, "Accept": "application/json", "Accept-Encoding": "identity"}
        content = asdict(notice)
        request = self._client.build_request(
            webhook.method,
            webhook.url,
            headers=headers,
            params=content if webhook.method == "GET" else None,
            json=None if webhook.method == "GET" else content,
        )
        try:
            async with asyncio.timeout(webhook.timeout_s):
                return await self._reply(request)
        except TimeoutError as error:
            raise _PassingTimeoutError(f"no reply within {webhook.timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise _PassingError(type(error).__name__) from error

    async def _reply(self, request: httpx.Request) -> str:
        response = await self._client.send(request, stream=True)
        try:
            if response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
                raise _PassingError(f"HTTP {response.status_code}")
            if not response.is_success:
                raise WebhookError(f"HTTP {response.status_code}")
            body = bytearray()
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > MAX_REPLY_BYTES:
                    raise WebhookError(f"a reply of more than {MAX_REPLY_BYTES} bytes")
        finally:
            await response.aclose()
        is_json = response.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "application/json"
        return _wanted(bytes(body)) if is_json and body else ""


def _wanted(body: bytes) -> str:
    try:
        content = json.loads(body)
        reply = Reply.model_validate(content if isinstance(content, dict) else {})
    except (ValueError, ValidationError, RecursionError) as error:
        raise WebhookError('a JSON reply that is not like {"say": "at most 500 characters"}') from error
    return " ".join(reply.say.split())
