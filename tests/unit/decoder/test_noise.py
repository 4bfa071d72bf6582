import torch

from services.decoder.noise import PositionalNoise


def test_any_cut_gives_the_same_values() -> None:
    whole = PositionalNoise(7, "mel", (3,)).frames(0, 300)
    pieces = PositionalNoise(7, "mel", (3,))
    cut = torch.cat([pieces.frames(0, 10), pieces.frames(10, 64), pieces.frames(64, 65), pieces.frames(65, 300)])
    assert torch.equal(whole, cut)
    assert torch.equal(pieces.frames(5, 20), whole[5:20])  # back again


def test_seeds_and_streams_differ() -> None:
    one = PositionalNoise(1, "mel", (80,)).frames(0, 64)
    assert not torch.equal(one, PositionalNoise(2, "mel", (80,)).frames(0, 64))
    assert not torch.equal(one, PositionalNoise(1, "source", (80,)).frames(0, 64))
    assert PositionalNoise(2**64 - 1, "mel", (80,)).frames(0, 1).shape == (1, 80)


def test_it_is_standard_normal() -> None:
    noise = PositionalNoise(0, "mel", (80,)).frames(0, 640)
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02


def test_nothing_asked() -> None:
    assert PositionalNoise(0, "mel", (80,)).frames(0, 0).shape == (0, 80)
    assert PositionalNoise(0, "mel", (80,)).frames(64, 64).shape == (0, 80)
