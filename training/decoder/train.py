"""Trains the flow: the velocity's error, and the L1 distance of mu to the mel, which makes the tokens' part quick."""

import copy
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from services.decoder import config as decoder_config
from services.decoder import weights
from services.decoder.flow.model import TokenToMel
from training.decoder import agent_voice
from training.decoder.data import Batch, Windows, recordings, training_shards
from training.paths import CACHE, PLOTS
from training.progress import Budget, History, cosine, save_checkpoint

CHECKPOINT = CACHE / "decoder" / "flow.pt"
NANO = Path(__file__).with_name("nano.yaml")

_BATCH = 12
_RATE = 1e-3
_SAVE_EVERY = 100
_AVERAGE = 0.998  # of the weights that are exported


def new_model(mean_mel: Tensor) -> TokenToMel:
    """A fresh flow that begins at the mean mel (80,)."""
    flow, _ = weights.build(decoder_config.read(NANO))
    for name, parameter in flow.named_parameters():
        if name.endswith(("pos_bias_u", "pos_bias_v")):
            torch.nn.init.normal_(parameter, std=0.02)
    torch.nn.init.normal_(flow.input_embedding.weight, std=0.3)
    # the velocity is mel minus noise and the noise has mean zero: both heads begin at the mean mel
    heads = (flow.decoder.estimator.final_proj, flow.length_regulator.model[-1])
    for head in heads:
        assert isinstance(head, torch.nn.Conv1d)
        torch.nn.init.normal_(head.weight, std=0.01)
        assert head.bias is not None
        head.bias.data.copy_(mean_mel)
    return flow


def losses(flow: TokenToMel, batch: Batch) -> tuple[Tensor, Tensor]:
    """The flow's loss and the L1 distance of mu."""
    frames = batch.mel.shape[2]
    mu = flow.condition(batch.codes, frames, batch.lengths, batch.mask)
    distance = (F.l1_loss(mu.float(), batch.mel, reduction="none") * batch.mask).sum() / (batch.mask.sum() * 80)
    silent_speaker = flow.speaker(torch.zeros(len(batch.codes), flow.spk_embed_affine_layer.in_features))
    return flow.decoder.loss(batch.mel, mu, silent_speaker, batch.prompt, batch.mask), distance


@torch.no_grad()
def _follow(average: TokenToMel, flow: TokenToMel, step: int) -> None:
    decay = min(_AVERAGE, (1 + step) / (10 + step))
    for slow, fast in zip(average.parameters(), flow.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)


def train(minutes: float, seed: int) -> None:
    """Trains until `minutes` of training are done, those of earlier runs included; goes on from the checkpoint."""
    agent_voice.make()
    torch.manual_seed(seed)
    found = recordings(training_shards())
    flow = new_model(torch.cat([item.mel for item in found[:200]], dim=1).float().mean(1))
    average = copy.deepcopy(flow).requires_grad_(False)
    optimiser = torch.optim.AdamW(flow.parameters(), lr=_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    step, done, rows = 0, 0.0, None
    if CHECKPOINT.exists():
        state = torch.load(CHECKPOINT, weights_only=True)
        flow.load_state_dict(state["flow"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, done, rows = state["step"], state["done"], state["rows"]
        torch.manual_seed(seed + step)
    windows = Windows(found, flow, seed + step)
    budget, history = Budget(minutes, done), History("flow", rows)

    def save() -> None:
        state = {"flow": flow.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict()}
        save_checkpoint(CHECKPOINT, {**state, "step": step, "done": budget.done, "rows": history.rows})
        history.save(PLOTS, "decoder")

    flow.train()
    with tqdm(total=round(budget.limit), initial=round(budget.done), desc="decoder", unit="s") as bar:
        while budget.fraction < 1:
            for group in optimiser.param_groups:
                group["lr"] = _RATE * cosine(budget.fraction, step, warm_up=100)
            with torch.autocast("cpu", torch.bfloat16):
                velocity, mu = losses(flow, windows.batch(_BATCH))
            optimiser.zero_grad()
            (velocity + mu).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
            optimiser.step()
            step += 1
            _follow(average, flow, step)
            history.add(flow=velocity.item(), mu=mu.item())
            bar.update(round(budget.done) - bar.n)
            if step % _SAVE_EVERY == 0:
                bar.set_postfix(history.close_row(budget.done / 60, step))
                save()
    save()
