"""The same weights as Hugging Face lays them out: config.json and model.safetensors (split in two with an index for one family)."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
GEMMA = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
BERT_LAYER = {
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "layer_output_norm": "output.LayerNorm",
}
BERT_WHOLE = {
    "token_embd": "embeddings.word_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "position_embd": "embeddings.position_embeddings",
    "token_embd_norm": "embeddings.LayerNorm",
}
CLASSES = {
    "llama": ("LlamaForCausalLM", "llama"),
    "mistral": ("MistralForCausalLM", "mistral"),
    "qwen2": ("Qwen2ForCausalLM", "qwen2"),
    "qwen3": ("Qwen3ForCausalLM", "qwen3"),
    "gemma2": ("Gemma2ForCausalLM", "gemma2"),
    "gemma3": ("Gemma3ForCausalLM", "gemma3_text"),
    "phi3": ("Phi3ForCausalLM", "phi3"),
    "bert": ("BertModel", "bert"),
}


def halves(weight, heads):
    """Rows of Q or K from GGUF's adjacent pairs to halves of a head."""
    rows = weight.reshape(heads, weight.shape[0] // heads // 2, 2, *weight.shape[1:])
    return rows.swapaxes(1, 2).reshape(weight.shape)


def name_of(family, name):
    stem, kind = name.rsplit(".", 1)
    bert = family.arch == "bert"
    if not stem.startswith("blk."):
        return f"{(BERT_WHOLE if bert else WHOLE)[stem]}.{kind}"
    _, layer, part = stem.split(".")
    if bert:
        return f"encoder.layer.{layer}.{BERT_LAYER[part]}.{kind}"
    table = {**LAYER, **GEMMA} if family.post_norms else LAYER
    if family.fused and part == "ffn_up":
        return f"model.layers.{layer}.mlp.gate_up_proj.{kind}"
    return f"model.layers.{layer}.{table[part]}.{kind}"


def write(family, weights, folder: Path, vocab: int, context: int) -> None:
    if family.name not in CLASSES:
        return
    folder.mkdir(parents=True, exist_ok=True)
    architecture, model_type = CLASSES[family.name]
    out = {}
    for name, values in weights.items():
        if family.rope_pairs == "adjacent" and (".attn_q." in name or ".attn_k." in name):
            values = halves(values, family.heads if ".attn_q." in name else family.kv_heads)
        if family.post_norms and name.endswith("norm.weight"):
            values = values - np.float32(1)  # Gemma keeps g - 1
        out[name_of(family, name)] = np.ascontiguousarray(values)
    config = dict(
        architectures=[architecture], model_type=model_type, vocab_size=vocab, hidden_size=family.dim,
        intermediate_size=family.ff, num_hidden_layers=family.layers, num_attention_heads=family.heads,
        num_key_value_heads=family.kv_heads, head_dim=family.head_dim, max_position_embeddings=context,
        tie_word_embeddings=family.tied, hidden_act="silu", torch_dtype="float32",
    )
    if family.arch == "bert":
        config.update(hidden_act="gelu", layer_norm_eps=1e-5, type_vocab_size=2, position_embedding_type="absolute")
    else:
        config.update(rms_norm_eps=1e-5, rope_theta=family.rope_base)
    if family.post_norms:
        config.update(hidden_act="gelu_pytorch_tanh", hidden_activation="gelu_pytorch_tanh")
    if family.window:
        config.update(sliding_window=family.window)
    config.update(family.hf)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    if family.name == "qwen3":  # sharded
        names = sorted(out)
        shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
        for shard, held in shards.items():
            save_file({n: out[n] for n in held}, folder / shard)
        index = dict(metadata={}, weight_map={n: shard for shard, held in shards.items() for n in held})
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        save_file(out, folder / "model.safetensors")
