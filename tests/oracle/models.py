"""Writes small random models of every family in every format, and llama.cpp's answers to them.

usage: python tests/oracle/models.py OUT_DIR [SUBSTRING_OF_CASE]

Each case leaves `<case>.gguf`, `<case>.json` and `<case>.f32` in OUT_DIR. The last holds llama.cpp's logits of the prompt and of each
token of its greedy continuation, `[rows, vocab]` f32 (an encoder's: one pooled embedding). Where llama.cpp does not know a
feature (`judge` is "reference"), only the model is written. `hf/<family>/` holds the same weights as a Hugging Face folder.

Weights are scaled so that features bite: scores have a standard deviation of several units, windows are a few positions, the
original context of longrope is shorter than the prompt, soft caps sit inside the range of what they cap.
"""

import hashlib
import json
import math
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np

import hf_folder
import llama_run

PROMPT = 56  # over three pages of 16 positions
GREEDY = 24
CONTEXT = 256  # llama.cpp rounds a context up to this
VOCAB = 320

# llama.cpp's numbers of file types, and whether every matrix takes the type.
FORMATS = {
    "F16": (1, True),
    "Q8_0": (7, True),
    "Q4_0": (2, True),
    "Q4_K": (14, True),
    "Q6_K": (18, True),
    "Q4_K_M": (15, False),  # some of V and down in Q6_K
    "Q4_0_Q6_K": (2, False),  # the head in Q6_K
}


@dataclass
class Family:
    """One architecture with the features that this case shows."""

    name: str
    arch: str
    layers: int = 4
    dim: int = 256
    ff: int = 512
    heads: int = 8
    kv_heads: int = 2
    head_dim: int = 32
    tied: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    post_norms: bool = False
    fused: bool = False
    encoder: bool = False
    learned_positions: bool = False
    rope_pairs: str = "halves"
    rope_base: float = 10000.0
    window: int = 0
    keys: dict = field(default_factory=dict)
    rope_factors: dict = field(default_factory=dict)
    judge: str = "llama.cpp"
    formats: tuple = tuple(FORMATS)
    query_gain: float = 1.5
    embedding_gain: float = 1.0
    hf: dict = field(default_factory=dict)
    pooling: int = 0


def llama3_factors(base, rotated, factor, low, high, original):
    """The divisors that llama.cpp's converter works out of Llama 3's numbers."""
    frequencies = base ** (-np.arange(0, rotated, 2) / rotated)
    waves = original * frequencies / (2 * math.pi)
    keep = np.clip((waves - low) / (high - low), 0, 1)
    return (1 / (keep + (1 - keep) / factor)).astype(np.float32)


LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
LONG = np.linspace(1.5, 12.0, 12).astype(np.float32)
SHORT = np.linspace(1.0, 1.6, 12).astype(np.float32)
LONGROPE_FACTOR = math.sqrt(1 + math.log(256 / 32) / math.log(32))

FAMILIES = [
    Family(
        "llama", "llama", tied=True, rope_pairs="adjacent", rope_base=500.0,
        rope_factors={"rope_freqs": llama3_factors(500.0, 32, 8.0, 1.0, 4.0, 32)},
        hf=dict(rope_scaling=dict(rope_type="llama3", **LLAMA3)),
    ),
    Family("mistral", "llama", rope_pairs="adjacent", window=12, judge="reference"),
    Family("qwen2", "qwen2", qkv_bias=True, tied=True, rope_base=1e6),
    Family("qwen3", "qwen3", qk_norm=True, head_dim=64, rope_base=1e6),
    Family("yarn", "qwen3", qk_norm=True, rope_base=1e4, formats=("F16",),
           keys={"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 32}),
    Family(
        "gemma2", "gemma2", tied=True, post_norms=True, head_dim=64, heads=4, window=16, query_gain=2.0,
        embedding_gain=0.15,
        keys={"attn_logit_softcapping": 3.0, "final_logit_softcapping": 3.0},
        hf=dict(query_pre_attn_scalar=64, attn_logit_softcapping=3.0, final_logit_softcapping=3.0),
    ),
    Family(
        "gemma3", "gemma3", layers=12, tied=True, post_norms=True, qk_norm=True, head_dim=64, heads=4, kv_heads=1, window=8,
        rope_base=1e6, embedding_gain=0.1,
        keys={"rope.scaling.type": "linear", "rope.scaling.factor": 32.0},
        hf=dict(query_pre_attn_scalar=64, rope_local_base_freq=10000.0, sliding_window_pattern=6,
                rope_scaling=dict(rope_type="linear", factor=32.0)),
    ),
    Family(
        "phi3", "phi3", fused=True, query_gain=1.1, rope_factors={"rope_factors_long": LONG, "rope_factors_short": SHORT},
        keys={"rope.dimension_count": 24, "rope.scaling.original_context_length": 32,
              "rope.scaling.attn_factor": LONGROPE_FACTOR},
        hf=dict(partial_rotary_factor=0.75, original_max_position_embeddings=32,
                rope_scaling=dict(type="longrope", long_factor=LONG.tolist(), short_factor=SHORT.tolist())),
    ),
    Family(
        "phi3-short", "phi3", fused=True, query_gain=1.1, formats=("F16",),
        rope_factors={"rope_factors_long": LONG, "rope_factors_short": SHORT},
        keys={"rope.dimension_count": 24, "rope.scaling.original_context_length": 4096, "rope.scaling.attn_factor": 1.25},
    ),
    Family("phi3-window", "phi3", fused=True, window=10, judge="reference"),
    Family("bert", "bert", encoder=True, learned_positions=True, kv_heads=8, pooling=1),
    Family("bert-cls", "bert", encoder=True, learned_positions=True, kv_heads=8, pooling=2, formats=("F16",)),
    Family("nomic-bert", "nomic-bert", encoder=True, kv_heads=8, rope_base=1000.0, pooling=1),
]


def tensors(family: Family) -> dict:
    """Random weights under GGUF's names, f32. Matrices are `[rows, columns]`."""
    rng = np.random.default_rng(zlib.crc32(family.name.encode()))
    dim, ff = family.dim, family.ff
    q, kv = family.heads * family.head_dim, family.kv_heads * family.head_dim

    def matrix(rows, columns, gain=1.0):
        return (rng.standard_normal((rows, columns)) * gain / math.sqrt(columns)).astype(np.float32)

    def vector(width, low=0.5, high=1.5):
        return rng.uniform(low, high, width).astype(np.float32)

    def norm(name, width=dim):
        out[f"{name}.weight"] = vector(width)
        if family.encoder:
            out[f"{name}.bias"] = vector(width, -0.5, 0.5)

    out = {"token_embd.weight": (rng.standard_normal((VOCAB, dim)) * family.embedding_gain).astype(np.float32)}
    if family.encoder:
        out["token_types.weight"] = matrix(2, dim, 8.0)
        norm("token_embd_norm")
        if family.learned_positions:
            out["position_embd.weight"] = matrix(CONTEXT, dim, 16.0)
    for i in range(family.layers):
        b = f"blk.{i}."
        before = not family.encoder
        if before:
            norm(b + "attn_norm")
            norm(b + "ffn_norm")
        else:
            norm(b + "attn_output_norm")
            norm(b + "layer_output_norm")
        if family.post_norms:
            norm(b + "post_attention_norm")
            norm(b + "post_ffw_norm")
        gain = family.query_gain
        pieces = [("attn_q", q, gain), ("attn_k", kv, gain), ("attn_v", kv, 1.0)]
        weights = [matrix(rows, dim, g) for _, rows, g in pieces]
        if family.fused or family.arch == "nomic-bert":
            out[b + "attn_qkv.weight"] = np.concatenate(weights)
        else:
            for (part, rows, _), weight in zip(pieces, weights):
                out[f"{b}{part}.weight"] = weight
                if family.qkv_bias or family.arch == "bert":
                    out[f"{b}{part}.bias"] = vector(rows, -1.0, 1.0)
        if family.qk_norm:
            out[b + "attn_q_norm.weight"] = vector(family.head_dim, 0.7, 2.1)
            out[b + "attn_k_norm.weight"] = vector(family.head_dim, 0.7, 2.1)
        out[b + "attn_output.weight"] = matrix(dim, q)
        if family.fused:
            out[b + "ffn_up.weight"] = matrix(2 * ff, dim)
        else:
            out[b + "ffn_up.weight"] = matrix(ff, dim)
            if family.arch != "bert":
                out[b + "ffn_gate.weight"] = matrix(ff, dim)
        out[b + "ffn_down.weight"] = matrix(dim, ff)
        if family.arch == "bert":
            out[b + "attn_output.bias"] = vector(dim, -0.5, 0.5)
            out[b + "ffn_up.bias"] = vector(ff, -0.5, 0.5)
            out[b + "ffn_down.bias"] = vector(dim, -0.5, 0.5)
    if not family.encoder:
        norm("output_norm")
        if not family.tied:
            out["output.weight"] = matrix(VOCAB, dim, 2.0)
    return out


def write_gguf(family: Family, weights: dict, path: Path) -> None:
    """An F32 file; llama.cpp makes the other formats of it."""
    w = gguf.GGUFWriter(str(path), family.arch)
    key = lambda suffix: f"{family.arch}.{suffix}"  # noqa: E731
    w.add_name("random weights")  # llama.cpp keys quirks of real models by name
    w.add_context_length(CONTEXT)
    w.add_embedding_length(family.dim)
    w.add_block_count(family.layers)
    w.add_feed_forward_length(family.ff)
    w.add_head_count(family.heads)
    w.add_head_count_kv(family.kv_heads)
    w.add_key_length(family.head_dim)
    w.add_value_length(family.head_dim)
    w.add_vocab_size(VOCAB)
    if family.encoder:
        w.add_layer_norm_eps(1e-5)
        w.add_causal_attention(False)
        w.add_pooling_type(gguf.PoolingType(family.pooling))
        w.add_token_type_count(2)
    else:
        w.add_layer_norm_rms_eps(1e-5)
    if not family.learned_positions:
        w.add_rope_freq_base(family.rope_base)
        w.add_rope_dimension_count(family.keys.get("rope.dimension_count", family.head_dim))
    if family.window:
        w.add_sliding_window(family.window)
    for suffix, value in family.keys.items():
        if suffix == "rope.dimension_count":
            continue
        add = {int: w.add_uint32, float: w.add_float32, str: w.add_string}[type(value)]
        add(key(suffix), value)
    write_vocabulary(w, family)
    for name, values in weights.items():
        w.add_tensor(name, values)
    for name, values in family.rope_factors.items():
        w.add_tensor(f"{name}.weight", values)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write_vocabulary(w, family: Family) -> None:
    """Bytes and made-up pieces: enough for every tool that opens the file to make a tokenizer of it."""
    if family.encoder:
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        tokens = special + [f"\u2581w{i}" for i in range(VOCAB - len(special))]
        kinds = [3] * len(special) + [1] * (VOCAB - len(special))
        w.add_tokenizer_model("bert")
        w.add_tokenizer_pre("jina-v2-en")
        w.add_unk_token_id(1)
        w.add_sep_token_id(3)
        w.add_pad_token_id(0)
        w.add_mask_token_id(4)
        w.add_bos_token_id(2)
        w.add_eos_token_id(3)
    else:
        tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
        kinds = [2, 3, 3] + [6] * 256
        tokens += [f"\u2581{chr(97 + i % 26)}{i}" for i in range(VOCAB - len(tokens))]
        kinds += [1] * (VOCAB - len(kinds))
        w.add_tokenizer_model("llama")
        w.add_tokenizer_pre("default")
        w.add_bos_token_id(1)
        w.add_eos_token_id(2)
        w.add_unk_token_id(0)
    w.add_token_list(tokens)
    w.add_token_scores([0.0] * VOCAB)
    w.add_token_types(kinds)


def prompt(family: Family) -> list:
    rng = np.random.default_rng(zlib.crc32(b"prompt " + family.name.encode()))
    return [int(t) for t in rng.integers(5, VOCAB, PROMPT)]


def run(family: Family, out: Path, wanted: str) -> None:
    base = out / f"{family.name}.F32.gguf"
    weights = tensors(family)
    write_gguf(family, weights, base)
    hf_folder.write(family, weights, out / "hf" / family.name, VOCAB, CONTEXT)
    for label in ("F32",) + tuple(family.formats):
        case = f"{family.name}.{label}"
        if wanted not in case:
            continue
        path = out / f"{case}.gguf"
        if label != "F32":
            number, pure = FORMATS[label]
            llama_run.quantise(base, path, number, pure)
        tokens = prompt(family)
        record = dict(
            case=case, family=family.name, format=label, judge=family.judge, context=CONTEXT, prompt=tokens,
            vocab=VOCAB, dim=family.dim, pooling=family.pooling, encoder=family.encoder,
        )
        if family.judge == "llama.cpp":
            if family.encoder:
                values = llama_run.embedding(path, tokens, CONTEXT, family.pooling)
                record["rows"] = 1
            else:
                greedy, values = llama_run.greedy(path, tokens, GREEDY, CONTEXT)
                record["greedy"] = greedy
                record["rows"] = len(values)
            assert np.isfinite(values).all(), case
            values.astype("<f4").tofile(out / f"{case}.f32")
        (out / f"{case}.json").write_text(json.dumps(record))
        print(case, flush=True)


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    scripts = sorted(Path(__file__).parent.glob("*.py"))
    version = hashlib.sha256(b"".join(p.read_bytes() for p in scripts)).hexdigest() + wanted
    stamp = out / "version"
    if stamp.exists() and stamp.read_text() == version:
        return
    for family in FAMILIES:
        run(family, out, wanted)
    stamp.write_text(version)


if __name__ == "__main__":
    main()
