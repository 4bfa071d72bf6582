"""One utterance as it is spoken: tokens are final as soon as their attention block is complete.

A frame attends to its own block and to all before it, so a finished block is never encoded again: its keys and values
stay, the convolutions keep their last inputs, and the samples that the next block's first windows need are kept. Only
the open block is encoded anew, when interim tokens are wanted and at the end.

With a fixed `log_mel_max` the stream's tokens are those of the whole utterance. Where Whisper's per-clip maximum is in
use, the future's loudest moment is unknown: a block is scaled by the maximum up to its own end. Its tokens then differ
from the whole utterance's only where something louder follows, and only in frames more than eight decades below that.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from services.tokenizer.model import CONV_STRIDE, EncoderState
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


class Utterance:
    """Samples in, tokens out. Pure computation: not thread-safe, knows neither clock nor network.

    `push` only stores; `step` does one unit of work and is called until it returns none.

    Args:
        checkpoint: the tokenizer.
        interim_tokens: encode the open block whenever this many tokens were added to it; 0 never does.
    """

    def __init__(self, checkpoint: Checkpoint, interim_tokens: int = 0) -> None:
        self._encoder = checkpoint.encoder
        self._log_mel = checkpoint.log_mel
        self._token_samples = checkpoint.token_samples
        self._piece_samples = checkpoint.piece_samples
        self._hop = checkpoint.log_mel.config.hop
        self._half = checkpoint.log_mel.config.half
        self._block_mels = checkpoint.encoder.config.block_frames * CONV_STRIDE
        self._token_mels = self._token_samples // self._hop
        self._interim_tokens = interim_tokens
        self._incoming: list[Tensor] = []
        self._ended = False
        self._final = 0  # tokens of the utterance that are final
        self._spoken = 0  # samples since the piece began, without the padding at the end
        self._there = 0  # the same with it
        self._start_piece(torch.zeros(0, device=checkpoint.log_mel.window.device))

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
        """Says that no more samples follow; the next steps give the last tokens."""
        self._ended = True
        self._append(torch.zeros(-self._spoken % self._token_samples))

    @property
    def ready(self) -> bool:
        """Whether `step` would find work. Cheap: a count of samples."""
        return self._block_complete or self._interim_due or (self._ended and self._there > self._mels * self._hop)

    @torch.inference_mode()
    def step(self) -> Tokens | None:
        """The next final tokens, or else interim ones when they are due, or else none: more samples are needed."""
        if not self.ready:
            return None
        self._samples = torch.cat((self._samples, *(part.to(self._samples) for part in self._incoming)))
        self._incoming.clear()
        if self._block_complete:
            last = self._block_end * self._hop == self._piece_samples
            return self._close_piece(self._piece_samples) if last else self._commit()
        return self._close_piece(self._there) if self._ended else self._interim()

    def _append(self, samples: Tensor) -> None:
        self._incoming.append(samples)
        self._there += samples.shape[0]

    @property
    def _block_end(self) -> int:
        """The mel frame of the piece at which the open block ends."""
        return min(self._mels + self._block_mels, self._piece_samples // self._hop)

    @property
    def _block_complete(self) -> bool:
        # A piece's last window is reflected at its end; any other waits for all that it sees.
        return self._there >= min(self._reach(self._block_end), self._piece_samples)

    @property
    def _interim_due(self) -> bool:
        wanted = (self._shown + self._interim_tokens) * self._token_mels
        return self._interim_tokens > 0 and self._there >= self._reach(self._mels + wanted)

    def _reach(self, mels: int) -> int:
        """Samples of the piece that its first `mels` windows see."""
        return (mels - 1) * self._hop + self._half

    def _commit(self) -> Tokens:
        """Encodes the open block, now complete, and moves on to the next one."""
        end = self._block_end
        log_power = self._log_power(end)
        self._level = self._louder(log_power)
        hidden, self._state = self._advance(log_power, end - self._mels)
        origin = end * self._hop - self._half
        self._samples = self._samples[origin - self._origin :]
        self._origin = origin
        self._mels = end
        self._shown = 0
        return self._finalise(hidden)

    def _close_piece(self, end: int) -> Tokens:
        """Encodes what is left of a piece that ends at sample `end`, whole tokens, and starts the next one."""
        split = end - self._origin
        frames = self._log_mel.frame(self._samples[:split], first=self._origin == 0, last=True)
        valid = -(-min(self._spoken, end) // self._hop) - self._mels
        hidden, _ = self._advance(self._log_mel.log_power(frames), valid)
        self._spoken -= end
        self._there -= end
        self._start_piece(self._samples[split:])
        return self._finalise(hidden)

    def _interim(self) -> Tokens:
        self._shown = (self._there - self._reach(self._mels)) // self._token_samples
        mels = self._shown * self._token_mels
        hidden, _ = self._advance(self._log_power(self._mels + mels), mels)
        return Tokens(self._final, self._encoder.quantise(hidden)[0].tolist(), final=False)

    def _log_power(self, end: int) -> Tensor:
        """Log power of the open block up to mel frame `end` of the piece, all windows of which are there."""
        part = self._samples[: self._reach(end) - self._origin]
        return self._log_mel.log_power(self._log_mel.frame(part, first=self._origin == 0, last=False))

    def _advance(self, log_power: Tensor, valid: int) -> tuple[Tensor, EncoderState]:
        mel = self._log_mel.normalise(log_power, self._louder(log_power))
        return self._encoder.advance(mel[None], self._state, valid)

    def _louder(self, log_power: Tensor) -> Tensor:
        level = log_power.max()
        return level if self._level is None else torch.maximum(level, self._level)

    def _finalise(self, hidden: Tensor) -> Tokens:
        ids: list[int] = self._encoder.quantise(hidden)[0].tolist()
        tokens = Tokens(self._final, ids, final=True)
        self._final += len(ids)
        return tokens
