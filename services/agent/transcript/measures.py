"""What is measured of transcripts; docs/telemetry.md says what each means."""

from collections.abc import Callable

from services.common.telemetry import catalogue
from services.common.telemetry.metrics import counter, gauge

_AUDIO = counter(catalogue.TRANSCRIPT_AUDIO)
_COMPUTING = counter(catalogue.TRANSCRIPT_COMPUTING)
_DROPPED = counter(catalogue.TRANSCRIPT_DROPPED)


def written(audio_s: float, computing_s: float) -> None:
    """So many seconds were written down, at so many of a processor."""
    _AUDIO.add(audio_s)
    _COMPUTING.add(computing_s)


def dropped(reason: str) -> None:
    """A turn was left out; `reason` is one of `catalogue.NOT_WRITTEN`."""
    _DROPPED.add(1, {"reason": reason})


def observe(waiting_s: Callable[[], float]) -> None:
    """Has what waits exported."""
    gauge(catalogue.TRANSCRIPT_WAITING, lambda: [(waiting_s(), {})])
