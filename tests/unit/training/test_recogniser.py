import torch

from training.tokenizer import whisper
from training.tokenizer.model import DecoderLayer


def test_word_by_word_is_the_same_as_all_at_once() -> None:
    """What a decoder layer computes with keys and values kept is what it computes from the whole text."""
    torch.manual_seed(0)
    layer = DecoderLayer(whisper.WIDTH, whisper.HEADS, whisper.FFN)
    x, speech = torch.randn(2, 5, whisper.WIDTH), torch.randn(2, 7, whisper.WIDTH)
    mask = (torch.arange(7)[None, :] < torch.tensor([7, 4])[:, None])[:, None, None]
    with torch.inference_mode():
        whole = layer(x, torch.ones(5, 5, dtype=torch.bool).tril(), speech, mask)
        past, given = None, layer.encoder_attn.keys_values(speech)
        for at in range(5):
            one, past = layer.step(x[:, at : at + 1], past, given, mask)
            torch.testing.assert_close(one[:, 0], whole[:, at], atol=1e-5, rtol=1e-5)
