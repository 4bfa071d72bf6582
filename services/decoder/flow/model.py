"""Tokens to mel: embedding, encoder, length regulator and flow, as one model."""

from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from services.decoder.config import FlowConfig
from services.decoder.flow.cfm import ConditionalCFM
from services.decoder.flow.encoder import BlockConformerEncoder
from services.decoder.flow.regulator import InterpolateRegulator


class TokenToMel(nn.Module):
    """The released `MaskedDiffWithXvec`; parameter names as in flow.pt.

    Args:
        config: sizes.
        frame_rate: mel frames per second (22050 / 256).
    """

    def __init__(self, config: FlowConfig, frame_rate: Fraction) -> None:
        super().__init__()
        self.frames_per_token = frame_rate / Fraction(config.input_frame_rate)
        self.mel_bins = config.output_size
        self.input_embedding = nn.Embedding(config.vocab_size, config.input_size)
        self.spk_embed_affine_layer = nn.Linear(config.spk_embed_dim, config.output_size)
        self.spk_embed_encoder = (
            nn.Linear(config.spk_embed_dim, config.input_size) if config.speaker_to_encoder else None
        )
        self.encoder = BlockConformerEncoder(config.encoder)
        self.encoder_proj = nn.Linear(config.encoder.output_size, config.output_size)
        self.length_regulator = InterpolateRegulator(config.length_regulator)
        self.decoder = ConditionalCFM(config.decoder)

    def frames(self, tokens: int) -> int:
        """Mel frames that begin within `tokens` tokens, rounded down."""
        return int(tokens * self.frames_per_token)

    def speaker(self, embedding: Tensor) -> Tensor:
        """(b, 192) speaker embedding -> (b, 80). Zeros stand for the default voice."""
        out: Tensor = self.spk_embed_affine_layer(F.normalize(embedding, dim=1))
        return out

    def encode(self, tokens: Tensor, lengths: Tensor | None = None, embedding: Tensor | None = None) -> Tensor:
        """Encoder states (b, t, d) of tokens (b, t), spoken by `embedding` (b, 192); none is the default voice."""
        embedded = self.input_embedding(tokens)
        if self.spk_embed_encoder is not None:
            if embedding is None:
                embedding = embedded.new_zeros(len(tokens), self.spk_embed_encoder.in_features)
            embedded = embedded + self.spk_embed_encoder(F.normalize(embedding, dim=1))[:, None]
        if lengths is not None:
            there = torch.arange(tokens.shape[1], device=tokens.device)[None] < lengths[:, None]
            embedded = embedded * there[:, :, None]
        out: Tensor = self.encoder(embedded, lengths)
        return out

    def condition(
        self,
        tokens: Tensor,
        frames: int,
        lengths: Tensor | None = None,
        frame_mask: Tensor | None = None,
        embedding: Tensor | None = None,
    ) -> Tensor:
        """mu (b, 80, frames): the mel that the tokens suggest, and the speaker where the encoder is told of it."""
        encoded = self.encoder_proj(self.encode(tokens, lengths, embedding))
        mu: Tensor = self.length_regulator(encoded, frames, lengths, frame_mask)
        return mu

    def generate(
        self,
        tokens: Tensor,
        noise: Tensor,
        prompt: Tensor,
        embedding: Tensor,
        *,
        steps: int,
        guidance: float,
        start: float = 0.0,
    ) -> Tensor:
        """Mel of `tokens`, whose first frames are known.

        Args:
            tokens: (1, t), those of the prompt included.
            noise: (1, 80, frames) starting noise, already scaled by the temperature.
            prompt: (1, 80, p) known mel of the first p frames; p may be 0.
            embedding: (1, 192) speaker embedding.
            steps: Euler steps.
            guidance: weight of classifier-free guidance.
            start: time of the flow to begin at, from mu; 0 is from noise alone.

        Returns:
            (1, 80, frames - p), what follows the prompt.
        """
        mu = self.condition(tokens, noise.shape[2], embedding=embedding)
        known = F.pad(prompt, (0, noise.shape[2] - prompt.shape[2]))
        mel = self.decoder.solve(
            noise,
            mu,
            self.speaker(embedding),
            known,
            steps=steps,
            guidance=guidance,
            start=start,
        )
        return mel[:, :, prompt.shape[2] :]
