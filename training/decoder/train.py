"""Trains the flow in two stretches: first what the tokens alone say (mu, by its L1 distance to the mel), which costs a
tenth of a step of the whole; then all of it, the velocity's error and that distance together, the distance also on a
second, larger batch, for it needs many more clips than the velocity."""

import copy
import re
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from services.decoder import config as decoder_config
from services.decoder import weights
from services.decoder.flow.model import TokenToMel
from training.decoder import agent_voice
from training.decoder.data import (
    Analysis,
    Batch,
    Windows,
    everyday_sentences,
    recordings,
    training_shards,
    with_everyday_sentences,
)
from training.paths import PLOTS, Models
from training.progress import Budget, History, cosine, save_checkpoint
from training.shards import list_shards
from training.synthesis import SPEECH

NANO = Path(__file__).with_name("nano.yaml")

_MU_SHARE = 0.35  # of the time
_MU_BATCH, _BATCH = 24, 12
_RATE = 1e-3
_EVERYDAY = 16
_SAVE_EVERY = 100
_AVERAGE = 0.995  # of the weights that are exported


def described(codes: int) -> str:
    """config.yaml for a tokenizer of that many codes."""
    return re.sub(r"(?m)^(    vocab_size: ).*$", rf"\g<1>{codes}", NANO.read_text(), count=1)


def new_model(mean_mel: Tensor, codes: int = 2048) -> TokenToMel:
    """A fresh flow that begins at the mean mel (80,), for so many speech tokens."""
    config = decoder_config.read(NANO)
    sized = config.model_copy(update={"flow": config.flow.model_copy(update={"vocab_size": codes})})
    flow, _ = weights.build(sized)
    for name, parameter in flow.named_parameters():
        if name.endswith(("pos_bias_u", "pos_bias_v")):
            torch.nn.init.normal_(parameter, std=0.02)
    torch.nn.init.normal_(flow.input_embedding.weight, std=0.3)
    # the encoder multiplies its input by the root of its width: without this the residual stream would be so large
    # that what attention adds were lost in it for the first thousands of steps
    scale = flow.encoder.embed.out[1]
    assert isinstance(scale, torch.nn.LayerNorm)
    torch.nn.init.constant_(scale.weight, flow.encoder.width**-0.5)
    # the velocity is mel minus noise and the noise has mean zero: both heads begin at the mean mel
    heads = (flow.decoder.estimator.final_proj, flow.length_regulator.model[-1])
    for head in heads:
        assert isinstance(head, torch.nn.Conv1d)
        torch.nn.init.normal_(head.weight, std=0.01)
        assert head.bias is not None
        head.bias.data.copy_(mean_mel)
    return flow


def losses(flow: TokenToMel, batch: Batch, mu_only: bool = False) -> tuple[Tensor, Tensor]:
    """The flow's loss (0 with `mu_only`) and the L1 distance of mu."""
    frames = batch.mel.shape[2]
    mu = flow.condition(batch.codes, frames, batch.lengths, batch.mask, batch.speaker)
    distance = (F.l1_loss(mu.float(), batch.mel, reduction="none") * batch.mask).sum() / (batch.mask.sum() * 80)
    if mu_only:
        return torch.zeros(()), distance
    return flow.decoder.loss(batch.mel, mu, flow.speaker(batch.speaker), batch.prompt, batch.mask), distance


@torch.no_grad()
def _follow(average: TokenToMel, flow: TokenToMel, step: int) -> None:
    decay = min(_AVERAGE, (1 + step) / (10 + step))
    for slow, fast in zip(average.parameters(), flow.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)


def train(minutes: float, seed: int, models: Models, begin_with: Path | None = None) -> None:
    """Trains until `minutes` of training are done, those of earlier runs included; goes on from the checkpoint.

    Tokens are of the tokenizer of `models`, voices of the speaker encoder in its decoder/; without one there is one
    voice. `begin_with` names the directory of an earlier version, whose weights a new run begins with.
    """
    agent_voice.make()
    torch.manual_seed(seed)
    analysis, checkpoint = Analysis(models), models.checkpoint("decoder")
    found = recordings(training_shards(), analysis)
    voices = sum(not item.default for item in found)
    print(f"{len(found)} recordings, {voices} of them in other voices; speaker encoder: {analysis.speaker is not None}")
    if begin_with is None:
        flow = new_model(torch.cat([item.mel for item in found[:200]], dim=1).float().mean(1), analysis.codes)
    else:
        flow = weights.load(begin_with).flow.requires_grad_(True)
    average = copy.deepcopy(flow).requires_grad_(False)
    optimiser = torch.optim.AdamW(flow.parameters(), lr=_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    step, done, rows = 0, 0.0, None
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        flow.load_state_dict(state["flow"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, done, rows = state["step"], state["done"], state["rows"]
        torch.manual_seed(seed + step)
    first = [path for name in ("replies-train", "replies-zh-train") for path in list_shards(SPEECH, name)[:1]]
    everyday = everyday_sentences(recordings(first, analysis))
    windows = Windows(with_everyday_sentences(found, everyday, _EVERYDAY), flow, seed + step)
    budget, history = Budget(minutes, done), History("flow", rows)

    def save() -> None:
        state = {"flow": flow.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict()}
        save_checkpoint(checkpoint, {**state, "step": step, "done": budget.done, "rows": history.rows})
        history.save(PLOTS, f"decoder-{models.root.name}")

    flow.train()
    with tqdm(total=round(budget.limit), initial=round(budget.done), desc="decoder", unit="s") as bar:
        while budget.fraction < 1:
            mu_only = budget.fraction < _MU_SHARE
            within = budget.fraction / _MU_SHARE if mu_only else (budget.fraction - _MU_SHARE) / (1 - _MU_SHARE)
            for group in optimiser.param_groups:
                group["lr"] = _RATE * cosine(within, step, warm_up=100, floor=0.3 if mu_only else 0.04)
            with torch.autocast("cpu", torch.bfloat16):
                _, mu = losses(flow, windows.batch(_MU_BATCH), mu_only=True)
                total = mu
                if not mu_only:
                    velocity, mu_again = losses(flow, windows.batch(_BATCH))
                    history.add(flow=velocity.item())
                    total = mu + velocity + mu_again
            optimiser.zero_grad()
            total.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
            optimiser.step()
            step += 1
            _follow(average, flow, step)
            history.add(mu=mu.item())
            bar.update(round(budget.done) - bar.n)
            if step % _SAVE_EVERY == 0:
                bar.set_postfix(history.close_row(budget.done / 60, step))
                save()
    save()
