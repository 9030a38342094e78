"""Firecrest beside llama.cpp on the same GGUF files, turn about, in one run.

A random 12-layer, 768-wide Llama (32,000 tokens) in several formats: speed does not depend on what weights say. Each turn runs one
engine, then the other, in a process of its own; of several turns the best counts, because machines are noisy and only ever slow a
run down. Peak memory is the process's VmHWM less what it was before a model was opened, for both.

Run by `cargo xtask bench peers`. Needs numpy, gguf and llama-cpp-python.
"""
import argparse
import ctypes
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIM, LAYERS, HEADS, FF, VOCAB, CONTEXT = 768, 12, 12, 2048, 32000, 2048


def peak_kib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def quiet_llama_cpp():
    """llama.cpp without its log of every tensor."""
    import llama_cpp as L

    global _silence  # llama.cpp keeps the pointer, so the callback must live
    _silence = L.llama_log_callback(lambda level, text, data: None)
    L.llama_log_set(_silence, ctypes.c_void_p(0))
    return L


def write_f16(path):
    """The random model in F16, which every other format is quantised from."""
    import gguf
    import numpy as np

    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(DIM)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FF)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(DIM // HEADS)
    writer.add_vocab_size(VOCAB)
    writer.add_file_type(1)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    letters = {b: chr(b) for b in printable} | {b: chr(256 + n) for n, b in enumerate(others)}
    tokens = [letters[b] for b in range(256)] + ["ab"] + [f"<{n}>" for n in range(VOCAB - 259)] + ["<|bos|>", "<|eos|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (VOCAB - 2) + [3, 3])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(VOCAB - 2)
    writer.add_eos_token_id(VOCAB - 1)

    def matrix(name, rows, columns):
        writer.add_tensor(name, (rng.standard_normal((rows, columns), dtype=np.float32) * 0.02).astype(np.float16))

    def gain(name):
        writer.add_tensor(name, np.ones(DIM, np.float32))

    matrix("token_embd.weight", VOCAB, DIM)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        gain(block + "attn_norm.weight")
        gain(block + "ffn_norm.weight")
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"{block}{name}.weight", DIM, DIM)
        matrix(block + "ffn_gate.weight", FF, DIM)
        matrix(block + "ffn_up.weight", FF, DIM)
        matrix(block + "ffn_down.weight", DIM, FF)
    gain("output_norm.weight")
    matrix("output.weight", VOCAB, DIM)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_models(formats):
    """One file a format under target/, made once. Every matrix has the one format (llama.cpp's `pure`)."""
    folder = ROOT / "target/bench-models"
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / "llama-160m-f16.gguf"
    if not base.exists():
        print("making the random model …", flush=True)
        write_f16(str(base) + ".part")
        os.replace(str(base) + ".part", base)
    types = {"f16": 1, "q4_0": 2, "q8_0": 7, "q4_k": 14, "q6_k": 18}  # llama_ftype
    models = {}
    for name in formats:
        path = folder / f"llama-160m-{name}.gguf"
        if not path.exists():
            L = quiet_llama_cpp()
            params = L.llama_model_quantize_default_params()
            params.ftype = types[name]
            params.pure = True
            params.nthread = 2
            if L.llama_model_quantize(str(base).encode(), (str(path) + ".part").encode(), ctypes.byref(params)):
                sys.exit(f"llama.cpp could not quantise to {name}")
            os.replace(str(path) + ".part", path)
        models[name] = path
    return models


def peer(model, threads, prompt, generate, sequences):
    """One measurement of llama.cpp in this process, as JSON on stdout."""
    L = quiet_llama_cpp()
    L.llama_backend_init()
    baseline = peak_kib()
    loaded = L.llama_model_load_from_file(model.encode(), L.llama_model_default_params())
    params = L.llama_context_default_params()
    params.n_ctx = (prompt + generate + 16) * sequences
    params.n_batch = params.n_ubatch = 512
    params.n_seq_max = sequences
    params.n_threads = params.n_threads_batch = threads
    context = L.llama_init_from_model(loaded, params)

    def decode(rows):
        batch = L.llama_batch_init(len(rows), 0, 1)
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, 1, wanted
            batch.seq_id[i][0] = sequence
        if L.llama_decode(context, batch):
            sys.exit("llama_decode failed")
        L.llama_synchronize(context)
        L.llama_batch_free(batch)

    memory = L.llama_get_memory(context)
    decode([(1, 0, 0, 1)])
    L.llama_memory_clear(memory, True)
    prompts = [[(i * 7919 + s * 31) % 250 for i in range(prompt)] for s in range(sequences)]
    rows = [(t, i, s, int(i == prompt - 1)) for s in range(sequences) for i, t in enumerate(prompts[s])]
    started = time.perf_counter()
    for at in range(0, len(rows), 512):
        decode(rows[at : at + 512])
    prefill = time.perf_counter() - started
    started = time.perf_counter()
    # The first token comes from the prompt's own logits, as it does in Firecrest: one step fewer than tokens.
    for step in range(generate - 1):
        decode([((step + s) % 250, prompt + step, s, 1) for s in range(sequences)])
    took = time.perf_counter() - started
    result = dict(prefill_tps=prompt * sequences / prefill, decode_tps=(generate - 1) * sequences / took)
    print(json.dumps(result | dict(peak_memory_bytes=(peak_kib() - baseline) * 1024)))


def ours(binary, model, threads, prompt, generate, sequences, device=("--backend", "cpu")):
    command = [binary, "bench", "--model", model, "--threads", str(threads), "--prompt", str(prompt), "--gen", str(generate)]
    output = subprocess.run([*map(str, command), "--sequences", str(sequences), *device, "--json"], check=True, capture_output=True, text=True)
    measured = json.loads(output.stdout)[0]
    measured["peak_memory_bytes"] -= measured["start_memory_bytes"]
    return measured


def best(turns):
    return {
        "prefill_tps": max(t["prefill_tps"] for t in turns),
        "decode_tps": max(t["decode_tps"] for t in turns),
        "peak_memory_bytes": min(t["peak_memory_bytes"] for t in turns),
    }


def main():
    numbers = lambda text: [int(n) for n in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--formats", type=lambda text: text.split(","), default=["q4_0", "q8_0", "q4_k"])
    parser.add_argument("--sequences", type=numbers, default=[1, 8])
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--gen", type=int, default=64)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--adapters", action="store_true")
    parser.add_argument("--output")
    parser.add_argument("--binary", default=ROOT / "target/release/firecrest")
    parser.add_argument("--peer", nargs=5, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.peer:
        return peer(a.peer[0], *map(int, a.peer[1:]))

    lines = [
        "| format | threads | sequences | prefill tok/s: ours, llama.cpp, ratio | decode tok/s: ours, llama.cpp, ratio | peak MiB: ours, llama.cpp, ratio |",
        "|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for name, model in make_models(a.formats).items():
        for threads in a.threads:
            for sequences in a.sequences:
                mine, theirs = [], []
                for _ in range(a.turns):
                    mine.append(ours(a.binary, model, threads, a.prompt, a.gen, sequences))
                    arguments = [model, threads, a.prompt, a.gen, sequences]
                    output = subprocess.run([sys.executable, __file__, "--peer", *map(str, arguments)], check=True, capture_output=True, text=True)
                    theirs.append(json.loads(output.stdout.splitlines()[-1]))
                m, t = best(mine), best(theirs)
                pair = lambda key, scale=1.0: f"{m[key] / scale:.1f}, {t[key] / scale:.1f}, **{m[key] / t[key]:.2f}**"
                line = f"| {name} | {threads} | {sequences} | {pair('prefill_tps')} | {pair('decode_tps')} | {pair('peak_memory_bytes', 2**20)} |"
                lines.append(line)
                print(line, flush=True)
    if a.adapters:
        head = ["", "| adapter | format | sequences | prefill tok/s | decode tok/s |", "|---|---|---|---|---|"]
        lines += head
        print("\n".join(head), flush=True)
        devices = json.loads(subprocess.run([a.binary, "devices", "--json"], check=True, capture_output=True, text=True).stdout)
        for device in (d for d in devices if d["backend"] == "gpu"):
            for name, model in make_models(a.formats).items():
                for sequences in a.sequences:
                    r = ours(a.binary, model, 2, 32, 8, sequences, ("--backend", "gpu", "--adapter", device["name"]))
                    line = f"| {device['name']} | {name} | {sequences} | {r['prefill_tps']:.1f} | {r['decode_tps']:.2f} |"
                    lines.append(line)
                    print(line, flush=True)
    if a.output:
        pathlib.Path(a.output).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
