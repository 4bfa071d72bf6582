"""A tiny checkpoint in the released layout: the golden LM's random weights and a text tokenizer that fits its ids."""

import base64
import json
import shutil
from pathlib import Path

MERGES = [b"he", b"ll", b"hell", b"hello", b" w", b"or", b" wor", b"ld", b" world", b"st", b"re", b"am"]
SPECIALS = [
    "<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>",
    "<|observation|>", "<|begin_of_audio|>", "<|end_of_audio|>",
]  # fmt: skip
CODEBOOK = 512


def write_tokenizer(directory: Path, codebook: int = CODEBOOK) -> None:
    """tokenizer.model with 256 bytes and a few merges, then special tokens, then the speech tokens."""
    ranks = [bytes([byte]) for byte in range(256)] + MERGES
    lines = [f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(ranks)]
    (directory / "tokenizer.model").write_text("\n".join(lines) + "\n")
    added = SPECIALS + [f"<|audio_{i}|>" for i in range(codebook)]
    decoder = {str(len(ranks) + i): {"content": content, "special": True} for i, content in enumerate(added)}
    (directory / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))


def write_checkpoint(directory: Path, golden: Path, context_length: int = 1024) -> Path:
    """A whole LM checkpoint; its eos ids are those of its own tokenizer."""
    directory.mkdir(parents=True, exist_ok=True)
    write_tokenizer(directory)
    shutil.copy(golden / "lm" / "model.safetensors", directory)
    config = json.loads((golden / "lm" / "config.json").read_text())
    first = 256 + len(MERGES)
    eos = [first + SPECIALS.index(name) for name in ("<|endoftext|>", "<|user|>", "<|observation|>")]
    config |= {"eos_token_id": eos, "pad_token_id": first, "seq_length": context_length}
    (directory / "config.json").write_text(json.dumps(config))
    return directory
