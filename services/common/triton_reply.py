"""Responses to Triton's requests, sent from one thread, and what waits in line sent as few responses as possible."""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from services.common.triton_wire import DONE, ERROR, Array, Tensors, error_text, number, text

log = logging.getLogger(__name__)

Merge = Callable[[Tensors, Tensors], Tensors | None]


def never(earlier: Tensors, later: Tensors) -> None:
    """Merges nothing."""


class Outbox:
    """The thread that hands responses to Triton.

    Args:
        backend: the module `triton_python_backend_utils`.
        to_tensor: makes of an array something with a DLPack interface whose capsule other libraries may take over.
        merge: joins two responses to one request that wait in line, or returns None; their order stays.
    """

    def __init__(self, backend: Any, to_tensor: Callable[[Array], Any], merge: Merge = never) -> None:
        self._backend = backend
        self._to_tensor = to_tensor
        self.merge = merge
        self._due: queue.SimpleQueue[Reply | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="triton-outbox", daemon=True)
        self._thread.start()

    def put(self, reply: "Reply") -> None:
        """Has a reply's responses sent. From any thread."""
        self._due.put(reply)

    def send(self, sender: Any, outputs: Tensors, last: bool) -> None:
        """Hands a response to Triton."""
        # DLPack, because older stubs read the strides of numpy 2 arrays from the wrong place
        make = self._backend.Tensor.from_dlpack
        tensors = [make(name, self._to_tensor(array)) for name, array in outputs.items()]
        flags = self._backend.TRITONSERVER_RESPONSE_COMPLETE_FINAL if last else 0
        sender.send(self._backend.InferenceResponse(tensors), flags)

    def stop(self) -> None:
        """Ends the thread when all is sent."""
        self._due.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (reply := self._due.get()) is not None:
            reply.flush()


class Reply:
    """The responses to one request. Never used after its last one is out: Triton would crash."""

    def __init__(self, sender: Any, outbox: Outbox) -> None:
        self._sender = sender
        self._outbox = outbox
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._waiting: list[Tensors] = []
        self._finished = False
        self._out = False
        self._when_over: Callable[[], None] = lambda: None

    def send(self, outputs: Tensors) -> None:
        """One more response; nothing after `finish`."""
        self._add(outputs, last=False)

    def fail(self, error: Exception) -> None:
        """The last response: what went wrong."""
        self._add({ERROR: text(error_text(error))}, last=True)

    def finish(self) -> None:
        """No more responses. May be called again."""
        self._add({}, last=True)

    def when_over(self, callback: Callable[[], None]) -> None:
        """Has `callback` called once, with the last response. From any thread."""
        self._when_over = callback

    def is_cancelled(self) -> bool:
        """Whether the client is gone. Asks Triton, which takes a moment."""
        with self._sending:
            try:
                return not self._out and bool(self._sender.is_cancelled())
            except Exception:  # a request that Triton cannot tell anything of is nobody's
                log.exception("Triton does not say whether a client is there")
                return True

    def flush(self) -> None:
        """Sends what waits. Called by the outbox alone."""
        with self._sending:
            with self._lock:
                waiting, self._waiting = self._waiting, []
            for outputs in waiting:
                self._out = DONE in outputs
                try:
                    self._outbox.send(self._sender, outputs, self._out)
                except Exception:  # the request is lost to Triton; the session ends by its lease
                    log.exception("a response could not be sent")

    def _add(self, outputs: Tensors, last: bool) -> None:
        with self._lock:
            if self._finished:
                return
            self._finished = last
            outputs = {**outputs, DONE: number(1)} if last else outputs
            merged = self._outbox.merge(self._waiting[-1], outputs) if self._waiting else None
            if merged is None:
                self._waiting.append(outputs)
            else:
                self._waiting[-1] = merged
        self._outbox.put(self)
        if last:
            self._when_over()
