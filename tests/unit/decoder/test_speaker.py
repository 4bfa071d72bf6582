"""Speaker embeddings by an ONNX model; here a tiny one: the mean of its input over time, times a matrix."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from services.common.errors import WeightsError
from services.decoder.flow.solving import FlowBlock
from services.decoder.speaker import BINS, SAMPLE_RATE, SpeakerEncoder, Waveform, filter_bank
from services.decoder.utterance import Utterance
from services.decoder.voices import Voice, VoiceRegistry, default_voice
from services.decoder.weights import Checkpoint

WIDTH = 192


def write_model(path: Path, width: int = WIDTH, bins: int = BINS) -> Path:
    matrix = np.random.default_rng(0).standard_normal((bins, width)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["features", "features"], ["power"]),
            helper.make_node("ReduceMean", ["power", "time"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "matrix"], ["embedding"]),
        ],
        "speaker",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, "frames", bins])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, width])],
        [numpy_helper.from_array(np.array([1], np.int64), "time"), numpy_helper.from_array(matrix, "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(path))
    return path


def tone(hz: float, rate: int = SAMPLE_RATE) -> Waveform:
    """Three seconds that swell and fade."""
    time = np.arange(3 * rate) / rate
    wave: Waveform = (0.3 * np.sin(2 * np.pi * hz * time) * (1 + np.sin(2 * np.pi * 3 * time))).astype(np.float32)
    return wave


def test_filter_bank_is_kaldis() -> None:
    """25 ms every 10 ms without padding; no mean over time; a tone that swells does so in its own band."""
    features = filter_bank(tone(1000.0))
    assert features.shape == (1 + (3 * SAMPLE_RATE - 400) // 160, BINS)
    assert np.abs(features.mean(0)).max() < 1e-4
    mel = 1127 * np.log1p(np.array([20.0, 1000.0, 8000.0]) / 700)
    band = (mel[1] - mel[0]) / ((mel[2] - mel[0]) / (BINS + 1)) - 1
    loudest = np.argsort(filter_bank(np.concatenate([tone(1000.0), np.zeros(48_000, np.float32)])).std(0))[-4:]
    assert np.abs(loudest - band).max() < 4


def test_voices_differ_and_the_rate_does_not_matter(tmp_path: Path) -> None:
    encoder = SpeakerEncoder(write_model(tmp_path / "speaker.onnx"), WIDTH)
    low, high, again = (encoder(tone(hz), SAMPLE_RATE) for hz in (200.0, 900.0, 200.0))
    assert low.shape == (WIDTH,)
    assert torch.equal(low, again)
    assert not torch.allclose(low, high, rtol=0.1)
    assert torch.cosine_similarity(encoder(tone(200.0, rate=22_050), 22_050), low, dim=0) > 0.9


@pytest.mark.parametrize(
    ("width", "bins", "said"), [(256, BINS, "gives 256 values.* asks for 192"), (WIDTH, 40, "not a model of")]
)
def test_another_model_is_refused(tmp_path: Path, width: int, bins: int, said: str) -> None:
    path = write_model(tmp_path / "other.onnx", width, bins)
    with pytest.raises(WeightsError, match=said):
        SpeakerEncoder(path, WIDTH)


def test_no_model_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        SpeakerEncoder(tmp_path / "none.onnx", WIDTH)
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(WeightsError, match=r"text\.onnx: not a model"):
        SpeakerEncoder(tmp_path / "text.onnx", WIDTH)


def test_a_registered_voice_has_an_embedding(tiny: Checkpoint, tmp_path: Path) -> None:
    encoder = SpeakerEncoder(write_model(tmp_path / "speaker.onnx"), WIDTH)
    pcm = (tone(200.0, rate=22_050) * 32767).astype("<i2").tobytes()
    for found, expected in ((encoder, True), (None, False)):
        _, voice = VoiceRegistry(tiny.flow, 22_050, 12.5, 512, 1, found).prepare(pcm, [0] * 38)
        assert (voice.embedding is not None) == expected


def test_the_embedding_reaches_the_flow(tiny: Checkpoint) -> None:
    def block_of(voice: Voice) -> FlowBlock:
        utterance = Utterance(tiny, 0, voice)
        utterance.push([1] * 10)
        work = utterance.next_work()
        assert work is not None
        utterance.prepare(work)
        assert work.flow is not None
        return work.flow

    assert torch.equal(block_of(default_voice(80)).embedding, torch.zeros(WIDTH))
    speaker = torch.randn(WIDTH)
    assert torch.equal(block_of(Voice((), torch.zeros(1, 80, 0), speaker)).embedding, speaker)
