"""A padded batch gives each sequence what it gets alone."""

import torch
from torch import Tensor

from services.decoder.weights import Checkpoint


@torch.inference_mode()
def test_padding_changes_nothing(tiny: Checkpoint) -> None:
    flow = tiny.flow
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 512, (3, 38), generator=generator)
    lengths = torch.tensor([38, 12, 22])
    frames = [flow.frames(int(length)) for length in lengths]
    assert any(count % 2 for count in frames)  # odd lengths are where halving the time axis could go wrong
    longest = max(frames)
    mask = (torch.arange(longest)[None] < torch.tensor(frames)[:, None])[:, None].float()
    noise = torch.randn((3, 80, longest), generator=generator)
    speaker, prompt = torch.randn((3, 80), generator=generator), torch.randn((3, 80, longest), generator=generator)
    mu = flow.condition(tokens, longest, lengths, mask)
    together = flow.decoder.solve(noise, mu, speaker, prompt * mask, steps=3, guidance=0.7, mask=mask)
    for row, (length, count) in enumerate(zip(lengths.tolist(), frames, strict=True)):
        mu_alone = flow.condition(tokens[row : row + 1, :length], count)
        assert torch.allclose(mu_alone, mu[row : row + 1, :, :count], atol=1e-4, rtol=0)
        alone = flow.decoder.solve(
            noise[row : row + 1, :, :count],
            mu_alone,
            speaker[row : row + 1],
            prompt[row : row + 1, :, :count],
            steps=3,
            guidance=0.7,
        )
        assert torch.allclose(alone, together[row : row + 1, :, :count], atol=1e-4, rtol=0)


@torch.inference_mode()
def test_where_the_flow_begins(tiny: Checkpoint) -> None:
    """From time 0 it is the released flow; at time 1 nothing is left but mu; between, nearer to mu than from noise."""
    flow = tiny.flow
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 512, (1, 20), generator=generator)
    noise = torch.randn((1, 80, flow.frames(20)), generator=generator)
    mu, speaker, prompt = flow.condition(tokens, noise.shape[2]), torch.zeros(1, 80), torch.zeros_like(noise)

    def solved(start: float) -> Tensor:
        return flow.decoder.solve(noise, mu, speaker, prompt, steps=4, guidance=0.0, start=start)

    assert torch.equal(flow.decoder.solve(noise, mu, speaker, prompt, steps=4, guidance=0.0), solved(start=0.0))
    assert torch.equal(solved(start=1.0), mu)
    away = [float((solved(start=start) - mu).abs().mean()) for start in (0.0, 0.5, 0.9)]
    assert away[0] > away[1] > away[2] > 0
