"""A new run may begin with an earlier version's weights, though its text vocabulary has changed since."""

from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from services.lm.prompt import ChatTemplate
from training.lm.export import trained_rows
from training.lm.model import LanguageModel, Layer


def _ids_of(template: ChatTemplate, earlier: ChatTemplate) -> list[list[int]]:
    """For every id of the new vocabulary, the earlier ids that stand for the same bytes or the same special token."""
    new, old = template.vocabulary, earlier.vocabulary
    special, speech = len(template.text.ids), new.speech_offset
    same_codes = new.codebook_size == old.codebook_size
    found: list[list[int]] = []
    for token in range(new.size):
        if template.text.knows(token):
            found.append(_spelt(template.text.decode_bytes([token]), earlier))
        elif token >= speech and not same_codes:
            found.append([])  # another tokenizer's codes mean other sounds
        else:  # special tokens and speech follow the text in the same order
            found.append([token - special + len(earlier.text.ids)])
    assert new.speech_offset - special == old.speech_offset - len(earlier.text.ids), "other special tokens"
    return found


def _spelt(raw: bytes, earlier: ChatTemplate) -> list[int]:
    try:
        return earlier.text.encode(raw.decode())
    except UnicodeDecodeError:
        return list(raw)  # part of a character; in our own vocabularies a byte's id is its value


def _moved(rows: Tensor, ids: list[list[int]], fresh: Tensor) -> Tensor:
    """Rows of the new vocabulary: the mean of their earlier parts; `fresh` where there are none."""
    out = fresh.clone()
    for token, parts in enumerate(ids):
        if parts:
            out[token] = rows[parts].mean(0)
    return out


@torch.no_grad()
def start_from(model: LanguageModel, template: ChatTemplate, folder: Path) -> None:
    """Loads the exported weights of `folder` into a model of the same sizes; the CTC head stays as it is."""
    state = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    ids = _ids_of(template, ChatTemplate.load(folder))
    embedding, head = model.embedding.weight, model.head.weight
    embedding.copy_(_moved(state["transformer.embedding.word_embeddings.weight"], ids, embedding))
    head.copy_(_moved(state["transformer.output_layer.weight"], ids, head))
    model.norm.weight.copy_(state["transformer.encoder.final_layernorm.weight"])
    exported = trained_rows(model.config)
    for i, module in enumerate(model.layers):
        layer = cast(Layer, module)
        prefix = f"transformer.encoder.layers.{i}."
        layer.attention_norm.weight.copy_(state[f"{prefix}input_layernorm.weight"])
        layer.mlp_norm.weight.copy_(state[f"{prefix}post_attention_layernorm.weight"])
        layer.qkv.weight[exported] = state[f"{prefix}self_attention.query_key_value.weight"]
        layer.qkv.bias[exported] = state[f"{prefix}self_attention.query_key_value.bias"]
        layer.out.weight.copy_(state[f"{prefix}self_attention.dense.weight"])
        layer.gate_up.weight.copy_(state[f"{prefix}mlp.dense_h_to_4h.weight"])
        layer.down.weight.copy_(state[f"{prefix}mlp.dense_4h_to_h.weight"])
