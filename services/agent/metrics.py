"""What the agent counts and measures; docs/telemetry.md says what each means."""

from typing import TYPE_CHECKING

from services.agent.events import BargeIn, Event, TurnTimes
from services.agent.legs.base import LegKind
from services.agent.media_quality import Reception
from services.agent.models import ModelServices
from services.common.telemetry import catalogue
from services.common.telemetry.metrics import counter, gauge, histogram

if TYPE_CHECKING:  # which counts here what it refuses
    from services.agent.switchboard import Switchboard

CALLS = counter(catalogue.CALLS)
REFUSED = counter(catalogue.CALLS_REFUSED)
PLAYBACK_GAPS = counter(catalogue.PLAYBACK_GAPS)
PLAYBACK_GAP = counter(catalogue.PLAYBACK_GAP)
_BARGE_INS = counter(catalogue.BARGE_INS)
_FIRST_AUDIO = histogram(catalogue.FIRST_AUDIO)
_STAGE = histogram(catalogue.STAGE)
_RTP_RECEIVED = counter(catalogue.RTP_RECEIVED)
_RTP_LOST = counter(catalogue.RTP_LOST)
_RTP_JITTER = histogram(catalogue.RTP_JITTER)
_CALL_MOS = histogram(catalogue.CALL_MOS)


def happened(leg: LegKind, event: Event) -> None:
    """Counts what an event of a call tells."""
    if isinstance(event, BargeIn):
        _BARGE_INS.add(1)
    elif isinstance(event, TurnTimes):
        for stage, milliseconds in event.stages.items():
            _STAGE.record(milliseconds / 1000, {"stage": stage})
        if "first_packet" in event.stages:
            _FIRST_AUDIO.record(event.stages["first_packet"] / 1000, {"leg": leg.value})


def refused(leg: LegKind, reason: str) -> None:
    """A call was not taken; `reason` is one of `catalogue.REFUSALS`."""
    REFUSED.add(1, {"leg": leg.value, "reason": reason})


def over(leg: LegKind, outcome: str) -> None:
    """A call has ended; `outcome` is one of `catalogue.OUTCOMES`."""
    CALLS.add(1, {"leg": leg.value, "outcome": outcome})


def received(leg: LegKind, reception: Reception) -> None:
    """How the audio of a call came in."""
    labels = {"leg": leg.value}
    _RTP_RECEIVED.add(reception.packets, labels)
    _RTP_LOST.add(reception.lost, labels)
    if reception.packets:
        _RTP_JITTER.record(reception.jitter_s, labels)
        _CALL_MOS.record(reception.mos, labels)


def observe(switchboard: "Switchboard", models: ModelServices) -> None:
    """Has the agent's state exported."""

    def active() -> list[tuple[float, dict[str, str]]]:
        kinds = [call.leg.kind for call in switchboard.calls]
        return [(kinds.count(kind), {"leg": kind.value}) for kind in LegKind]

    def ready() -> list[tuple[float, dict[str, str]]]:
        pools = (models.tokenizer, models.lm, models.decoder)
        return [(sum(replica.serves for replica in pool.replicas), {"service": pool.stage.name}) for pool in pools]

    gauge(catalogue.CALLS_ACTIVE, active)
    gauge(catalogue.CALLS_CAPACITY, lambda: [(switchboard.capacity, {})])
    gauge(catalogue.AGENT_DRAINING, lambda: [(int(switchboard.slots.draining), {})])
    gauge(catalogue.REPLICAS_READY, ready)
