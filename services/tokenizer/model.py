"""The encoder of GLM-4-Voice's speech tokenizer: a Whisper encoder, made causal in blocks, with a codebook on top.

Released as `WhisperVQEncoder` (GLM-4-Voice, arXiv:2412.02612, section 3.1); the layers are those of Whisper
(arXiv:2212.04356). Module names equal the released checkpoint's keys without `model.encoder.`.

Time runs at three rates: mel frames (100 Hz), frames after the convolutions (50 Hz) and tokens (12.5 Hz).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.tokenizer.config import EncoderConfig

CONV_STRIDE = 2
_CONV_CONTEXT = 2  # kernel 3, all of its padding on the left


@dataclass(frozen=True, slots=True)
class Packing:
    """Frames of different utterances one after another, for all that treats each frame by itself.

    Only attention needs them as a padded batch, which costs less than a tenth of the rest.

    Attributes:
        batch: utterances.
        time: frames of the longest.
        places: where each packed frame lies in the padded batch, seen as (batch x time), (frames).
    """

    batch: int
    time: int
    places: Tensor

    @classmethod
    def of(cls, frames: Sequence[int], device: torch.device) -> "Packing":
        """For utterances of these lengths."""
        longest = max(frames)
        places = [row * longest + torch.arange(length) for row, length in enumerate(frames)]
        return cls(len(frames), longest, torch.cat(places).to(device))

    def pad(self, packed: Tensor) -> Tensor:
        """(frames, d) to (batch, time, d), with zeros between."""
        padded = packed.new_zeros(self.batch * self.time, packed.shape[1])
        return padded.index_copy_(0, self.places, packed).view(self.batch, self.time, -1)

    def pack(self, padded: Tensor) -> Tensor:
        """(batch, time, d) to (frames, d)."""
        return padded.flatten(0, 1)[self.places]


class Attention(nn.Module):
    """Multi-head self-attention as in Whisper: the key projection has no bias."""

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, d_model, bias=False)
        self.v_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)

    def keys_values(self, x: Tensor, packing: Packing | None = None) -> tuple[Tensor, Tensor]:
        """Keys and values of `x` (batch, time, d), or packed, each (batch, heads, time, d / heads)."""
        return self._split(self.k_proj(x), packing), self._split(self.v_proj(x), packing)

    def forward(
        self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, packing: Packing | None = None
    ) -> Tensor:
        """Attends from `x` (batch, time, d), or packed, over `keys` and `values`; `mask` is true where it may."""
        query = self._split(self.q_proj(x), packing)
        if self.training:  # on a CPU the fused kernel's backward pass is slower than this
            scores = query * query.shape[-1] ** -0.5 @ keys.transpose(-2, -1)
            if mask is not None:
                scores = scores.masked_fill(~mask, float("-inf"))
            attended = scores.softmax(dim=-1).to(values.dtype) @ values
        else:
            attended = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        heard = attended.transpose(1, 2).flatten(2)
        out: Tensor = self.out_proj(heard if packing is None else packing.pack(heard))
        return out

    def _split(self, x: Tensor, packing: Packing | None) -> Tensor:
        if packing is not None:
            x = packing.pad(x)
        batch, time, width = x.shape
        return x.view(batch, time, self.heads, width // self.heads).transpose(1, 2)


@dataclass(slots=True)
class LayerCache:
    """Keys and values of some frames in one layer, each (batch, heads, time, d / heads)."""

    keys: Tensor
    values: Tensor


class EncoderLayer(nn.Module):
    """A pre-norm Whisper encoder layer."""

    def __init__(self, d_model: int, heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.self_attn = Attention(d_model, heads)
        self.self_attn_layer_norm = nn.LayerNorm(d_model)
        self.fc1 = nn.Linear(d_model, ffn_dim)
        self.fc2 = nn.Linear(ffn_dim, d_model)
        self.final_layer_norm = nn.LayerNorm(d_model)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        past: LayerCache | None = None,
        packing: Packing | None = None,
    ) -> tuple[Tensor, LayerCache]:
        """One layer over `x`, which also sees `past`.

        Args:
            x: the new frames, (batch, time, d); with `packing` (frames, d).
            mask: true where attention is allowed, broadcastable to (batch, heads, time, past + time); none allows all.
            past: keys and values of earlier frames.
            packing: how the frames of `x` make a batch.

        Returns:
            The layer's output, and keys and values of the new frames.
        """
        normed = self.self_attn_layer_norm(x)
        new = LayerCache(*self.self_attn.keys_values(normed, packing))
        seen = new
        if past is not None:
            seen = LayerCache(
                torch.cat((past.keys, new.keys), dim=2),
                torch.cat((past.values, new.values), dim=2),
            )
        x = x + self.self_attn(normed, seen.keys, seen.values, mask, packing)
        x = x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))
        return x, new


class Codebook(nn.Module):
    """The vectors that a token stands for, (codes, d). A buffer: training moves it by averages, not by gradients."""

    weight: Tensor

    def __init__(self, codes: int, d_model: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(codes, d_model))

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors (..., d) of ids (...)."""
        return F.embedding(ids, self.weight)

    def nearest(self, x: Tensor) -> Tensor:
        """Ids (...) of the rows nearest to `x` (..., d) by squared distance, whatever autocast says.

        The two nearest are found in float32 from |c|^2 - 2xc, which cancels most of its digits, and told apart in
        float64: rounding, which another batch shape changes, must not choose between close codes.
        """
        with torch.autocast(x.device.type, enabled=False):
            points, codes = x.float().flatten(0, -2), self.weight.float()
            distance = torch.addmm(codes.square().sum(1), points, codes.t(), alpha=-2.0)
            near = distance.topk(min(2, codes.shape[0]), dim=1, largest=False).indices
            exact = (points[:, None].double() - codes[near].double()).square().sum(2)
            return near.gather(1, exact.argmin(1, keepdim=True)).view(x.shape[:-1])


@dataclass(frozen=True, slots=True)
class EncoderState:
    """What an utterance's finished blocks leave behind: where the next one starts, and all that it may look back on.

    Attributes:
        frames: frames after the convolutions in finished blocks.
        mel: the last mel frames, (bins, 2): left context of the first convolution.
        conv: the last outputs of the first convolution, (d, 2): left context of the second.
        keys_values: of all layers, (layers, 2, heads, frames, d / heads).
    """

    frames: int
    mel: Tensor
    conv: Tensor
    keys_values: Tensor


@dataclass(frozen=True, slots=True)
class Block:
    """What one utterance brings to a batch: an attention block, the beginning of one, or several at once.

    Attributes:
        features: log-mel, (bins, mel frames): whole tokens, from the start of a block on.
        length: mel frames that are speech, at least 1; those after it pad the last token and are not attended to.
        state: left by the blocks before.
        complete: the block is finished, so that the state after it is wanted.
    """

    features: Tensor
    length: int
    state: EncoderState
    complete: bool

    @property
    def frames(self) -> int:
        """Frames after the convolutions."""
        return self.features.shape[1] // CONV_STRIDE

    @property
    def valid(self) -> int:
        """Those of them that are attended to."""
        return -(-self.length // CONV_STRIDE)


class WhisperVQEncoder(nn.Module):
    """Log-mel frames to speech tokens."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv1d(config.mel_bins, config.d_model, 3)
        self.conv2 = nn.Conv1d(config.d_model, config.d_model, 3, stride=CONV_STRIDE)
        self.embed_positions = nn.Embedding(config.max_frames, config.d_model)
        self.layers = nn.ModuleList(
            EncoderLayer(config.d_model, config.heads, config.ffn_dim) for _ in range(config.layers)
        )
        self.codebook = Codebook(config.codes, config.d_model)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Ids (batch, tokens) and the count of valid ones (batch); arguments as for `hidden`."""
        hidden, token_lengths = self.hidden(features, lengths)
        return self.quantise(hidden), token_lengths

    def hidden(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """What is quantised: the last layer's output averaged over each token's frames.

        Every clip gives what it gives alone: frames past its length are never attended to. As in the reference, a
        clip's last token also averages the frames that pad it to a whole token, so `features` must hold the mel of
        that padding (see `features.LogMel`).

        Args:
            features: log-mel, (batch, bins, mel frames), at most `max_frames` x 2 mel frames.
            lengths: mel frames of each clip before any padding, (batch); at least 1.

        Returns:
            (batch, tokens, d) in float32, and the count of valid tokens of each clip, (batch).

        Raises:
            ValueError: the clip is longer than the position table.
        """
        features = features.to(self.conv1.weight.dtype)
        x, _ = self._convolve(features, *self._silence(features))
        frames = x.shape[1]
        if frames > self.config.max_frames:
            raise ValueError(f"{frames} frames at once; the position table ends at {self.config.max_frames}")
        x = x + self.embed_positions.weight[:frames]
        frame_lengths = _ceil_div(lengths.to(x.device), CONV_STRIDE)
        mask = self._mask(torch.zeros_like(frame_lengths), frame_lengths, 0, frames)
        for layer in self.layers:
            x, _ = layer(x, mask)
        return self._pool(x.float()), _ceil_div(frame_lengths, self.config.pooling)

    def quantise(self, hidden: Tensor) -> Tensor:
        """Ids (batch, tokens) of the codes nearest to `hidden` (batch, tokens, d)."""
        return self.codebook.nearest(hidden)

    def start(self) -> EncoderState:
        """The state before the first block of a piece."""
        config, weight = self.config, self.conv1.weight
        return EncoderState(
            frames=0,
            mel=weight.new_zeros(config.mel_bins, _CONV_CONTEXT),
            conv=weight.new_zeros(config.d_model, _CONV_CONTEXT),
            keys_values=weight.new_zeros(config.layers, 2, config.heads, 0, config.d_model // config.heads),
        )

    def advance(self, blocks: Sequence[Block]) -> tuple[Tensor, list[EncoderState | None]]:
        """Encodes blocks of different utterances as one padded batch; each gives what it gives alone.

        Computes in the weights' precision. No state is changed, so an open block can be encoded again when it has
        grown.

        Args:
            blocks: at least one, of any lengths and after any number of frames.

        Returns:
            (blocks, tokens, d) in float32, padded at the end to the longest block; and of each complete block the
            state after it.

        Raises:
            ValueError: a block lies past the end of the position table.
        """
        for block in blocks:
            end = block.state.frames + block.frames
            if end > self.config.max_frames:
                raise ValueError(f"block ends at frame {end}; the position table ends at {self.config.max_frames}")
        mel = torch.stack([block.state.mel for block in blocks])
        conv = torch.stack([block.state.conv for block in blocks])
        longest = max(block.features.shape[1] for block in blocks)
        features = torch.stack([F.pad(block.features, (0, longest - block.features.shape[1])) for block in blocks])
        features = features.to(mel.dtype)
        x, first = self._convolve(features, mel, conv)
        starts = torch.tensor([block.state.frames for block in blocks], device=x.device)
        positions = starts[:, None] + torch.arange(x.shape[1], device=x.device)
        # Padding may lie past the table's end; which position it gets does not matter.
        x = x + self.embed_positions(positions.clamp(max=self.config.max_frames - 1))
        past, new = max(block.state.frames for block in blocks), x.shape[1]
        mask = None
        if len(blocks) > 1 or blocks[0].valid < new or new > self.config.block_frames:
            valid = torch.tensor([block.valid for block in blocks], device=x.device)
            mask = self._mask(starts, valid, past, new)
        packing = None
        if any(block.frames < new for block in blocks):
            packing = Packing.of([block.frames for block in blocks], x.device)
            x = packing.pack(x)
        caches: list[LayerCache] = []
        for index, layer in enumerate(self.layers):
            x, cache = layer(x, mask, _padded_past(blocks, index, past), packing)
            caches.append(cache)
        if packing is not None:
            x = packing.pad(x)
        states: list[EncoderState | None] = [None] * len(blocks)
        for row, block in enumerate(blocks):
            if block.complete:
                layers = [torch.stack((cache.keys[row], cache.values[row])) for cache in caches]
                states[row] = _after(block, features[row], first[row], torch.stack(layers))
        return self._pool(x.float()), states

    def _silence(self, features: Tensor) -> tuple[Tensor, Tensor]:
        batch = features.shape[0]
        return (
            features.new_zeros(batch, self.config.mel_bins, _CONV_CONTEXT),
            features.new_zeros(batch, self.config.d_model, _CONV_CONTEXT),
        )

    def _convolve(self, features: Tensor, mel: Tensor, conv: Tensor) -> tuple[Tensor, Tensor]:
        """Both convolutions with their left context: (batch, frames, d), and the first one's output."""
        first = F.gelu(self.conv1(torch.cat((mel, features), dim=2)))
        second = F.gelu(self.conv2(torch.cat((conv.to(first.dtype), first), dim=2)))
        return second.transpose(1, 2), first

    def _mask(self, starts: Tensor, valid: Tensor, past: int, new: int) -> Tensor:
        """Where a new frame may look: its own block and those before, no padding.

        Args:
            starts: frames of each utterance in finished blocks, (batch).
            valid: new frames of each that are speech, (batch).
            past: places for finished frames, of which an utterance fills the first `starts`.
            new: places for new frames.

        Returns:
            True where attention is allowed, (batch, 1, new or 1, past + new).
        """
        at = torch.arange(past + new, device=valid.device)
        allowed = torch.where(at < past, at < starts[:, None], at - past < valid[:, None])[:, None, None]
        if new <= self.config.block_frames:
            return allowed
        block = torch.div(at - past, self.config.block_frames, rounding_mode="floor")  # negative for finished frames
        return allowed & (block <= block[past:, None])

    def _pool(self, x: Tensor) -> Tensor:
        kernel = self.config.pooling
        x = F.pad(x, (0, 0, 0, -x.shape[1] % kernel))
        return x.reshape(x.shape[0], -1, kernel, x.shape[2]).mean(2)


def _ceil_div(value: Tensor, by: int) -> Tensor:
    return torch.div(value + by - 1, by, rounding_mode="floor")


def _padded_past(blocks: Sequence[Block], layer: int, frames: int) -> LayerCache | None:
    """Finished keys and values of one layer as a batch, filled up to `frames` at the end; none where there are none."""
    if frames == 0:
        return None
    if len(blocks) == 1:
        keys, values = blocks[0].state.keys_values[layer][:, None]
        return LayerCache(keys, values)
    _, _, heads, _, width = blocks[0].state.keys_values.shape
    # Zeros, since a masked place still takes part in a sum, with weight 0, which rubbish could make NaN.
    past = blocks[0].state.keys_values.new_zeros(2, len(blocks), heads, frames, width)
    for row, block in enumerate(blocks):
        past[:, row, :, : block.state.frames] = block.state.keys_values[layer]
    return LayerCache(past[0], past[1])


def _after(block: Block, features: Tensor, first: Tensor, keys_values: Tensor) -> EncoderState:
    """The state after a complete block.

    Args:
        block: the block.
        features: as convolved, (bins, mel frames), maybe padded.
        first: the first convolution's output, (d, mel frames), as long.
        keys_values: of the new frames, (layers, 2, heads, frames, d / heads), as long.
    """
    mels = block.features.shape[1]
    # Copies: a view would keep the whole batch in memory for as long as the utterance lives.
    return EncoderState(
        frames=block.state.frames + block.frames,
        mel=features[:, mels - _CONV_CONTEXT : mels].clone(),
        conv=first[:, mels - _CONV_CONTEXT : mels].clone(),
        keys_values=torch.cat((block.state.keys_values, keys_values[:, :, :, : block.frames]), dim=3),
    )
