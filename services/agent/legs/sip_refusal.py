"""Declining a call with any status and with Retry-After, which the SIP stack's own interface does not offer.

The stack's Python interface declines with 486 alone; the C library inside it (libbaresip) has functions for more. Its
wheel exports them, and they are called as `re_thread_enter` of libre asks: from outside its thread, under its lock.
"""

import ctypes
import functools
from typing import Any

from baresip import _native

_INCOMING = 1  # of `enum call_state`


class _Library:
    """The few functions of libbaresip and libre that are needed."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        self.enter: Any = library.re_thread_enter
        self.leave: Any = library.re_thread_leave
        self.find: Any = library.uag_call_find
        self.state: Any = library.call_state
        self.agent: Any = library.call_get_ua
        self.hang_up: Any = library.ua_hangupf
        for function in (self.enter, self.leave):
            function.argtypes, function.restype = [], None
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
    except (OSError, AttributeError):  # another build of the stack
        return None


def refuse(sip_call_id: str, status: int, phrase: str, retry_after_s: int) -> bool:
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
    # With headers of one's own the library leaves the end of the message to the caller.
    headers = f"Retry-After: {retry_after_s}\r\nContent-Length: 0\r\n\r\n"
    library.enter()
    try:
        call = library.find(sip_call_id.encode())
        if not call or library.state(call) != _INCOMING:
            return False
        library.hang_up(library.agent(call), call, status, phrase.encode(), headers.encode())
        return True
    finally:
        library.leave()
