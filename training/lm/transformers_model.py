"""A checkpoint in ChatGLM format as transformers' own GLM class: the judge of the served network and of the export."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GlmConfig, GlmForCausalLM
from transformers.models.glm.modeling_glm import GlmRotaryEmbedding

from services.lm import weights

_TOP = {
    weights.EMBEDDING: "model.embed_tokens.weight",
    weights.FINAL_NORM: "model.norm.weight",
    weights.OUTPUT: "lm_head.weight",
}
_LAYER = {
    "input_layernorm.weight": "input_layernorm.weight",
    "post_attention_layernorm.weight": "post_attention_layernorm.weight",
    "self_attention.dense.weight": "self_attn.o_proj.weight",
    "mlp.dense_h_to_4h.weight": "mlp.gate_up_proj.weight",
    "mlp.dense_4h_to_h.weight": "mlp.down_proj.weight",
}


def load(directory: Path) -> Any:
    """`GlmForCausalLM` in float32, in evaluation mode.

    Raises:
        WeightsError: the checkpoint is wrong.
    """
    checkpoint = weights.inspect(directory)
    architecture = checkpoint.architecture
    config = GlmConfig(
        vocab_size=architecture.vocabulary,
        hidden_size=architecture.hidden,
        intermediate_size=architecture.ffn,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.kv_heads,
        head_dim=architecture.size,
        max_position_embeddings=architecture.context_length,
        rms_norm_eps=architecture.eps,
        tie_word_embeddings=architecture.tied,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": architecture.rope_base,
            "partial_rotary_factor": 0.5,
        },
        attention_bias=True,
        pad_token_id=None,
        eos_token_id=list(architecture.end_tokens),
    )
    with torch.device("meta"):
        model = GlmForCausalLM(config)
    state = {
        name: part.float() for source, tensor in checkpoint.tensors() for name, part in _named(source, tensor, config)
    }
    if architecture.tied:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, assign=True)
    # Its buffer is not part of a checkpoint, so it was left on the meta device.
    model.model.rotary_emb = GlmRotaryEmbedding(config)
    model.requires_grad_(False)
    model.eval()
    return model


def _named(source: str, tensor: Tensor, config: Any) -> Iterator[tuple[str, Tensor]]:
    """The name or names that a released tensor has in transformers' model; attention's input is split by rows."""
    if source in _TOP:
        yield _TOP[source], tensor
        return
    number, _, rest = source.removeprefix("transformer.encoder.layers.").partition(".")
    layer = f"model.layers.{number}."
    if rest in _LAYER:
        yield layer + _LAYER[rest], tensor
        return
    kind = rest.rpartition(".")[2]
    kv = config.num_key_value_heads * config.head_dim
    for name, part in zip("qkv", torch.split(tensor, [len(tensor) - 2 * kv, kv, kv]), strict=True):
        yield f"{layer}self_attn.{name}_proj.{kind}", part
