"""One utterance as it is spoken: which of its samples are due at the encoder, and which of its tokens stand.

A frame attends to its own block and to all before it, so a finished block is never encoded again: its keys and values
stay, the convolutions keep their last inputs, and the samples that the next block's first windows need are kept. Only
the open block is encoded anew, when interim tokens are wanted and at the end.

With a fixed `log_mel_max` the stream's tokens are those of the whole utterance. Where Whisper's per-clip maximum is in
use, the future's loudest moment is unknown: a block is scaled by the maximum up to its own end. Its tokens then differ
from the whole utterance's only where something louder follows, and only in frames more than eight decades below that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import torch
from torch import Tensor

from services.tokenizer.model import CONV_STRIDE, Block, EncoderState
from services.tokenizer.weights import Checkpoint


@dataclass(frozen=True, slots=True)
class Tokens:
    """Consecutive tokens of an utterance.

    Attributes:
        start: position of the first one in the utterance.
        ids: the tokens, at least one.
        final: whether they stand; tokens that are not final are replaced by what comes later, from `start` on.
    """

    start: int
    ids: list[int]
    final: bool


@dataclass(frozen=True, slots=True)
class Due:
    """Work that an utterance has for the encoder.

    Attributes:
        frames: length at the encoder (50 Hz), which is what it costs.
        urgent: the utterance has ended, and someone waits for its last tokens.
    """

    frames: int
    urgent: bool


class Stage(Enum):
    """What a part of an utterance is to it."""

    INTERIM = auto()
    """The beginning of a block; it will be encoded again."""
    BLOCK = auto()
    """A finished block with more of the piece to follow."""
    PIECE_END = auto()
    """The rest of a piece: at 30 s, or at the utterance's end."""


@dataclass(frozen=True, slots=True)
class Part:
    """Part of an utterance on its way to the encoder.

    Attributes:
        stage: what it is.
        end: the mel frame of the piece at which it ends.
        windows: its windows, (mel frames, n_fft), on the CPU.
        length: mel frames that are speech; the rest pads the last token.
        state: of the encoder, before it.
        level: the loudest log power of the piece before it; none at the piece's start.
    """

    stage: Stage
    end: int
    windows: Tensor
    length: int
    state: EncoderState
    level: Tensor | None


class Utterance:
    """Samples in, tokens out. Pure bookkeeping: not thread-safe, knows neither clock nor network, computes nothing.

    `push` only stores. Whenever something is `due`, `encode` takes it as a `part` and gives the result to `take`.

    Args:
        checkpoint: the tokenizer.
        interim_tokens: encode the open block whenever this many tokens were added to it; 0 never does.
        whole: encode each piece (30 s) as a whole when it has ended, as the reference does; its tokens are then equal
            to the reference's, and all of the work is left for the end.
    """

    def __init__(self, checkpoint: Checkpoint, interim_tokens: int = 0, whole: bool = False) -> None:
        self._encoder = checkpoint.encoder
        self._log_mel = checkpoint.log_mel
        self._token_samples = checkpoint.token_samples
        self._piece_samples = checkpoint.piece_samples
        self._hop = checkpoint.log_mel.config.hop
        self._half = checkpoint.log_mel.config.half
        self._block_mels = (
            self._piece_samples // self._hop if whole else checkpoint.encoder.config.block_frames * CONV_STRIDE
        )
        self._token_mels = self._token_samples // self._hop
        self._interim_tokens = interim_tokens
        self._incoming: list[Tensor] = []
        self._ended = False
        self._final = 0  # tokens of the utterance that are final
        self._spoken = 0  # samples since the piece began, without the padding at the end
        self._there = 0  # the same with it
        self._start_piece(torch.zeros(0))

    def _start_piece(self, samples: Tensor) -> None:
        self._samples = samples  # those taken in
        self._origin = 0  # where in the piece they begin
        self._mels = 0  # mel frames of the piece in finished blocks
        self._level: Tensor | None = None  # maximum of their log power
        self._shown = 0  # tokens of the open block in the last interim result
        self._state = self._encoder.start()

    def push(self, samples: Tensor) -> None:
        """Appends samples in [-1, 1], (samples,), any number of them.

        Raises:
            RuntimeError: the utterance has ended.
        """
        if self._ended:
            raise RuntimeError("the utterance has ended")
        self._spoken += samples.shape[0]
        self._append(samples)

    def end(self) -> None:
        """Says that no more samples follow; what is due next gives the last tokens."""
        self._ended = True
        self._append(torch.zeros(-self._spoken % self._token_samples))

    @property
    def due(self) -> Due | None:
        """What `part` would give, if anything. Cheap: a count of samples."""
        found = self._next()
        return None if found is None else Due((found[1] - self._mels) // CONV_STRIDE, self._ended)

    def part(self) -> Part:
        """What is due: final tokens before interim ones. Changes nothing that a second call would not give again.

        Raises:
            RuntimeError: nothing is due.
        """
        found = self._next()
        if found is None:
            raise RuntimeError("nothing is due")
        stage, end = found
        self._samples = torch.cat((self._samples, *self._incoming))
        self._incoming.clear()
        last = stage is Stage.PIECE_END
        samples = self._samples[: (end * self._hop if last else self._reach(end)) - self._origin]
        spoken = -(-self._spoken // self._hop) if last else end
        return Part(
            stage=stage,
            end=end,
            windows=self._log_mel.frame(samples, first=self._origin == 0, last=last),
            length=min(spoken, end) - self._mels,
            state=self._state,
            level=self._level,
        )

    def take(self, part: Part, ids: list[int], level: Tensor, state: EncoderState | None) -> Tokens:
        """Moves on by what became of the last `part`.

        Args:
            part: the part.
            ids: its tokens.
            level: the loudest log power of the piece up to its end.
            state: of the encoder after it, for a finished block.
        """
        tokens = Tokens(self._final, ids, final=part.stage is not Stage.INTERIM)
        if part.stage is Stage.INTERIM:
            self._shown = len(ids)
            return tokens
        self._final += len(ids)
        if part.stage is Stage.PIECE_END:
            end = part.end * self._hop
            self._spoken -= min(self._spoken, end)
            self._there -= end
            self._start_piece(self._samples[end - self._origin :].clone())
            return tokens
        assert state is not None
        self._state = state
        self._level = level
        origin = part.end * self._hop - self._half
        self._samples = self._samples[origin - self._origin :].clone()
        self._origin = origin
        self._mels = part.end
        self._shown = 0
        return tokens

    def _append(self, samples: Tensor) -> None:
        self._incoming.append(samples)
        self._there += samples.shape[0]

    def _next(self) -> tuple[Stage, int] | None:
        """The stage of what is due, and the mel frame of the piece at which it ends."""
        piece_mels = self._piece_samples // self._hop
        block_end = min(self._mels + self._block_mels, piece_mels)
        # A piece's last window is reflected at its end; any other waits for all that it sees.
        if self._there >= min(self._reach(block_end), self._piece_samples):
            return (Stage.PIECE_END if block_end == piece_mels else Stage.BLOCK), block_end
        if self._ended:
            there = self._there // self._hop
            return (Stage.PIECE_END, there) if there > self._mels else None
        if self._interim_tokens:
            tokens = (self._there - self._reach(self._mels)) // self._token_samples
            if tokens >= self._shown + self._interim_tokens:
                return Stage.INTERIM, self._mels + tokens * self._token_mels
        return None

    def _reach(self, mels: int) -> int:
        """Samples of the piece that its first `mels` windows see."""
        return (mels - 1) * self._hop + self._half


@torch.inference_mode()
def encode(checkpoint: Checkpoint, utterances: Sequence[Utterance]) -> list[Tokens]:
    """Encodes what is due of each utterance as one batch; each gives what it gives alone.

    Args:
        checkpoint: the tokenizer that the utterances were made with.
        utterances: at least one, each with something due, none twice.

    Returns:
        The tokens of each, in order.

    Raises:
        RuntimeError: nothing is due of one of them. Whatever is raised, no utterance has moved on.
    """
    encoder, log_mel = checkpoint.encoder, checkpoint.log_mel
    parts = [utterance.part() for utterance in utterances]
    windows = torch.cat([part.windows for part in parts]).to(log_mel.window.device)
    powers = torch.split(log_mel.log_power(windows), [part.windows.shape[0] for part in parts], dim=1)
    levels: list[Tensor] = []
    blocks: list[Block] = []
    for part, power in zip(parts, powers, strict=True):
        loudest = power.max()
        levels.append(loudest if part.level is None else torch.maximum(loudest, part.level))
        mel = log_mel.normalise(power, levels[-1])
        blocks.append(Block(mel, part.length, part.state, complete=part.stage is Stage.BLOCK))
    hidden, states = encoder.advance(blocks)
    rows: list[list[int]] = encoder.quantise(hidden).tolist()
    pooling = encoder.config.pooling
    return [
        utterance.take(part, row[: block.frames // pooling], level, state)
        for utterance, part, row, block, level, state in zip(
            utterances, parts, rows, blocks, levels, states, strict=True
        )
    ]
