"""A voice as a vector, by a model in ONNX such as CAM++ (Wang et al. 2023) over Kaldi's filter bank."""

from pathlib import Path

import kaldi_native_fbank
import numpy as np
import numpy.typing as npt
import onnxruntime
import soxr
import torch
from torch import Tensor

from services.common.errors import WeightsError

Waveform = npt.NDArray[np.float32]

SAMPLE_RATE = 16_000
BINS = 80
_TRIED_FRAMES = 200


def filter_bank(pcm: Waveform) -> Waveform:
    """pcm (samples,) at 16 kHz -> log mel energies (frames, 80) of 25 ms every 10 ms, less their mean over time."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = SAMPLE_RATE
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = BINS
    bank = kaldi_native_fbank.OnlineFbank(options)
    bank.accept_waveform(SAMPLE_RATE, pcm)
    bank.input_finished()
    frames = np.stack([bank.get_frame(index) for index in range(bank.num_frames_ready)])
    features: Waveform = (frames - frames.mean(0)).astype(np.float32)
    return features


class SpeakerEncoder:
    """The model. It takes (1, frames, 80) and gives (1, width); runs on the CPU, once per registered voice.

    Args:
        path: of the .onnx file.
        width: what the flow takes (`spk_embed_dim`).

    Raises:
        WeightsError: the file is missing, no ONNX model, or of another shape.
    """

    def __init__(self, path: Path, width: int) -> None:
        if not path.is_file():
            raise WeightsError(f"{path}: no such file; it must be a speaker-embedding model in ONNX")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            found = self._embed(np.zeros((_TRIED_FRAMES, BINS), np.float32)).size
        except Exception as error:  # onnxruntime's errors have no common base but this
            reason = " ".join(str(error).split())
            raise WeightsError(f"{path}: not a model of (1, frames, {BINS}) to (1, {width}): {reason}") from error
        if found != width:
            raise WeightsError(f"{path}: gives {found} values, config.yaml's spk_embed_dim asks for {width}")

    def __call__(self, pcm: Waveform, rate: int) -> Tensor:
        """pcm (samples,) in -1..1 at `rate` -> (width,)."""
        heard = pcm if rate == SAMPLE_RATE else soxr.resample(pcm, rate, SAMPLE_RATE)
        return torch.from_numpy(self._embed(filter_bank(np.ascontiguousarray(heard, np.float32))))

    def _embed(self, features: Waveform) -> Waveform:
        name = self._session.get_inputs()[0].name
        made = self._session.run(None, {name: features[None]})[0]
        return np.asarray(made, np.float32).reshape(-1)
