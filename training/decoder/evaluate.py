"""What the exported decoder is worth: word error rate of the judge on unseen texts, mel distance, time on one core."""

import functools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import soxr
import torch
from torch import Tensor
from tqdm import tqdm

from services.decoder import weights
from services.decoder.config import InferenceConfig
from services.decoder.mel import log_mel
from services.decoder.noise import PositionalNoise
from services.decoder.vocoder.stream import VocoderStream
from services.decoder.weights import Checkpoint
from training.augment import g711
from training.decoder.data import Recording, recordings, held_out_shards
from training.decoder.export import FOLDER
from training.decoder.voice import speak
from training.judge import error_rate, transcribe
from training.paths import CACHE, REPLY_RATE, SPEECH_RATE

Waveform = npt.NDArray[np.float32]
Say = Callable[[int, Recording], Waveform]

_SWEEP = ((1.0, 1, 0.0), (0.9, 2, 0.0), (0.7, 2, 0.3), (0.0, 4, 0.3))  # start, steps, temperature


def _vocode(checkpoint: Checkpoint, mel: Tensor, seed: int) -> Waveform:
    audio: Waveform = VocoderStream(checkpoint.vocoder, seed).push(mel, mel[:, :, :0], last=True).numpy()
    return audio


def _sampled(checkpoint: Checkpoint, item: Recording, seed: int, inference: InferenceConfig) -> Tensor:
    """The utterance in one block."""
    flow = checkpoint.flow
    noise = PositionalNoise(seed, "mel", (flow.mel_bins,)).frames(0, flow.frames(len(item.codes)))
    return flow.generate(
        item.codes[None],
        noise.T[None] * inference.temperature,
        torch.zeros(1, flow.mel_bins, 0),
        torch.zeros(1, flow.spk_embed_affine_layer.in_features),
        steps=inference.n_timesteps,
        guidance=checkpoint.config.guidance,
        start=inference.start,
    )


def _streamed(checkpoint: Checkpoint, seed: int, item: Recording) -> Waveform:
    return speak(checkpoint, item.codes.tolist(), seed)


def _recorded(_: int, item: Recording) -> Waveform:
    assert item.wave is not None
    return item.wave


def _distance(wave: Waveform, item: Recording) -> float:
    mel = log_mel(torch.from_numpy(wave.copy())[None])[0]
    frames = min(mel.shape[1], item.mel.shape[1])
    return float((mel[:, :frames] - item.mel[:, :frames].float()).abs().mean())


def _row(name: str, say: Say, found: Sequence[Recording]) -> dict[str, float | str]:
    heard: list[str] = []
    narrow: list[str] = []
    distance, busy = 0.0, 0.0
    for seed, item in enumerate(tqdm(found, desc=name, leave=False)):
        started = time.process_time()
        wave = say(seed, item)
        busy += time.process_time() - started
        distance += _distance(wave, item)
        heard.append(transcribe(wave, REPLY_RATE))
        narrow.append(transcribe(g711(soxr.resample(wave, REPLY_RATE, SPEECH_RATE)), SPEECH_RATE))
    texts = [item.text for item in found]
    domain = [i for i, item in enumerate(found) if item.kind != "wide"]

    def domain_error(hypotheses: Sequence[str]) -> float:
        return round(100 * error_rate([texts[i] for i in domain], [hypotheses[i] for i in domain]), 1)

    seconds = sum(len(item.codes) for item in found) / 12.5
    return {
        "what": name,
        "WER %": domain_error(heard),
        "WER over G.711 %": domain_error(narrow),
        "WER with wide text %": round(100 * error_rate(texts, heard), 1),
        "mel L1": round(distance / len(found), 3),
        "core seconds per second": round(busy / seconds, 4),
    }


@torch.inference_mode()
def evaluate(clips: int, sweep: bool) -> list[dict[str, float | str]]:
    """Prints and returns one row per way to make the audio; also written to .cache/nano/decoder/evaluation.json."""
    checkpoint = weights.load(FOLDER)
    found = recordings(held_out_shards(), clips, with_waves=True)
    flow = checkpoint.flow

    def mu(item: Recording) -> Tensor:
        return flow.condition(item.codes[None], flow.frames(len(item.codes)))

    ways: dict[str, Say] = {
        "the recording": _recorded,
        "its mel, vocoder": lambda seed, item: _vocode(checkpoint, item.mel[None].float(), seed),
        "mu, vocoder": lambda seed, item: _vocode(checkpoint, mu(item), seed),
        "flow, vocoder": lambda seed, item: _vocode(
            checkpoint, _sampled(checkpoint, item, seed, checkpoint.config.inference), seed
        ),
        "as served, block by block": functools.partial(_streamed, checkpoint),
    }
    if sweep:
        for start, steps, temperature in _SWEEP:
            inference = InferenceConfig(n_timesteps=steps, temperature=temperature, start=start)
            config = checkpoint.config.model_copy(update={"inference": inference})
            tried = replace(checkpoint, config=config)
            ways[f"as served, start {start}, {steps} steps, temperature {temperature}"] = functools.partial(
                _streamed, tried
            )
    rows = []
    domain = [item for item in found if item.kind != "wide"]
    words = sum(len(item.text.split()) for item in domain)
    print(f"{len(domain)} replies and numbers, {words} words; {len(found) - len(domain)} clips of wide text")
    for name, say in ways.items():
        rows.append(_row(name, say, found))
        print(json.dumps(rows[-1]), flush=True)
    report = {"revision": checkpoint.revision, "clips": len(found), "in domain": len(domain), "rows": rows}
    (CACHE / "decoder" / "evaluation.json").write_text(json.dumps(report, indent=1))
    return rows
