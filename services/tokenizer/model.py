"""The encoder of GLM-4-Voice's speech tokenizer: a Whisper encoder, made causal in blocks, with a codebook on top.

Released as `WhisperVQEncoder` (GLM-4-Voice, arXiv:2412.02612, section 3.1); the layers are those of Whisper
(arXiv:2212.04356). Module names equal the released checkpoint's keys without `model.encoder.`.

Time runs at three rates: mel frames (100 Hz), frames after the convolutions (50 Hz) and tokens (12.5 Hz).
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.tokenizer.config import EncoderConfig

CONV_STRIDE = 2
_CONV_CONTEXT = 2  # kernel 3, all of its padding on the left


class Attention(nn.Module):
    """Multi-head self-attention as in Whisper: the key projection has no bias."""

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, d_model, bias=False)
        self.v_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of `x` (batch, time, d), each (batch, heads, time, d / heads)."""
        return self._split(self.k_proj(x)), self._split(self.v_proj(x))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Attends from `x` (batch, time, d) over `keys` and `values`; `mask` is true where attention is allowed."""
        heard = F.scaled_dot_product_attention(self._split(self.q_proj(x)), keys, values, attn_mask=mask)
        out: Tensor = self.out_proj(heard.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        return x.view(batch, time, self.heads, width // self.heads).transpose(1, 2)


@dataclass(slots=True)
class LayerCache:
    """Keys and values of the finished blocks of one layer, each (1, heads, time, d / heads)."""

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
        self, x: Tensor, mask: Tensor | None = None, past: LayerCache | None = None
    ) -> tuple[Tensor, LayerCache]:
        """One layer over `x` (batch, time, d), which also sees `past`.

        Args:
            x: the new frames.
            mask: true where attention is allowed, broadcastable to (batch, heads, time, past + time); none allows all.
            past: keys and values of earlier frames.

        Returns:
            The layer's output, and keys and values of earlier and new frames together.
        """
        normed = self.self_attn_layer_norm(x)
        keys, values = self.self_attn.keys_values(normed)
        if past is not None:
            keys = torch.cat((past.keys, keys), dim=2)
            values = torch.cat((past.values, values), dim=2)
        x = x + self.self_attn(normed, keys, values, mask)
        x = x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))
        return x, LayerCache(keys, values)


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
        """Ids (...) of the rows nearest to `x` (..., d) by squared distance, in float32 whatever autocast says."""
        with torch.autocast(x.device.type, enabled=False):
            codes = self.weight.float()
            # |x - c|^2 less |x|^2, which no choice of c changes.
            distance = torch.addmm(codes.square().sum(1), x.float().flatten(0, -2), codes.t(), alpha=-2.0)
            return distance.argmin(1).view(x.shape[:-1])


@dataclass(slots=True)
class EncoderState:
    """What finished blocks leave behind: where the next one starts, and all that it may look back on.

    Attributes:
        frames: frames after the convolutions in finished blocks.
        mel: the last mel frames, (1, bins, 2): left context of the first convolution.
        conv: the last outputs of the first convolution, (1, d, 2): left context of the second.
        layers: keys and values of every layer; empty before the first block.
    """

    frames: int
    mel: Tensor
    conv: Tensor
    layers: list[LayerCache] = field(default_factory=list)


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
            (batch, tokens, d), and the count of valid tokens of each clip, (batch).

        Raises:
            ValueError: the clip is longer than the position table.
        """
        x, _ = self._convolve(features, *self._silence(features))
        frames = x.shape[1]
        if frames > self.config.max_frames:
            raise ValueError(f"{frames} frames at once; the position table ends at {self.config.max_frames}")
        x = x + self.embed_positions.weight[:frames]
        frame_lengths = _ceil_div(lengths.to(x.device), CONV_STRIDE)
        mask = self._block_mask(frames, frame_lengths)
        for layer in self.layers:
            x, _ = layer(x, mask)
        return self._pool(x), _ceil_div(frame_lengths, self.config.pooling)

    def quantise(self, hidden: Tensor) -> Tensor:
        """Ids (batch, tokens) of the codes nearest to `hidden` (batch, tokens, d)."""
        return self.codebook.nearest(hidden)

    def start(self) -> EncoderState:
        """The state before the first block of a piece."""
        weight = self.conv1.weight
        return EncoderState(
            frames=0,
            mel=weight.new_zeros(1, self.config.mel_bins, _CONV_CONTEXT),
            conv=weight.new_zeros(1, self.config.d_model, _CONV_CONTEXT),
        )

    def advance(self, features: Tensor, state: EncoderState, length: int) -> tuple[Tensor, EncoderState]:
        """Encodes one block, or the beginning of one, after the blocks that `state` remembers.

        Args:
            features: log-mel of the block, (1, bins, mel frames): whole tokens, at most `block_frames` x 2 mel frames.
            state: left by the blocks before; not changed, so an open block can be encoded again when it has grown.
            length: mel frames that are speech; those after it pad the last token and are not attended to.

        Returns:
            (1, tokens, d), and the state after this block, of use only when the block was complete.

        Raises:
            ValueError: the block lies past the end of the position table.
        """
        mel = features.shape[2]
        end = state.frames + mel // CONV_STRIDE
        if end > self.config.max_frames:
            raise ValueError(f"block ends at frame {end}; the position table ends at {self.config.max_frames}")
        x, first = self._convolve(features, state.mel, state.conv)
        x = x + self.embed_positions.weight[state.frames : end]
        valid = -(-length // CONV_STRIDE)
        mask = None
        if valid < x.shape[1]:
            mask = (torch.arange(end, device=x.device) < state.frames + valid)[None, None, None]
        caches: list[LayerCache] = []
        for index, layer in enumerate(self.layers):
            x, cache = layer(x, mask, state.layers[index] if state.layers else None)
            caches.append(cache)
        after = EncoderState(
            frames=end,
            mel=torch.cat((state.mel, features), dim=2)[:, :, -_CONV_CONTEXT:],
            conv=torch.cat((state.conv, first), dim=2)[:, :, -_CONV_CONTEXT:],
            layers=caches,
        )
        return self._pool(x), after

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

    def _block_mask(self, frames: int, frame_lengths: Tensor) -> Tensor:
        """True where a frame may look: its own block and those before, no padding. (batch, 1, frames, frames)."""
        at = torch.arange(frames, device=frame_lengths.device)
        block = at // self.config.block_frames
        valid = at[None, :] < frame_lengths[:, None]
        return ((block[None, :] <= block[:, None])[None] & valid[:, None, :])[:, None]

    def _pool(self, x: Tensor) -> Tensor:
        kernel = self.config.pooling
        x = F.pad(x, (0, 0, 0, -x.shape[1] % kernel))
        return x.reshape(x.shape[0], -1, kernel, x.shape[2]).mean(2)


def _ceil_div(value: Tensor, by: int) -> Tensor:
    return torch.div(value + by - 1, by, rounding_mode="floor")
