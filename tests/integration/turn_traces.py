"""What the trace of one answered turn must hold: every stage, each under its right parent."""

from collections.abc import Iterable

from services.agent.waterfall import STAGES
from tests.integration.collector import Collector, ReceivedSpan

Told = tuple[str, str, str]  # service, name, kind

AGENT, TOKENIZER, LM, DECODER = (f"trunkline-{name}" for name in ("agent", "tokenizer", "lm", "decoder"))
TRITON = "trunkline-triton"
TURN = (AGENT, "turn", "internal")
TOKENIZE = "trunkline.v1.SpeechTokenizer/Tokenize"
SYNTHESIZE = "trunkline.v1.SpeechDecoder/Synthesize"
CONVERSE = "trunkline.v1.VoiceLM/Converse"
GENERATE = (LM, f"{CONVERSE} generate", "server")

_AGENT: dict[Told, Told | None] = {
    TURN: None,
    (AGENT, "caller_speech", "internal"): TURN,
    **{(AGENT, stage, "internal"): TURN for stage in STAGES},
    (AGENT, TOKENIZE, "client"): TURN,
    (TOKENIZER, TOKENIZE, "server"): (AGENT, TOKENIZE, "client"),
    (LM, f"{CONVERSE} append", "server"): TURN,
    (AGENT, CONVERSE, "client"): TURN,
    GENERATE: (AGENT, CONVERSE, "client"),
    (AGENT, SYNTHESIZE, "client"): TURN,
    (DECODER, SYNTHESIZE, "server"): (AGENT, SYNTHESIZE, "client"),
}


def _engine(service: str, parent: Told, *names: str) -> set[tuple[Told, Told | None]]:
    return {((service, name, "internal"), parent) for name in names}


def expected(triton: bool) -> set[tuple[Told, Told | None]]:
    """Every span with its parent."""
    found = set(_AGENT.items())
    if not triton:
        found |= _engine(TOKENIZER, (TOKENIZER, TOKENIZE, "server"), "queue", "encode")
        found |= _engine(LM, GENERATE, "queue", "prefill", "decode")
        return found | _engine(DECODER, (DECODER, SYNTHESIZE, "server"), "queue", "block")
    tokenizer, lm, decoder = (
        (TRITON, name, "server") for name in ("speech_tokenizer session", "voice_lm generate", "speech_decoder session")
    )
    found |= {(tokenizer, (TOKENIZER, TOKENIZE, "server")), (lm, GENERATE), (decoder, (DECODER, SYNTHESIZE, "server"))}
    found |= _engine(TRITON, tokenizer, "queue", "encode") | _engine(TRITON, lm, "queue", "prefill", "decode")
    return found | _engine(TRITON, decoder, "queue", "block")


# where an answer was begun too early, it is thrown away, and the session cut back
OPTIONAL: set[tuple[Told, Told | None]] = {((LM, f"{CONVERSE} truncate", "server"), TURN)}


def answered_turn(spans: Iterable[ReceivedSpan], call_id: str) -> ReceivedSpan | None:
    """The root of a call's first turn that was answered to the end; None before it has come."""
    wanted = {"trunkline.call.id": call_id, "trunkline.turn.outcome": "answered"}
    roots = (span for span in spans if span.told == TURN)
    return next((root for root in roots if wanted.items() <= root.attributes.items()), None)


def of_turn(spans: Iterable[ReceivedSpan], call_id: str) -> list[ReceivedSpan]:
    """The trace of that turn; nothing before its root has come."""
    everything = list(spans)
    root = answered_turn(everything, call_id)
    return [span for span in everything if root is not None and span.trace_id == root.trace_id]


def with_parents(trace: Iterable[ReceivedSpan]) -> set[tuple[Told, Told | None]]:
    """Each kind of span in a trace with its parent's; a parent that has not come is told by its id."""
    spans = list(trace)
    by_id = {span.span_id: span.told for span in spans}
    return {
        (span.told, by_id.get(span.parent_id, ("?", span.parent_id, "?")) if span.parent_id else None) for span in spans
    }


def whole_turn(collector: Collector, call_id: str, triton: bool = False) -> list[ReceivedSpan]:
    """Waits for the whole trace of an answered turn and returns it."""
    wanted = expected(triton)
    collector.wait(lambda spans: wanted <= with_parents(of_turn(spans, call_id)))
    trace = of_turn(collector.spans, call_id)
    found = with_parents(trace)
    assert found - OPTIONAL == wanted, f"missing: {wanted - found}; too much: {found - OPTIONAL - wanted}"
    return trace
