"""Which words survive the tokenizer: word error rates of its recogniser by voice and line, and the use of its codes."""

from collections import defaultdict

import numpy as np
import torch

from services.tokenizer import weights
from training import augment
from training.judge import error_rate
from training.paths import SPEECH_RATE
from training.shards import list_shards, read_shard
from training.synthesis import SPEECH
from training.tokenizer.encode import Waveform, encode_waves
from training.tokenizer.export import TOKENIZER
from training.tokenizer.recogniser import read_codes

_CLIPS = 240


def _framed(wave: Waveform) -> Waveform:
    return np.concatenate([np.zeros(SPEECH_RATE // 5, np.float32), wave, np.zeros(SPEECH_RATE // 4, np.float32)])


def evaluate(clips: int = _CLIPS) -> None:
    """Prints error rates on `clips` of the held-out wide text and of held-out callers, clean, mu-law and degraded."""
    checkpoint = weights.load(TOKENIZER)
    used = torch.zeros(checkpoint.encoder.config.codes)
    for name in ("wide-test", "callers-test"):
        said = [pair for pair in read_shard(list_shards(SPEECH, name)[0]) if pair[0].text][:clips]
        waves = [_framed(wave) for _, wave in said]
        rng = np.random.default_rng(1)
        lines = {
            "clean": waves,
            "G.711 mu-law": [augment.g711(wave) for wave in waves],
            "degraded": [augment.degrade(wave, rng) for wave in waves],
        }
        for line, heard in lines.items():
            codes = encode_waves(checkpoint, heard)
            read = read_codes([code.tolist() for code in codes])
            by_voice: dict[str, list[int]] = defaultdict(list)
            for i, (clip, _) in enumerate(said):
                by_voice["all"].append(i)
                by_voice[clip.voice[:6].split("@")[0]].append(i)
            for voice, chosen in by_voice.items():
                rate = error_rate([said[i][0].text for i in chosen], [read[i] for i in chosen])
                print(f"{name:14} {line:14} {voice:8} {len(chosen):4} clips  WER {rate:.1%}")
            for code in codes:
                used += torch.bincount(torch.from_numpy(code).long(), minlength=len(used))
    share = used / used.sum()
    perplexity = torch.exp(-(share * share.clamp(min=1e-12).log()).sum())
    print(f"codes used {int((used > 0).sum())} of {len(used)}, perplexity {perplexity:.0f}")
