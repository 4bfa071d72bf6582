"""What the exported decoder is worth: the judge's errors on unseen texts beside the recordings', voices, styles, time.

Every figure comes with how many recordings it is of.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import soxr
import torch
from torch import Tensor
from tqdm import tqdm

from services.decoder import weights
from services.decoder.config import InferenceConfig
from services.decoder.mel import log_mel
from services.decoder.vocoder.stream import VocoderStream
from services.decoder.voices import Voice, VoiceRegistry
from services.decoder.weights import Checkpoint
from training.augment import g711
from training.decoder.data import Analysis, Recording, held_out_shards, recordings
from training.decoder.voice import speak
from training.domain.agent import AGENT_VOICES, SECOND_VOICE
from training.domain.sentences import STYLES, Style
from training.judge import error_rate, normalise, transcribe_in
from training.languages import LANGUAGES, Language
from training.paths import REPLY_RATE, SPEECH_RATE, Models
from training.prosody import STYLE_MANNERS, Manner, render
from training.quality import Prosody, alike, opinion, prosody, voice_vector
from training.tokenizer.encode import encode_waves

Waveform = npt.NDArray[np.float32]
Say = Callable[[int, Recording], Waveform]

_TOKEN_RATE = 12.5
_SWEEP = ((1.0, 1, 0.0), (0.9, 2, 0.0), (0.7, 2, 0.3), (0.0, 4, 0.3))  # start, steps, temperature
_REFERENCE_SECONDS = 6.0
# A voice between those of training, which are drawn from a continuum: nobody's in the data.
STRANGER = Manner(pitch=0.8, formants=1.12)


@dataclass
class Heard:
    """What a way to make the sound of some recordings gave."""

    waves: list[Waveform]
    texts: list[str]
    core_seconds: float
    told: list[str] = field(default_factory=list)
    told_on_phone: list[str] = field(default_factory=list)

    def judge(self, language: Language) -> None:
        for wave in tqdm(self.waves, desc="judge", leave=False):
            narrow = g711(np.asarray(soxr.resample(wave, REPLY_RATE, SPEECH_RATE), np.float32))
            self.told.append(transcribe_in(language, wave, REPLY_RATE))
            self.told_on_phone.append(transcribe_in(language, narrow, SPEECH_RATE))

    def row(self) -> dict[str, float]:
        seconds = sum(map(len, self.waves)) / REPLY_RATE
        return {
            "error %": round(100 * error_rate(self.texts, self.told), 1),
            "error over G.711 %": round(100 * error_rate(self.texts, self.told_on_phone), 1),
            "opinion": round(float(np.mean([opinion(wave, REPLY_RATE).overall for wave in self.waves])), 2),
            "core seconds a second": round(self.core_seconds / seconds, 4),
        }


def make(say: Say, found: Sequence[Recording]) -> Heard:
    started = time.process_time()
    waves = [say(seed, item) for seed, item in enumerate(tqdm(found, desc="speak", leave=False))]
    return Heard(waves, [item.text for item in found], time.process_time() - started)


def _vocode(checkpoint: Checkpoint, mel: Tensor, seed: int) -> Waveform:
    audio: Waveform = VocoderStream(checkpoint.vocoder, seed).push(mel, mel[:, :, :0], last=True).numpy()
    return audio


def _served(checkpoint: Checkpoint, voice: Voice | None, seed: int, item: Recording) -> Waveform:
    return speak(checkpoint, item.codes.tolist(), seed, voice)


def _wave(item: Recording) -> Waveform:
    assert item.wave is not None
    return item.wave


def in_manner(item: Recording, manner: Manner, analysis: Analysis) -> Recording:
    """The recording as it would have been in another style or voice, with its own tokens."""
    wave = render(_wave(item), REPLY_RATE, manner)
    heard = np.asarray(soxr.resample(wave, REPLY_RATE, SPEECH_RATE), np.float32)
    codes = torch.from_numpy(encode_waves(analysis.tokenizer, [heard])[0]).long()
    return replace(item, wave=wave, codes=codes, mel=log_mel(torch.from_numpy(wave)[None])[0].half())


def reference(found: Sequence[Recording], checkpoint: Checkpoint, analysis: Analysis) -> Voice:
    """A voice as it is registered: six seconds of recordings behind each other, their tokens, their vector."""
    joined = np.concatenate([_wave(item) for item in found])[: int(_REFERENCE_SECONDS * REPLY_RATE)]
    codes = encode_waves(analysis.tokenizer, [np.asarray(soxr.resample(joined, REPLY_RATE, SPEECH_RATE), np.float32)])
    registry = VoiceRegistry(
        checkpoint.flow, REPLY_RATE, _TOKEN_RATE, checkpoint.config.flow.vocab_size, 1, analysis.speaker
    )
    pcm = (np.clip(joined, -1, 1) * 32767).astype("<i2").tobytes()
    return registry.prepare(pcm, codes[0].tolist())[1]


def _ways(checkpoint: Checkpoint, sweep: bool) -> Iterator[tuple[str, Say]]:
    yield "the recording", lambda _, item: _wave(item)
    yield "its mel, vocoder", lambda seed, item: _vocode(checkpoint, item.mel[None].float(), seed)
    yield "as served", partial(_served, checkpoint, None)
    if sweep:
        for start, steps, temperature in _SWEEP:
            inference = InferenceConfig(n_timesteps=steps, temperature=temperature, start=start)
            tried = replace(checkpoint, config=checkpoint.config.model_copy(update={"inference": inference}))
            yield f"as served, start {start}, {steps} steps, temperature {temperature}", partial(_served, tried, None)


def understood(
    checkpoint: Checkpoint, found: Sequence[Recording], language: Language, sweep: bool
) -> dict[str, dict[str, float]]:
    """The judge's errors, predicted opinion and time by way to make the sound."""
    size = sum(len(normalise(item.text)) for item in found)
    print(f"\n{language}: {len(found)} unseen texts, {size} {'words' if language == 'en' else 'characters'}")
    rows = {}
    for name, say in _ways(checkpoint, sweep):
        heard = make(say, found)
        heard.judge(language)
        rows[name] = heard.row()
        print(f"  {name:20} {json.dumps(rows[name])}", flush=True)
    return rows


def voices(
    checkpoint: Checkpoint, found: Sequence[Recording], language: Language, analysis: Analysis
) -> dict[str, dict[str, float]]:
    """The same tokens in the voice of a reference: is it understood, whose voice is it like?

    References are of other recordings than the texts. Likeness is the mean of the GE2E vectors' products, of the
    speech with recordings of that voice and with recordings of the default one.
    """
    own, texts = found[: len(found) // 3], found[len(found) // 3 :]
    plain = [voice_vector(_wave(item), REPLY_RATE) for item in own]
    rows = {}
    print(f"\n{language}: voices, {len(texts)} texts, references and likeness by {len(own)} other recordings")
    for name, manner in {"default": Manner(), SECOND_VOICE: AGENT_VOICES[SECOND_VOICE], "a stranger": STRANGER}.items():
        recorded = [in_manner(item, manner, analysis) for item in own]
        vectors = [voice_vector(_wave(item), REPLY_RATE) for item in recorded]
        voice = None if name == "default" else reference(recorded, checkpoint, analysis)
        heard = make(partial(_served, checkpoint, voice), texts)
        heard.judge(language)
        spoken = [voice_vector(wave, REPLY_RATE) for wave in heard.waves]
        rows[name] = heard.row() | {
            "like that voice": round(alike(spoken, vectors), 3),
            "like the default": round(alike(spoken, plain), 3),
            "recordings like themselves": round(alike(vectors, vectors), 3),
            "recordings like the default": round(alike(vectors, plain), 3),
        }
        print(f"  {name:12} {json.dumps(rows[name])}", flush=True)
    return rows


def _mean(found: Sequence[Prosody | None]) -> Prosody:
    there = [item for item in found if item is not None]
    return Prosody(
        *(float(np.mean([getattr(item, name) for item in there])) for name in ("seconds", "pitch", "span", "level"))
    )


def styles(checkpoint: Checkpoint, found: Sequence[Recording], analysis: Analysis) -> dict[str, dict[str, float]]:
    """From tokens of recordings in each style: length beside the plain one's, F0's mean and span, level."""
    rows: dict[str, dict[str, float]] = {}
    plain: dict[str, float] = {}
    print(f"\nstyles, {len(found)} texts: length beside the plain one's, F0 (Hz), its span (semitones), level (dB)")
    every: tuple[Style, ...] = ("", *STYLES)
    for style in every:
        recorded = [in_manner(item, STYLE_MANNERS[style], analysis) for item in found]
        heard = make(partial(_served, checkpoint, None), recorded)
        for name, waves in (("spoken", heard.waves), ("recorded", [_wave(item) for item in recorded])):
            mean = _mean([prosody(wave, REPLY_RATE) for wave in waves])
            plain.setdefault(name, mean.seconds)
            row = {
                "length": round(mean.seconds / plain[name], 2),
                "F0": round(mean.pitch, 1),
                "span": round(mean.span, 2),
                "level": round(mean.level, 1),
            }
            rows[f"{style or 'plain'}, {name}"] = row
            print(f"  {style or 'plain':6} {name:9} {json.dumps(row)}", flush=True)
    return rows


@torch.inference_mode()
def evaluate(models: Models, clips: int, sweep: bool) -> dict[str, dict[str, dict[str, float]]]:
    """Prints and returns the figures, `clips` texts of each language at most."""
    checkpoint, analysis = weights.load(models.decoder), Analysis(models)
    report: dict[str, dict[str, dict[str, float]]] = {}
    for language in LANGUAGES:
        found = recordings(held_out_shards(language), analysis, with_waves=True)
        found = [item for item in found if item.kind != "wide"][:clips]
        if not found:
            print(f"\n{language}: no held-out recordings here")
            continue
        report[f"{language}, understood"] = understood(checkpoint, found, language, sweep)
        if analysis.speaker is not None and len(found) > 5:
            report[f"{language}, voices"] = voices(checkpoint, found[:30], language, analysis)
        report[f"{language}, styles"] = styles(checkpoint, found[:20], analysis)
    path = models.checkpoint("decoder-evaluation").with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"revision": checkpoint.revision, **report}, indent=1))
    return report
