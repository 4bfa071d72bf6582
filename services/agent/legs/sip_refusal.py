"""Declining a call with any status and with Retry-After, which the SIP stack's own interface does not offer.

The stack's Python interface declines with 486 alone; the C library inside it (libbaresip) has functions for more, which
its wheel exports. They belong to the stack's thread. The answer to a ping is delivered there, between two turns of its
loop, and what waits to be done is done at that moment: from any other thread, locked or not, it corrupts memory.
"""

import ctypes
import functools
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from baresip import BaresipError, Runtime, _native

log = logging.getLogger(__name__)

_INCOMING = 1  # of `enum call_state`


class _Library:
    """The few functions of libbaresip that are needed. Raises AttributeError for a build without them."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        self.find: Any = library.uag_call_find
        self.state: Any = library.call_state
        self.agent: Any = library.call_get_ua
        self.hang_up: Any = library.ua_hangupf
        self.find.argtypes, self.find.restype = [ctypes.c_char_p], ctypes.c_void_p
        self.state.argtypes, self.state.restype = [ctypes.c_void_p], ctypes.c_int
        self.agent.argtypes, self.agent.restype = [ctypes.c_void_p], ctypes.c_void_p
        self.hang_up.restype = None
        self.hang_up.argtypes = [
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint16, ctypes.c_char_p, ctypes.c_char_p,
        ]  # fmt: skip


@functools.cache
def _library() -> _Library | None:
    try:
        return _Library(_native.__file__)
    except (OSError, AttributeError):
        log.warning("this build of the SIP stack declines with 486 alone")
        return None


class RefusingRuntime(Runtime):  # type: ignore[misc]
    """A stack that can decline with more than 486."""

    def __init__(self) -> None:
        super().__init__()
        self._jobs: deque[Callable[[], None]] = deque()

    async def refuse(self, sip_call_id: str, status: int, phrase: str, retry_after_s: int) -> bool:
        """Declines a call that rings (RFC 3261 sections 20.33 and 21).

        Args:
            sip_call_id: its Call-ID.
            status: 400 to 699.
            phrase: the reason phrase.
            retry_after_s: seconds.

        Returns:
            False where it was not done: no such call rings, or this build of the stack has no such functions.
        """
        library = _library()
        if library is None:
            return False
        done: list[bool] = []
        self._jobs.append(lambda: done.append(_refuse(library, sip_call_id, status, phrase, retry_after_s)))
        try:
            await self.cmd(_native.lib.BP_CMD_PING)
        except BaresipError:
            return False
        return any(done)

    def _on_native_event(self, ev: int, handle: int, payload: bytes | None) -> None:
        # On the stack's thread. Other events come from the midst of its work, where nothing may be hung up.
        if ev == _native.lib.BP_EV_PONG:
            while self._jobs:
                self._jobs.popleft()()
        super()._on_native_event(ev, handle, payload)


def _refuse(library: _Library, sip_call_id: str, status: int, phrase: str, retry_after_s: int) -> bool:
    call = library.find(sip_call_id.encode())
    if not call or library.state(call) != _INCOMING:  # Call-IDs are the callers' to choose: it may be another's
        return False
    # With headers of one's own the library leaves the end of the message to the caller.
    headers = f"Retry-After: {retry_after_s}\r\nContent-Length: 0\r\n\r\n"
    library.hang_up(library.agent(call), call, status, phrase.encode(), headers.encode())
    return True
