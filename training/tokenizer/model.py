"""What stands around the encoder in training: the codebook's averages, three more encoder layers, Whisper's decoder.

The encoder itself is the one that serves (services.tokenizer.model). Everything here is dropped after training.
"""

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.tokenizer.config import EncoderConfig
from services.tokenizer.model import Codebook, EncoderLayer, WhisperVQEncoder
from training.languages import Language
from training.tokenizer import whisper

CONFIG = EncoderConfig(
    mel_bins=80,
    d_model=whisper.WIDTH,
    heads=whisper.HEADS,
    ffn_dim=whisper.FFN,
    layers=3,
    block_frames=32,
    pooling=4,
    codes=2048,  # two languages
    max_frames=1500,
)
# Whisper's special tokens, multilingual models
END, START, TRANSCRIBE, NO_TIMESTAMPS = 50257, 50258, 50359, 50363
LANGUAGES: dict[Language, int] = {"en": 50259, "zh": 50260}
MARKS = 4  # what stands before the text: start, language, task, no time stamps


class CodebookTrainer:
    """Moves a codebook by exponential averages of what chose each code; restarts codes that nothing chooses.

    VQ-VAE (arXiv:1711.00937, appendix A.1). State is kept beside the codebook: it is of no use to encode.
    """

    def __init__(self, codebook: Codebook, decay: float = 0.99, dead: float = 0.08) -> None:
        self.codebook = codebook
        self.decay = decay
        self.dead = dead
        codes = codebook.weight.shape[0]
        self.count = torch.ones(codes)
        self.total = codebook.weight.clone()
        self.restarted = 0

    @torch.no_grad()
    def initialise(self, vectors: Tensor, generator: torch.Generator, rounds: int = 10) -> None:
        """k-means over `vectors` (n, d), n at least the number of codes."""
        codes = self.codebook.weight
        codes.copy_(vectors[torch.randperm(len(vectors), generator=generator)[: len(codes)]])
        for _ in range(rounds):
            chosen = self.codebook.nearest(vectors)
            count = torch.bincount(chosen, minlength=len(codes)).float()
            total = torch.zeros_like(codes).index_add_(0, chosen, vectors)
            codes.copy_(torch.where(count[:, None] > 0, total / count.clamp(min=1)[:, None], codes))
        self.count.fill_(1.0)
        self.total.copy_(codes)

    @torch.no_grad()
    def update(self, vectors: Tensor, chosen: Tensor, generator: torch.Generator) -> None:
        """One step with the batch's vectors (n, d) and their codes (n)."""
        codes = self.codebook.weight
        count = torch.bincount(chosen, minlength=len(codes)).float()
        total = torch.zeros_like(codes).index_add_(0, chosen, vectors)
        self.count.lerp_(count, 1 - self.decay)
        self.total.lerp_(total, 1 - self.decay)
        dead = torch.nonzero(self.count < self.dead)[:, 0]
        if len(dead):
            self.restarted += len(dead)
            fresh = vectors[torch.randint(len(vectors), (len(dead),), generator=generator)]
            self.count[dead] = 0.3
            self.total[dead] = fresh * 0.3
        codes.copy_(self.total / self.count.clamp(min=1e-5)[:, None])

    def state_dict(self) -> dict[str, Tensor]:
        return {"count": self.count, "total": self.total}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.count.copy_(state["count"])
        self.total.copy_(state["total"])


class DecoderLayer(nn.Module):
    """A Whisper decoder layer, attending to speech of different lengths."""

    def __init__(self, width: int, heads: int, ffn: int) -> None:
        super().__init__()
        body = EncoderLayer(width, heads, ffn)
        self.self_attn = body.self_attn
        self.self_attn_layer_norm = body.self_attn_layer_norm
        self.fc1, self.fc2, self.final_layer_norm = body.fc1, body.fc2, body.final_layer_norm
        self.encoder_attn = EncoderLayer(width, heads, ffn).self_attn
        self.encoder_attn_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, causal: Tensor, speech: Tensor, speech_mask: Tensor) -> Tensor:
        normed = self.self_attn_layer_norm(x)
        x = x + self.self_attn(normed, *self.self_attn.keys_values(normed), causal)
        return self._rest(x, self.encoder_attn.keys_values(speech), speech_mask)

    def step(
        self, x: Tensor, past: tuple[Tensor, Tensor] | None, speech: tuple[Tensor, Tensor], speech_mask: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One word (batch, 1, d) after those whose keys and values are `past`; the same with it added comes back."""
        normed = self.self_attn_layer_norm(x)
        keys, values = self.self_attn.keys_values(normed)
        if past is not None:
            keys, values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
        x = x + self.self_attn(normed, keys, values, None)
        return self._rest(x, speech, speech_mask), (keys, values)

    def _rest(self, x: Tensor, speech: tuple[Tensor, Tensor], speech_mask: Tensor) -> Tensor:
        x = x + self.encoder_attn(self.encoder_attn_layer_norm(x), *speech, speech_mask)
        out: Tensor = x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))
        return out


class Recogniser(nn.Module):
    """Codebook vectors at 12.5 Hz -> text: the rest of Whisper's encoder (three layers), and its decoder.

    `vocabulary` holds the Whisper token ids that can come out; texts are rows of indices into it.
    """

    vocabulary: Tensor
    positions: Tensor

    def __init__(self, vocabulary: Tensor) -> None:
        super().__init__()
        self.register_buffer("vocabulary", vocabulary)
        width, heads, ffn = whisper.WIDTH, whisper.HEADS, whisper.FFN
        self.register_buffer("positions", torch.zeros(CONFIG.max_frames, width))
        self.post = nn.ModuleList(EncoderLayer(width, heads, ffn) for _ in range(whisper.LAYERS - CONFIG.layers))
        self.layer_norm = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(DecoderLayer(width, heads, ffn) for _ in range(whisper.LAYERS))
        self.decoder_norm = nn.LayerNorm(width)
        self.words = nn.Embedding(len(vocabulary), width)
        self.word_positions = nn.Embedding(448, width)

    def load_whisper(self, state: dict[str, Tensor]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}

        for i, layer in enumerate(self.post):
            layer.load_state_dict(part(f"encoder.layers.{CONFIG.layers + i}."))
        for i, layer in enumerate(self.decoder):
            layer.load_state_dict(part(f"decoder.layers.{i}."))
        self.layer_norm.load_state_dict(part("encoder.layer_norm."))
        self.decoder_norm.load_state_dict(part("decoder.layer_norm."))
        self.positions.copy_(state["encoder.embed_positions.weight"])
        self.words.load_state_dict({"weight": state["decoder.embed_tokens.weight"][self.vocabulary]})
        self.word_positions.load_state_dict({"weight": state["decoder.embed_positions.weight"]})
        for module in (self.decoder, self.decoder_norm, self.words, self.word_positions):
            module.requires_grad_(False)

    def listen(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """The finished encoding (batch, tokens, d) of codebook vectors; block-causal like the encoder."""
        tokens = vectors.shape[1]
        x = vectors + self.positions[: tokens * CONFIG.pooling : CONFIG.pooling]
        at = torch.arange(tokens)
        block = at // (CONFIG.block_frames // CONFIG.pooling)
        mask = (block[None, :] <= block[:, None])[None] & (at[None, None, :] < lengths[:, None, None])
        for layer in self.post:
            x, _ = layer(x, mask[:, None])
        out: Tensor = self.layer_norm(x)
        return out

    def spell(self, text: Tensor, speech: Tensor, lengths: Tensor, asked: Tensor) -> Tensor:
        """Logits (n, vocabulary) of the next word after those of `text` (batch, words) where `asked` is true."""
        words = text.shape[1]
        x = self.words(text) + self.word_positions.weight[:words]
        causal = torch.ones(words, words, dtype=torch.bool).tril()
        mask = (torch.arange(speech.shape[1])[None, :] < lengths[:, None])[:, None, None]
        for layer in self.decoder:
            x = layer(x, causal, speech, mask)
        return F.linear(self.decoder_norm(x[asked]), self.words.weight)

    @torch.no_grad()
    def transcribe(self, vectors: Tensor, lengths: Tensor, longest: int = 48) -> list[list[int]]:
        """Greedy texts as Whisper ids, each in the language that the speech sounds like."""
        ids = {int(token): i for i, token in enumerate(self.vocabulary)}
        end, rows = ids[END], len(vectors)
        spelling = _Spelling(self, self.listen(vectors, lengths), lengths)
        languages = torch.tensor([ids[token] for token in LANGUAGES.values()])
        spoken = languages[spelling.next(torch.full((rows,), ids[START]))[:, languages].argmax(-1)]
        spelling.next(spoken)
        spelling.next(torch.full((rows,), ids[TRANSCRIBE]))
        token = torch.full((rows,), ids[NO_TIMESTAMPS])
        done = torch.zeros(rows, dtype=torch.bool)
        written: list[Tensor] = []
        for _ in range(longest):
            token = spelling.next(token).argmax(-1)
            token[done] = end
            written.append(token)
            done |= token == end
            if done.all():
                break
        text = torch.stack(written, 1)
        return [[int(self.vocabulary[i]) for i in row if i != end] for row in text.tolist()]


class _Spelling:
    """A recogniser writing word after word; what was computed for the words before is kept."""

    def __init__(self, recogniser: Recogniser, speech: Tensor, lengths: Tensor) -> None:
        self._recogniser = recogniser
        self._mask = (torch.arange(speech.shape[1])[None, :] < lengths[:, None])[:, None, None]
        layers = cast(Iterable[DecoderLayer], recogniser.decoder)
        self._speech = [layer.encoder_attn.keys_values(speech) for layer in layers]
        self._past: list[tuple[Tensor, Tensor] | None] = [None] * len(self._speech)
        self._count = 0

    def next(self, tokens: Tensor) -> Tensor:
        """Logits (batch, vocabulary) of what follows `tokens` (batch)."""
        recogniser = self._recogniser
        x = (recogniser.words(tokens) + recogniser.word_positions.weight[self._count])[:, None]
        self._count += 1
        for i, layer in enumerate(cast(Iterable[DecoderLayer], recogniser.decoder)):
            x, self._past[i] = layer.step(x, self._past[i], self._speech[i], self._mask)
        return F.linear(recogniser.decoder_norm(x[:, 0]), recogniser.words.weight)


class Teacher(nn.Module):
    """Whisper's own encoder, whole and looking both ways: what the post-codebook encoding should resemble."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        width = whisper.WIDTH
        self.conv1 = nn.Conv1d(CONFIG.mel_bins, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(CONFIG.max_frames, width)
        self.layers = nn.ModuleList(EncoderLayer(width, whisper.HEADS, whisper.FFN) for _ in range(whisper.LAYERS))
        self.layer_norm = nn.LayerNorm(width)
        prefix = "encoder."
        self.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """(batch, bins, frames) -> (batch, tokens, d), averaged over each token's frames."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(features)))).transpose(1, 2)
        x = x + self.embed_positions.weight[: x.shape[1]]
        mask = (torch.arange(x.shape[1])[None, :] * 2 < lengths[:, None])[:, None, None]
        for layer in self.layers:
            x, _ = layer(x, mask)
        x = self.layer_norm(x)
        x = F.pad(x, (0, 0, 0, -x.shape[1] % CONFIG.pooling))
        return F.avg_pool1d(x.transpose(1, 2), CONFIG.pooling).transpose(1, 2)


class TokenizerTrainer(nn.Module):
    """Encoder, codebook and recogniser as one model with one loss."""

    def __init__(self, vocabulary: Tensor) -> None:
        super().__init__()
        self.encoder = WhisperVQEncoder(CONFIG)
        self.recogniser = Recogniser(vocabulary)
        self.codes = CodebookTrainer(self.encoder.codebook)

    def load_whisper(self, state: dict[str, Tensor]) -> None:
        kept = {
            name.removeprefix("encoder."): tensor
            for name, tensor in state.items()
            if name.startswith(("encoder.conv", "encoder.embed_positions"))
            or any(name.startswith(f"encoder.layers.{i}.") for i in range(CONFIG.layers))
        }
        missing, unexpected = self.encoder.load_state_dict(kept, strict=False)
        assert missing == ["codebook.weight"], missing
        assert not unexpected, unexpected
        self.encoder.embed_positions.requires_grad_(False)
        self.recogniser.load_whisper(state)

    def quantised(self, hidden: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden states replaced by their codes, gradients going straight through.

        Returns (batch, tokens, d), the codes chosen by valid positions, and the commitment loss.
        """
        vectors = hidden[valid].float()
        chosen = self.encoder.codebook.nearest(vectors.detach())
        near = self.encoder.codebook(chosen)
        commitment = F.mse_loss(vectors, near)
        out = torch.zeros_like(hidden, dtype=torch.float32)
        out[valid] = vectors + (near - vectors).detach()
        return out, chosen, commitment
