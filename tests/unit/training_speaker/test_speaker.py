from pathlib import Path

import numpy as np
import pytest
import torch

from services.decoder.speaker import SAMPLE_RATE, SpeakerEncoder
from training.shards import Clip, write_shard
from training.speaker.data import Voices, identity
from training.speaker.model import WIDTH, Identification, SpeakerNetwork
from training.speaker.train import equal_error_rate, export


def test_who_a_voice_is_goes_by_pitch_and_tract() -> None:
    assert identity("hibari@1.00x1.10") == identity("hibari@1.00x0.90") == "hibari/0"
    assert identity("hibari@0.80x1.00") == identity("hibari@1.00x1.00", 0.8) != "hibari/0"
    assert identity("kokorozf_xiaobei@1.00x1.00") != identity("kokorozm_yunxi@1.00x1.00")
    assert identity("kokorozf_xiaobei+af_bella@0.40@1.00x1.00") is None
    assert identity("espeaken-us+m1@1.00x1.00") is None
    assert identity("p0.55f0.85") != identity("p1.30f1.08")


def test_equal_error_rate() -> None:
    assert equal_error_rate(torch.tensor([0.8, 0.9]), torch.tensor([0.1, 0.2])) == 0
    assert equal_error_rate(torch.tensor([0.1, 0.9]), torch.tensor([0.2, 0.8])) == pytest.approx(0.5)


def test_batches_hold_two_recordings_of_each_speaker(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    clips = [
        (Clip("a", f"hibari@{shift:.2f}x1.00"), (0.1 * rng.standard_normal(20_000)).astype(np.float32))
        for shift in (0.8, 1.2)
        for _ in range(6)
    ]
    write_shard(tmp_path, "x", 0, clips, SAMPLE_RATE)
    voices = Voices([tmp_path / "x-00000"], 1)
    features, speakers = voices.batch(8, 160)
    assert features.shape == (8, 160, 80)
    assert torch.equal(speakers[::2], speakers[1::2])
    assert int(speakers.max()) < len(voices.speakers)


def test_training_tells_speakers_apart() -> None:
    torch.manual_seed(0)
    network, identification = SpeakerNetwork(), Identification(3)
    features = torch.randn(6, 60, 80) * (1 + torch.arange(3).repeat_interleave(2))[:, None, None]
    speakers = torch.arange(3).repeat_interleave(2)
    optimiser = torch.optim.AdamW([*network.parameters(), *identification.parameters()], lr=5e-3)
    found = []
    for _ in range(12):
        loss = identification.loss(network(features), speakers)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        found.append(loss.item())
    assert found[-1] < 0.3 * found[0]


def test_the_service_loads_what_is_exported(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = SpeakerNetwork().eval()
    export(network, tmp_path / "speaker.onnx")
    encoder = SpeakerEncoder(tmp_path / "speaker.onnx", WIDTH)
    features = np.random.default_rng(2).standard_normal((137, 80)).astype(np.float32)
    with torch.inference_mode():
        wanted = network(torch.from_numpy(features)[None])[0].numpy()
    np.testing.assert_allclose(encoder._embed(features), wanted, atol=2e-5)
