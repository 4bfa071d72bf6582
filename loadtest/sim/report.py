"""The benchmark report that the planner reads: step times by batch, and what a call costs the agent.

Written by `python -m loadtest measure`. All times in seconds; of processor time on a CPU, of wall clock on a GPU.
"""

import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from loadtest.sim.costs import NotNegative, Positive, Table


class ReportError(Exception):
    """The report cannot be used; the message says what is wrong with it."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TokenizerSteps(_Part):
    """Attributes:
    encode: a batch by utterances and frames (50 Hz) of the longest.
    block_frames: an attention block, which is what becomes due while a caller speaks.
    block_tokens: tokens of it.
    batch_frames: the batcher's budget.
    stream_s: processor time of the service itself (wire, copies) for a second of speech.
    """

    encode: Table
    block_frames: int = Field(gt=0)
    block_tokens: int = Field(gt=0)
    batch_frames: int = Field(gt=0)
    stream_s: NotNegative


class LmSteps(_Part):
    """Attributes:
    decode: a step by answers in it and tokens before each.
    prefill: a step of nothing but prompts by its tokens and tokens before them.
    answering, silent, reach: the scheduler's chunks; no reach: a token costs the same wherever it stands.
    kv_tokens: positions that fit into memory.
    token_s: processor time of the service itself for a token that it sends.
    head_tokens: ids that open an answer.
    """

    decode: Table
    prefill: Table
    answering: int = Field(gt=0)
    silent: int = Field(gt=0)
    reach: Positive | None = None
    kv_tokens: int = Field(gt=0)
    token_s: NotNegative
    head_tokens: int = Field(gt=0)


class DecoderSteps(_Part):
    """Attributes:
    first: the first step of new blocks (tokens encoded, one step of the flow) by blocks and frames of the longest.
    further: each step after it.
    steps: of the flow for a block, the first included.
    render: the vocoder by blocks and frames.
    render_batched: blocks are rendered together; else one after another.
    frames_per_token: mel frames.
    voice_frames: of the voice that every block begins with.
    encoder_block: tokens; history is kept in multiples of it.
    frame_budget: the batcher's.
    token_rate: speech tokens a second.
    """

    first: Table
    further: Table
    steps: int = Field(gt=0)
    render: Table
    render_batched: bool
    frames_per_token: Positive
    voice_frames: int = Field(ge=0)
    encoder_block: int = Field(gt=0)
    frame_budget: int = Field(gt=0)
    token_rate: Positive


class Leg(_Part):
    """What a call of one kind costs, in seconds of processor time; of the agent's event loop unless it says otherwise.

    Attributes:
        base_s, line_base_s: for each second in which there is any call, however many.
        listen_s: for each second of a call.
        talk_s: more for each second in which the caller speaks.
        speak_s: more for each second in which the bot does.
        line_listen_s, line_speak_s: as listen_s and speak_s, of what runs beside the loop: the SIP worker, the agent's
            other threads.
        others_s: for each second of a call, of what else runs there (Redis, callers on the same machine).
        token_s: for each token of an answer.
        end_of_turn_s: for asking the end-of-turn model once.
        delays_s: between the agent's first packet and what the caller hears, each way together; one is drawn a turn.
    """

    base_s: NotNegative = 0.0
    line_base_s: NotNegative = 0.0
    listen_s: NotNegative
    talk_s: NotNegative
    speak_s: NotNegative
    line_listen_s: NotNegative
    line_speak_s: NotNegative
    others_s: NotNegative = 0.0
    token_s: NotNegative
    end_of_turn_s: NotNegative
    delays_s: list[NotNegative] = Field(min_length=1)


class Moment(_Part):
    """What turn-taking reported about a recorded question, seconds after its last sound (before it: negative)."""

    at_s: float
    kind: Literal["paused", "resumed", "ask"]
    complete: bool = False


class Question(_Part):
    """A question as turn-taking hears it, and the answers that the model gave to it.

    Attributes:
        seconds: from its first to its last sound.
        moments: in order; the last ask is complete, or the turn is over by silence.
        answers: (text tokens, speech tokens) of each.
    """

    name: str
    seconds: Positive
    moments: list[Moment]
    answers: list[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(gt=0)]]] = Field(min_length=1)


class Talk(_Part):
    """What was said when it was measured.

    Attributes:
        system_tokens: of the persona's prompt.
        greeting: (text tokens, speech tokens).
        text_block, speech_block: tokens of an answer's blocks.
    """

    questions: list[Question] = Field(min_length=1)
    system_tokens: int = Field(gt=0)
    greeting: tuple[int, int]
    text_block: int = Field(gt=0)
    speech_block: int = Field(gt=0)


class Steps(_Part):
    """The whole report.

    Attributes:
        circumstances: which weights, on what, when.
        slowdown: by what factor a step takes longer with 1, 2, ... busy processors of the machine.
    """

    circumstances: str
    slowdown: list[Positive] = Field(min_length=1)
    tokenizer: TokenizerSteps
    lm: LmSteps
    decoder: DecoderSteps
    legs: dict[Literal["sip", "webrtc"], Leg] = Field(min_length=1)
    talk: Talk

    @model_validator(mode="after")
    def _first_is_one(self) -> Self:
        if self.slowdown[0] != 1:
            raise ValueError("slowdown begins with 1: one busy processor slows nothing down")
        return self

    def slower(self, busy: int) -> float:
        """The factor with so many busy processors; beyond those measured that of the most."""
        return self.slowdown[min(max(busy, 1), len(self.slowdown)) - 1]


def load(path: Path) -> Steps:
    """Reads a report.

    Raises:
        ReportError: it cannot be read, has no step times, or a value is wrong; the message names it.
    """
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ReportError(f"{path} cannot be read as JSON: {error}") from error
    steps = record.get("steps") if isinstance(record, dict) else None
    if steps is None:
        raise ReportError(f"{path} holds no step times; make such a report with: python -m loadtest measure --out FILE")
    try:
        return Steps.model_validate(steps)
    except ValidationError as error:
        raise ReportError(f"{path}: {told(error)}") from error


def told(error: ValidationError) -> str:
    """What is wrong, and where."""
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'the whole'}: {item['msg']}" for item in error.errors())
