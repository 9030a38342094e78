"""llama.cpp's answers with a LoRA adapter: logits of every row of a prompt, in one decode. Arguments: base, adapter, strength, tokens (1,2,3), output."""

import ctypes
import sys
from pathlib import Path

import llama_cpp as api

from llama_run import Session

base, adapter, strength, tokens, output = sys.argv[1:]
tokens = [int(token) for token in tokens.split(",")]
session = Session(Path(base), 256)
handle = api.llama_adapter_lora_init(session.model, adapter.encode())
if not handle:
    raise RuntimeError(f"llama.cpp could not load {adapter}")
handles = (api.llama_adapter_lora_p_ctypes * 1)(handle)
if api.llama_set_adapters_lora(session.context, handles, 1, (ctypes.c_float * 1)(float(strength))) != 0:
    raise RuntimeError("llama.cpp did not take the adapter")
session.decode(tokens, 0)
Path(output).write_bytes(session.logits(len(tokens)).astype("<f4").tobytes())
