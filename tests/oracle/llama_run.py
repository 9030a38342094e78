"""llama.cpp through its C API: quantise a file, greedy continuation with logits of every row, pooled embeddings."""

import ctypes
import sys
from pathlib import Path

import llama_cpp as api
import numpy as np


@api.llama_log_callback
def _quiet(level, text, user_data):
    if level >= 4:  # errors only
        print(text.decode(errors="replace"), end="")


api.llama_log_set(_quiet, ctypes.c_void_p(0))
api.llama_backend_init()


def quantise(source: Path, target: Path, file_type: int, pure: bool) -> None:
    params = api.llama_model_quantize_default_params()
    params.ftype = file_type
    params.nthread = 1
    params.pure = pure
    if api.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)) != 0:
        raise RuntimeError(f"llama.cpp could not quantise {source} to file type {file_type}")


class Session:
    """A model and a context: f16 KV cache, no flash attention (which would add f16 sums of its own), one thread, ggml's plain kernels
    unless asked otherwise (the others differ by processor)."""

    def __init__(self, path: Path, context: int, pooling=None, plain_kernels=True):
        loading = api.llama_model_default_params()
        loading.use_extra_bufts = not plain_kernels
        self.model = api.llama_model_load_from_file(str(path).encode(), loading)
        if not self.model:
            raise RuntimeError(f"llama.cpp could not load {path}")
        params = api.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = context
        params.n_threads = params.n_threads_batch = 1
        params.flash_attn_type = 0
        if pooling is not None:
            params.embeddings = True
            params.pooling_type = pooling
        self.context = api.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError(f"llama.cpp could not make a context for {path}")
        self.batch = api.llama_batch_init(context, 0, 1)

    def close(self):
        api.llama_batch_free(self.batch)
        api.llama_free(self.context)
        api.llama_model_free(self.model)

    def decode(self, tokens, first_position):
        batch = self.batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = first_position + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = 1
        if api.llama_decode(self.context, batch) != 0:
            raise RuntimeError("llama_decode failed")

    def logits(self, rows):
        vocab = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.model))
        return np.stack([np.ctypeslib.as_array(api.llama_get_logits_ith(self.context, i), (vocab,)).copy() for i in range(rows)])


def greedy(path: Path, prompt: list, count: int, context: int):
    """Ids of the greedy continuation, and logits of the prompt's rows and of every continued row."""
    session = Session(path, context)
    session.decode(prompt, 0)
    rows = [session.logits(len(prompt))]
    ids = [int(rows[-1][-1].argmax())]
    for step in range(count - 1):
        session.decode([ids[-1]], len(prompt) + step)
        rows.append(session.logits(1))
        ids.append(int(rows[-1][-1].argmax()))
    session.close()
    return ids, np.concatenate(rows)


def embedding(path: Path, tokens: list, context: int, pooling: int):
    """The pooled embedding, not normalised."""
    session = Session(path, context, pooling)
    session.decode(tokens, 0)
    dim = api.llama_model_n_embd(session.model)
    values = np.ctypeslib.as_array(api.llama_get_embeddings_seq(session.context, 0), (dim,)).copy()
    session.close()
    return values


if __name__ == "__main__":
    # `cargo xtask setup --oracles`: does this build run here? Its AMX kernels crash where a hypervisor shows AMX and does not let it run.
    trial = Session(Path(sys.argv[1]), 256, plain_kernels=False)
    trial.decode([1] * 64, 0)
    trial.close()
