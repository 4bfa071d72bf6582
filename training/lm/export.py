"""The trained language model in the released ChatGLM format, float16."""

import json
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import save_file
from torch import Tensor

from services.lm.prompt import ChatTemplate
from training.lm.model import LanguageModel, Layer, LMConfig

CONTEXT = 2048


def interleaved_rows(head_dim: int) -> Tensor:
    """Rows of one head in the released order: rotary pair i of training, (i, i + q), becomes (2i, 2i + 1)."""
    quarter = head_dim // 4
    pairs = torch.stack([torch.arange(quarter), torch.arange(quarter) + quarter], 1).flatten()
    return torch.cat([pairs, torch.arange(2 * quarter, head_dim)])


def trained_rows(config: LMConfig) -> Tensor:
    """Rows of query, key and value as trained, in the order in which they are exported."""
    order = interleaved_rows(config.head_dim)
    turned = torch.cat([head * config.head_dim + order for head in range(config.heads + config.groups)])
    return torch.cat([turned, torch.arange(len(turned), (config.heads + 2 * config.groups) * config.head_dim)])


def released_state(model: LanguageModel) -> dict[str, Tensor]:
    """Tensors under ChatGLM's names. The CTC head stays out."""
    rows = trained_rows(model.config)
    state = {
        "transformer.embedding.word_embeddings.weight": model.embedding.weight,
        "transformer.encoder.final_layernorm.weight": model.norm.weight,
        "transformer.output_layer.weight": model.head.weight,
    }
    for i, module in enumerate(model.layers):
        layer = cast(Layer, module)
        names = {
            "input_layernorm.weight": layer.attention_norm.weight,
            "post_attention_layernorm.weight": layer.mlp_norm.weight,
            "self_attention.query_key_value.weight": layer.qkv.weight[rows],
            "self_attention.query_key_value.bias": layer.qkv.bias[rows],
            "self_attention.dense.weight": layer.out.weight,
            "mlp.dense_h_to_4h.weight": layer.gate_up.weight,
            "mlp.dense_4h_to_h.weight": layer.down.weight,
        }
        state |= {f"transformer.encoder.layers.{i}.{name}": tensor for name, tensor in names.items()}
    return {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in state.items()}


def released_config(config: LMConfig, ends: list[int]) -> dict[str, object]:
    return {
        "architectures": ["ChatGLMModel"],
        "model_type": "chatglm",
        "add_bias_linear": False,
        "add_qkv_bias": True,
        "apply_residual_connection_post_layernorm": False,
        "ffn_hidden_size": config.ffn,
        "hidden_size": config.hidden,
        "kv_channels": config.head_dim,
        "layernorm_epsilon": config.epsilon,
        "multi_query_attention": True,
        "multi_query_group_num": config.groups,
        "num_attention_heads": config.heads,
        "num_layers": config.layers,
        "original_rope": True,
        "padded_vocab_size": config.vocabulary,
        "post_layer_norm": True,
        "rmsnorm": True,
        "rope_ratio": 1,
        "seq_length": CONTEXT,
        "use_cache": True,
        "torch_dtype": "float16",
        "tie_word_embeddings": False,
        "eos_token_id": ends,
        "pad_token_id": ends[0],
    }


def export(model: LanguageModel, folder: Path) -> None:
    """Writes config.json and model.safetensors beside the text tokenizer that is in `folder` already."""
    added = json.loads((folder / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    ids = {entry["content"]: int(token) for token, entry in added.items()}
    ends = [ids["<|endoftext|>"], ids["<|user|>"], ids["<|observation|>"]]
    (folder / "config.json").write_text(json.dumps(released_config(model.config, ends), indent=2) + "\n")
    temporary = folder / "model.safetensors.part"
    save_file(released_state(model), temporary, metadata={"format": "pt"})
    temporary.chmod(0o644)  # safetensors makes it private
    temporary.replace(folder / "model.safetensors")


def load_template(folder: Path) -> ChatTemplate:
    """The template of a folder that may have no config.json yet: block sizes are the released ones."""
    if not (folder / "config.json").exists():
        (folder / "config.json").write_text("{}\n")
    return ChatTemplate.load(folder)
