"""What the services publish and the agent relies on."""

from dataclasses import dataclass

from trunkline.v1 import decoder_pb2, lm_pb2, tokenizer_pb2

AnyInfo = tokenizer_pb2.SpeechTokenizerInfoResponse | lm_pb2.VoiceLMInfoResponse | decoder_pb2.SpeechDecoderInfoResponse


@dataclass(frozen=True)
class Limits:
    """Of the services together.

    Attributes:
        pcm_rate: of the decoder, hertz.
        token_rate: speech tokens a second.
        final_tokens: tokens of an utterance become final so many at a time.
        block_sizes: speech tokens of the decoder's first block, the second and so on; the last size repeats.
    """

    codebook_size: int
    context_length: int
    pcm_rate: int
    max_utterance_s: float
    input_rate: int
    token_rate: float
    final_tokens: int
    block_sizes: tuple[int, ...]


def limits_of(
    tokenizer: tokenizer_pb2.SpeechTokenizerInfoResponse,
    lm: lm_pb2.VoiceLMInfoResponse,
    decoder: decoder_pb2.SpeechDecoderInfoResponse,
) -> Limits:
    """From what one replica of each published."""
    return Limits(
        lm.codebook_size,
        lm.context_length,
        decoder.sample_rate,
        float(tokenizer.max_seconds or 30),
        tokenizer.sample_rate,
        tokenizer.token_rate,
        tokenizer.block_tokens,
        (decoder.first_block_tokens, *decoder.block_tokens),
    )


def differences(limits: Limits, info: AnyInfo) -> str:
    """What of a replica's Info does not go with the limits; empty when all does."""
    found = {"codebook size": (info.codebook_size, limits.codebook_size)}
    if isinstance(info, tokenizer_pb2.SpeechTokenizerInfoResponse):
        found["sample rate"] = (info.sample_rate, limits.input_rate)
    elif isinstance(info, lm_pb2.VoiceLMInfoResponse):
        found["context length"] = (info.context_length, limits.context_length)
    else:
        found["sample rate"] = (info.sample_rate, limits.pcm_rate)
    return ", ".join(f"{what} is {its}, not {ours}" for what, (its, ours) in found.items() if its != ours)
