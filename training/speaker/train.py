"""Trains the speaker encoder to tell voices apart, and writes it as ONNX for `--speaker-model`."""

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from services.decoder.speaker import BINS
from training.paths import PLOTS, Models
from training.progress import Budget, History, cosine, save_checkpoint
from training.speaker.data import HELD_OUT, NAMES, Voices, shards
from training.speaker.model import Identification, SpeakerNetwork

FILE = "speaker.onnx"
_BATCH, _FRAMES = 48, 160
_RATE = 2e-3
_SAVE_EVERY = 100


def equal_error_rate(same: Tensor, different: Tensor) -> float:
    """Where as many pairs of one speaker are rejected as of two are accepted, by their similarities (n,)."""
    thresholds = torch.cat([same, different]).sort().values
    missed = (same[None] < thresholds[:, None]).float().mean(1)
    accepted = (different[None] >= thresholds[:, None]).float().mean(1)
    at = (missed - accepted).abs().argmin()
    return float((missed[at] + accepted[at]) / 2)


@torch.no_grad()
def verify(network: SpeakerNetwork, voices: Voices, batches: int = 8) -> tuple[float, int]:
    """Equal error rate on pairs of recordings, and how many pairs there were."""
    network.eval()
    same, different = [], []
    for _ in range(batches):
        features, speakers = voices.batch(_BATCH, _FRAMES)
        vectors = F.normalize(network(features), dim=1)
        alike = vectors @ vectors.T
        pairs = torch.ones_like(alike, dtype=torch.bool).triu(1)
        one = speakers[:, None] == speakers[None]
        same.append(alike[pairs & one])
        different.append(alike[pairs & ~one])
    network.train()
    return equal_error_rate(torch.cat(same), torch.cat(different)), sum(map(len, [*same, *different]))


def export(network: SpeakerNetwork, path: Path) -> None:
    """As services.decoder.speaker wants it: (1, frames, 80) -> (1, 192)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the newer exporter needs another package
        torch.onnx.export(
            network.eval(),
            (torch.zeros(1, 200, BINS),),
            str(path),
            input_names=["features"],
            output_names=["vector"],
            dynamic_axes={"features": {1: "frames"}},
            dynamo=False,
        )


def train(minutes: float, seed: int, threads: int, models: Models) -> None:
    """Trains until `minutes` of training are done, those of earlier runs included, and exports.

    Raises SystemExit when there are no recordings.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    voices = Voices(shards(NAMES), seed)
    if not voices.speakers:
        raise SystemExit("no voices to learn from: run `python -m training data` first")
    network, identification = SpeakerNetwork(), Identification(len(voices.speakers))
    parameters = [*network.parameters(), *identification.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=0.01)
    step, done, rows, checkpoint = 0, 0.0, None, models.checkpoint("speaker")
    if checkpoint.exists():
        state = torch.load(checkpoint)
        if state["speakers"] == voices.speakers:  # otherwise there are new voices: it begins anew
            network.load_state_dict(state["network"])
            identification.load_state_dict(state["identification"])
            optimiser.load_state_dict(state["optimiser"])
            step, done, rows = state["step"], state["done"], state["rows"]
    budget, history = Budget(minutes, done), History("speaker encoder", rows)

    def save() -> None:
        state: dict[str, Any] = {"network": network.state_dict(), "identification": identification.state_dict()}
        state |= {"optimiser": optimiser.state_dict(), "speakers": voices.speakers}
        save_checkpoint(checkpoint, {**state, "step": step, "done": budget.done, "rows": history.rows})
        history.save(PLOTS, f"speaker-{models.root.name}")

    print(f"{len(voices.speakers)} speakers, {sum(p.numel() for p in network.parameters()) / 1e3:.0f} k parameters")
    with tqdm(total=round(budget.limit), initial=round(budget.done), desc="speaker", unit="s") as bar:
        while budget.fraction < 1:
            for group in optimiser.param_groups:
                group["lr"] = _RATE * cosine(budget.fraction, step, warm_up=50)
            features, speakers = voices.batch(_BATCH, _FRAMES)
            loss = identification.loss(network(features), speakers)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            step += 1
            history.add(identification=loss.item())
            bar.update(round(budget.done) - bar.n)
            if step % _SAVE_EVERY == 0:
                bar.set_postfix(history.close_row(budget.done / 60, step))
                save()
    save()
    rate, pairs = verify(network, Voices(shards(HELD_OUT), seed, fewest=2))
    print(f"held-out recordings: equal error rate {rate:.1%} of {pairs} pairs")
    export(network, models.decoder / FILE)
