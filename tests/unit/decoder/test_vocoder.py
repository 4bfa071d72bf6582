from pathlib import Path

import pytest
import torch
from torch import Tensor

from services.decoder import config as decoder_config
from services.decoder.vocoder.hift import HiFTGenerator, SourceFilterVocoder, build
from services.decoder.vocoder.source import PulseSource
from services.decoder.vocoder.stream import CONTEXT, MelBlock, VocoderStream, render
from services.decoder.weights import Checkpoint

HOP, RATE = 256, 22_050
LIGHT = {"head": "source_filter", "upsample_rates": [], "upsample_kernel_sizes": [], "nb_harmonics": 99} | {
    "source_resblock_kernel_sizes": [],
    "source_resblock_dilation_sizes": [],
    "resblock_kernel_sizes": [3, 7],
    "resblock_dilation_sizes": [[1, 3], [1, 3]],
    "istft_params": {"n_fft": 1024, "hop_len": 256},
    "nsf_voiced_threshold": 60.0,
}


@pytest.fixture(scope="module")
def light(golden_dir: Path) -> SourceFilterVocoder:
    released = decoder_config.read(golden_dir / "decoder" / "config.yaml").hift.model_dump(by_alias=True)
    torch.manual_seed(0)
    vocoder = build(decoder_config.HiftConfig.model_validate(released | LIGHT)).eval().requires_grad_(False)
    assert isinstance(vocoder, SourceFilterVocoder)
    vocoder.f0_predictor.classifier.bias.fill_(150.0)
    return vocoder


@pytest.fixture(params=["istft", "source_filter"])
def vocoder(request: pytest.FixtureRequest, tiny: Checkpoint, light: SourceFilterVocoder) -> HiFTGenerator:
    return tiny.vocoder if request.param == "istft" else light


def some_mel(frames: int) -> Tensor:
    """Smooth in time, as speech is."""
    noise = torch.randn((1, 80, frames + 8), generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.avg_pool1d(noise, 9, stride=1) * 3 - 5


def stream(vocoder: HiFTGenerator, mel: Tensor, cuts: list[int], look_ahead: int = 34) -> Tensor:
    streamed, pieces, start = VocoderStream(vocoder, seed=5), [], 0
    for stop in [*cuts, mel.shape[2]]:
        after = mel[:, :, stop : stop + look_ahead]
        pieces.append(streamed.push(mel[:, :, start:stop], after, last=stop == mel.shape[2]))
        start = stop
    return torch.cat(pieces)


@torch.inference_mode()
def test_streamed_audio_is_the_whole_audio(vocoder: HiFTGenerator) -> None:
    mel = some_mel(300)
    whole = stream(vocoder, mel, [])
    assert whole.shape == (300 * HOP,)
    assert float(whole.std()) > 1e-3
    streamed = stream(vocoder, mel, [34, 120, 121, 250])
    assert streamed.shape == whole.shape
    assert float((streamed - whole).abs().max()) < 2e-3 * float(whole.abs().max())


@torch.inference_mode()
def test_a_batch_of_streams_gives_each_its_own(vocoder: HiFTGenerator) -> None:
    """Streams at different places, with blocks of different lengths, first and last ones among them."""
    mel, starts, lengths = some_mel(200), [0, 60, 33, 0], [40, 90, 11, 200]
    alone, together = ([VocoderStream(vocoder, seed) for seed in range(4)] for _ in range(2))
    for stream_alone, stream_together, start in zip(alone, together, starts, strict=True):
        if start:
            assert torch.equal(
                stream_alone.push(mel[:, :, :start], mel[:, :, start : start + 9], last=False),
                stream_together.push(mel[:, :, :start], mel[:, :, start : start + 9], last=False),
            )
    blocks = []
    for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        stop, last = start + length, row > 1
        blocks.append(MelBlock(mel[:, :, start:stop], mel[:, :, stop : stop if last else stop + 7], last))
    for _ in range(2):  # what a stream remembers of a batch is right too
        batched = render(vocoder, list(zip(together, blocks, strict=True)))
        for one, block, got in zip(alone, blocks, batched, strict=True):
            wanted = one.push(block.mel, block.after, block.last)
            assert got.shape == wanted.shape
            assert float(wanted.std()) > 1e-3
            assert float((got - wanted).abs().max()) < 1e-5


@torch.inference_mode()
def test_audio_lags_one_frame_until_the_end(vocoder: HiFTGenerator) -> None:
    mel = some_mel(3 * CONTEXT)
    streamed = VocoderStream(vocoder, seed=0)
    assert len(streamed.push(mel[:, :, :40], mel[:, :, 40:60], last=False)) == 39 * HOP
    assert len(streamed.push(mel[:, :, 40:50], mel[:, :, :0], last=True)) == 11 * HOP


@torch.inference_mode()
def test_source_goes_on_across_blocks(vocoder: HiFTGenerator) -> None:
    f0 = 120 + 60 * torch.rand((1, 50), generator=torch.Generator().manual_seed(1))
    f0[0, 20:25] = 0
    state = vocoder.new_source(9)
    whole = vocoder.m_source(f0, [state])
    pieces = []
    for part in torch.split(f0, [1, 17, 32], dim=1):
        pieces.append(vocoder.m_source(part, [state]))
        state.advance(part[0], HOP, RATE)
    assert torch.allclose(torch.cat(pieces, dim=2), whole, atol=1e-4)


@torch.inference_mode()
def test_seed_decides_the_source(vocoder: HiFTGenerator) -> None:
    f0 = torch.full((1, 4), 200.0)
    first, again, other = (vocoder.m_source(f0, [vocoder.new_source(seed)]) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_pulses_are_equal_harmonics_below_nyquist(light: SourceFilterVocoder) -> None:
    source = light.m_source
    assert isinstance(source, PulseSource)
    hz, frames = RATE / 100, 100  # a period of exactly 100 samples
    cycles = torch.arange(1, frames * HOP + 1).double() / 100
    pulses = source.pulses(torch.full((frames,), hz), cycles)
    assert float(pulses.square().mean()) == pytest.approx(1.0, rel=0.03)
    spectrum = torch.fft.rfft(pulses[: 100 * 256]).abs()
    harmonics = spectrum[256::256][:49].clone()
    assert float(harmonics.std() / harmonics.mean()) < 0.02
    spectrum[::256] = 0
    assert float(spectrum.max()) < 0.02 * float(harmonics.mean())
    assert float(source.pulses(torch.zeros(2), torch.zeros(512).double()).abs().max()) == 0


@torch.inference_mode()
def test_light_head_keeps_the_envelope(light: SourceFilterVocoder) -> None:
    """With its network silent, the filters are the mel's own envelope: louder mel, louder audio, in proportion."""
    mel = some_mel(60)
    f0 = torch.full((1, 60), 180.0)
    source = light.m_source(f0, [light.new_source(0)])
    quiet, loud = (light.responses(mel + offset)[0].mean() for offset in (0.0, 1.0))
    assert float(loud - quiet) == pytest.approx(1.0, abs=0.5)
    assert light.decode(mel, source).shape == (1, 60 * HOP)
