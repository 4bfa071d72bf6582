"""Sizes of the speech tokenizer's encoder, read from a released `config.json`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """The part of a released tokenizer's configuration that encoding needs.

    Attributes:
        mel_bins: bins of the log-mel input.
        d_model: width of the residual stream.
        heads: attention heads of a layer.
        ffn_dim: inner width of a layer's feed-forward part.
        layers: layers kept, that is those up to the quantiser.
        block_frames: attention block, in frames after the convolutions (50 Hz).
        pooling: frames averaged into one token.
        codes: rows of the codebook.
        max_frames: rows of the position table, which bounds one piece of audio.

    Raises:
        ValueError: sizes that no encoder can have; the message names them.
    """

    mel_bins: int
    d_model: int
    heads: int
    ffn_dim: int
    layers: int
    block_frames: int
    pooling: int
    codes: int
    max_frames: int

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, is {getattr(self, name)}")
        if self.d_model % self.heads:
            raise ValueError(f"d_model {self.d_model} is not a multiple of {self.heads} attention heads")
        for name in ("block_frames", "max_frames"):
            if getattr(self, name) % self.pooling:
                raise ValueError(f"{name} {getattr(self, name)} is not a multiple of the pooling kernel {self.pooling}")

    @classmethod
    def from_released(cls, config: Mapping[str, Any]) -> "EncoderConfig":
        """Reads the keys of `WhisperVQConfig`.

        Raises:
            ValueError: a key is missing, has no whole number, or asks for a variant that the released models are not.
        """
        fixed: dict[str, Any] = {
            "encoder_causal_convolution": True,
            "quantize_encoder_only": True,
            "pooling_type": "avg",
            "activation_function": "gelu",
            "scale_embedding": False,
        }
        for key, needed in fixed.items():
            if config.get(key, needed) != needed:
                raise ValueError(f"{key} must be {needed!r}, is {config[key]!r}")
        sizes = {
            "mel_bins": "num_mel_bins",
            "d_model": "d_model",
            "heads": "encoder_attention_heads",
            "ffn_dim": "encoder_ffn_dim",
            "layers": "quantize_position",
            "block_frames": "quantize_causal_block_size",
            "pooling": "pooling_kernel_size",
            "codes": "quantize_vocab_size",
            "max_frames": "max_source_positions",
        }
        for key in (*sizes.values(), "pooling_position"):
            value = config.get(key)
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError(f"{key} must be a whole number, is {value!r}")
        if config["pooling_position"] != config["quantize_position"]:
            raise ValueError("pooling_position and quantize_position must be the same layer")
        return cls(**{field: config[key] for field, key in sizes.items()})
