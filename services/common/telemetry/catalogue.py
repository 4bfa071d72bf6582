"""Every metric of ours: its Prometheus name, unit, labels with all the values that they can take, and buckets.

Names follow Prometheus (base units, `_total` for counters), units UCUM as OpenTelemetry wants them. No label has a
value that is not listed here, so the number of series is known: docs/telemetry.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType

MODEL_SERVICES = ("tokenizer", "lm", "decoder")
SERVICES = ("agent", *MODEL_SERVICES)

# as `services.agent.legs.base.LegKind`
LEGS = ("sip", "webrtc", "carrier")
# as `services.agent.waterfall.STAGES`
STAGES = ("turn_decided", "last_tokens", "first_lm_token", "first_speech_token", "first_pcm", "first_packet")
# who or what ended a call: the far end, we in the course of things, the way between us, or something that broke here;
# or it ended before it began
OUTCOMES = ("caller", "agent", "lost", "failed", "unanswered")
# why a call was not taken: every place is taken, the agent drains, the models have no room, or something is broken
REFUSALS = ("capacity", "draining", "no_model", "fault")

# why a turn was not written down: too much waited, the process failed, or the model does not know the language
NOT_WRITTEN = ("overload", "failed", "language")

# carriers' websockets carry no RTP
RTP_LEGS = ("sip", "webrtc")

_LATENCY = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
_COMPUTING = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_JITTER = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
_MOS = (1.0, 2.0, 2.6, 3.1, 3.6, 4.0, 4.3)  # ITU-T G.107 annex B: where the users' satisfaction changes
_BATCH = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
_NONE: Mapping[str, tuple[str, ...]] = MappingProxyType({})


class Kind(Enum):
    """What a metric is; the values are Prometheus' types."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: as Prometheus shows it.
        unit: UCUM; `{call}` and the like are counts, `1` is a share from 0 to 1.
        labels: each label with all its values.
        buckets: upper bounds, for histograms.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NONE)
    buckets: tuple[float, ...] = ()

    @property
    def instrument(self) -> str:
        """Its name in OpenTelemetry, from which the exporter makes `name` again."""
        bare = self.name.removesuffix("_total")
        return (bare.removesuffix("_seconds") if self.unit == "s" else bare).replace("trunkline_", "trunkline.", 1)

    def of(self, service: str) -> "Metric":
        """As one service has it: the label `service` has its name alone."""
        return replace(self, labels={**self.labels, "service": (service,)})


def _counter(name: str, unit: str, text: str, **labels: tuple[str, ...]) -> Metric:
    return Metric(name, Kind.COUNTER, unit, text, labels)


def _gauge(name: str, unit: str, text: str, **labels: tuple[str, ...]) -> Metric:
    return Metric(name, Kind.GAUGE, unit, text, labels)


def _histogram(name: str, unit: str, text: str, buckets: tuple[float, ...], **labels: tuple[str, ...]) -> Metric:
    return Metric(name, Kind.HISTOGRAM, unit, text, labels, buckets)


CALLS_ACTIVE = _gauge("trunkline_calls_active", "{call}", "Calls that ring or are live", leg=LEGS)
CALLS_CAPACITY = _gauge(
    "trunkline_calls_capacity", "{call}", "Calls at once: the agent's limit, or the models' where that is less"
)
CALLS = _counter("trunkline_calls_total", "{call}", "Calls that are over", leg=LEGS, outcome=OUTCOMES)
CALLS_REFUSED = _counter(
    "trunkline_calls_refused_total", "{call}", "Calls that were not taken", leg=LEGS, reason=REFUSALS
)
AGENT_DRAINING = _gauge("trunkline_agent_draining", "{agent}", "1 while the agent takes no new calls")
FIRST_AUDIO = _histogram(
    "trunkline_first_audio_seconds", "s", "From the caller's end of speech to the answer's first packet", _LATENCY,
    leg=LEGS,
)  # fmt: skip
STAGE = _histogram(
    "trunkline_stage_seconds", "s", "From the caller's end of speech to a stage of the answer", _LATENCY, stage=STAGES
)
BARGE_INS = _counter("trunkline_barge_ins_total", "{interruption}", "Answers that the caller interrupted")
PLAYBACK_GAPS = _counter(
    "trunkline_playback_gaps_total", "{gap}", "Silences in answers because audio was not made in time"
)
PLAYBACK_GAP = _counter("trunkline_playback_gap_seconds_total", "s", "Length of these silences")
RTP_RECEIVED = _counter(
    "trunkline_rtp_packets_received_total", "{packet}", "RTP packets that came from callers", leg=RTP_LEGS
)
RTP_LOST = _counter(
    "trunkline_rtp_packets_lost_total", "{packet}", "RTP packets from callers that did not come", leg=RTP_LEGS
)
RTP_JITTER = _histogram(
    "trunkline_rtp_jitter_seconds", "s", "Interarrival jitter (RFC 3550) of a call, at its end", _JITTER, leg=RTP_LEGS
)
CALL_MOS = _histogram(
    "trunkline_call_mos", "{score}", "Estimated quality of a caller's audio by the E-model (ITU-T G.107), at its end",
    _MOS, leg=RTP_LEGS,
)  # fmt: skip
TRANSCRIPT_WAITING = _gauge("trunkline_transcript_waiting_seconds", "s", "Callers' speech that is to be written down")
TRANSCRIPT_AUDIO = _counter("trunkline_transcript_audio_seconds_total", "s", "Callers' speech that was written down")
TRANSCRIPT_COMPUTING = _counter("trunkline_transcript_computing_seconds_total", "s", "Processor time that this took")
TRANSCRIPT_DROPPED = _counter(
    "trunkline_transcript_dropped_total", "{turn}", "Callers' turns that were not written down", reason=NOT_WRITTEN
)
REPLICAS_READY = _gauge(
    "trunkline_replicas_ready",
    "{replica}",
    "Replicas that take new work, as this agent sees it",
    service=MODEL_SERVICES,
)
REPLICA_FAILURES = _counter(
    "trunkline_replica_failures_total", "{failure}", "Streams that failed at a replica or were late",
    service=MODEL_SERVICES,
)  # fmt: skip

MODEL_STREAMS = _gauge("trunkline_model_streams", "{stream}", "Slots that are taken", service=MODEL_SERVICES)
MODEL_CAPACITY = _gauge("trunkline_model_capacity", "{stream}", "Slots there are", service=MODEL_SERVICES)
MODEL_PENDING = _gauge(
    "trunkline_model_pending_requests", "{request}", "Pieces of work that wait for the model or are in it",
    service=MODEL_SERVICES,
)  # fmt: skip
MODEL_QUEUE = _histogram(
    "trunkline_model_queue_seconds", "s", "From a piece of work becoming due to the model's taking it", _COMPUTING,
    service=MODEL_SERVICES,
)  # fmt: skip
MODEL_BATCH = _histogram(
    "trunkline_model_batch_size", "{stream}", "Streams that a step of the model computes together", _BATCH,
    service=MODEL_SERVICES,
)  # fmt: skip
MODEL_STEP = _histogram(
    "trunkline_model_step_seconds", "s", "Duration of a step of the model", _COMPUTING, service=MODEL_SERVICES
)
MODEL_DRAINING = _gauge(
    "trunkline_model_draining", "{service}", "1 while the service takes no new streams", service=MODEL_SERVICES
)
LM_TOKENS = _counter(
    "trunkline_lm_tokens_total",
    "{token}",
    "Tokens generated, and those taken as prompts",
    kind=("text", "speech", "prompt"),
)
LM_KV_USED = _gauge("trunkline_lm_kv_used_ratio", "1", "Share of the memory for keys and values that is in use")
TOKENIZER_AUDIO = _counter("trunkline_tokenizer_audio_seconds_total", "s", "Audio that was tokenised")
DECODER_AUDIO = _counter("trunkline_decoder_audio_seconds_total", "s", "Audio that was synthesised")

_AGENT = (
    CALLS_ACTIVE, CALLS_CAPACITY, CALLS, CALLS_REFUSED, AGENT_DRAINING, FIRST_AUDIO, STAGE, BARGE_INS, PLAYBACK_GAPS,
    PLAYBACK_GAP, RTP_RECEIVED, RTP_LOST, RTP_JITTER, CALL_MOS, REPLICAS_READY, REPLICA_FAILURES,
    TRANSCRIPT_WAITING, TRANSCRIPT_AUDIO, TRANSCRIPT_COMPUTING, TRANSCRIPT_DROPPED,
)  # fmt: skip
_MODEL = (MODEL_STREAMS, MODEL_CAPACITY, MODEL_PENDING, MODEL_QUEUE, MODEL_BATCH, MODEL_STEP, MODEL_DRAINING)
_OWN = {"tokenizer": (TOKENIZER_AUDIO,), "lm": (LM_TOKENS, LM_KV_USED), "decoder": (DECODER_AUDIO,)}


def of_service(service: str) -> tuple[Metric, ...]:
    """The metrics that a service exports.

    Args:
        service: one of `SERVICES`.
    """
    if service == "agent":
        return _AGENT
    return (*(metric.of(service) for metric in _MODEL), *_OWN[service])
