"""Trains the light vocoder: spectral losses on segments, with the recording's own F0 driving the source."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from services.decoder import config as decoder_config
from services.decoder.mel import HOP, SAMPLE_RATE, log_mel
from services.decoder.vocoder.hift import SourceFilterVocoder
from training.decoder import agent_voice
from training.paths import PLOTS, Models
from training.progress import Budget, History, cosine, save_checkpoint
from training.vocoder.data import Segments, vocoder_shards

NANO = Path(agent_voice.__file__).with_name("nano.yaml")

_FRAMES, _BATCH, _SHARDS = 48, 10, 6
_RATE = 1e-3
_RESOLUTIONS = ((512, 128), (1024, 256), (2048, 512))
_SAVE_EVERY = 100


@dataclass
class Losses:
    spectrum: Tensor
    mel: Tensor
    f0: Tensor

    @property
    def total(self) -> Tensor:
        return self.spectrum + 2 * self.mel + 0.2 * self.f0


def _log_magnitude(wave: Tensor, size: int, hop: int) -> tuple[Tensor, Tensor]:
    spectrum = torch.stft(wave, size, hop, size, torch.hann_window(size), return_complex=True)
    magnitude = torch.sqrt(spectrum.real.square() + spectrum.imag.square() + 1e-7)
    return magnitude, magnitude.log()


def spectral_distance(made: Tensor, true: Tensor) -> Tensor:
    """Multi-resolution STFT loss: spectral convergence plus the L1 of log magnitudes (Yamamoto et al. 2020)."""
    total = made.new_zeros(())
    for size, hop in _RESOLUTIONS:
        magnitude, logarithm = _log_magnitude(made, size, hop)
        wanted, wanted_log = _log_magnitude(true, size, hop)
        total = total + (magnitude - wanted).norm() / wanted.norm() + (logarithm - wanted_log).abs().mean()
    return total / len(_RESOLUTIONS)


def _losses(model: SourceFilterVocoder, wave: Tensor, f0: Tensor) -> Losses:
    mel = log_mel(wave)
    cycles = torch.rand(len(wave), 1).double() + (f0.double() / SAMPLE_RATE).repeat_interleave(HOP, -1).cumsum(-1)
    pulses = model.m_source.pulses(f0, cycles)  # type: ignore[operator]
    made = model.decode(mel, torch.stack([pulses, torch.randn_like(pulses)], dim=1))
    predicted = model.f0_predictor(mel)
    return Losses(spectral_distance(made, wave), F.l1_loss(log_mel(made), mel), F.l1_loss(predicted, f0) / 40.0)


def new_model() -> SourceFilterVocoder:
    model = SourceFilterVocoder(decoder_config.read(NANO).hift)
    torch.nn.init.normal_(model.conv_post.weight, std=0.01)
    torch.nn.init.zeros_(model.conv_post.bias)  # type: ignore[arg-type]
    torch.nn.init.constant_(model.f0_predictor.classifier.bias, 100.0)
    return model


def train(minutes: float, seed: int, models: Models) -> None:
    """Trains until `minutes` of training are done, those of earlier runs included; goes on from the checkpoint."""
    agent_voice.make()
    torch.manual_seed(seed)
    model = new_model()
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE, betas=(0.8, 0.99))
    step, done, rows, checkpoint = 0, 0.0, None, models.checkpoint("vocoder")
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        step, done, rows = state["step"], state["done"], state["rows"]
        torch.manual_seed(seed + step)
    budget, history = Budget(minutes, done), History("vocoder", rows)
    segments = Segments(vocoder_shards(_SHARDS), seed + step)

    def save() -> None:
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
        save_checkpoint(checkpoint, {**state, "done": budget.done, "rows": history.rows})
        history.save(PLOTS, f"vocoder-{models.root.name}")

    with tqdm(total=round(budget.limit), initial=round(budget.done), desc="vocoder", unit="s") as bar:
        while budget.fraction < 1:
            for group in optimiser.param_groups:
                group["lr"] = _RATE * cosine(budget.fraction, step, warm_up=50)
            losses = _losses(model, *segments.batch(_BATCH, _FRAMES))
            optimiser.zero_grad()
            losses.total.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            step += 1
            history.add(spectrum=losses.spectrum.item(), mel=losses.mel.item(), f0=losses.f0.item())
            bar.update(round(budget.done) - bar.n)
            if step % _SAVE_EVERY == 0:
                bar.set_postfix(history.close_row(budget.done / 60, step))
                save()
    save()
