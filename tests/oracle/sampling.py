"""llama.cpp's samplers over given logits: JSON cases on stdin, [[[id, probability], ...], ...] on stdout.

Exits with 77 where llama-cpp-python is absent.
"""

import ctypes
import json
import math
import sys

try:
    import llama_cpp as ll
except ImportError:
    sys.exit(77)


def distribution(case):
    logits = case["logits"]
    data = (ll.llama_token_data * len(logits))()
    for i, logit in enumerate(logits):
        data[i] = ll.llama_token_data(i, logit, 0.0)
    array = ll.llama_token_data_array(ctypes.cast(data, ctypes.POINTER(ll.llama_token_data)), len(logits), -1, False)
    chain = ll.llama_sampler_chain_init(ll.llama_sampler_chain_default_params())
    bias = (ll.llama_logit_bias * max(1, len(case["bias"])))(*[ll.llama_logit_bias(t, b) for t, b in case["bias"]])
    samplers = [
        ll.llama_sampler_init_logit_bias(len(logits), len(case["bias"]), bias),
        ll.llama_sampler_init_penalties(len(logits), case["last_n"], case["repeat"], case["frequency"], case["presence"]),
        ll.llama_sampler_init_top_k(case["top_k"]),
        ll.llama_sampler_init_typical(case["typical_p"], 1),
        ll.llama_sampler_init_top_p(case["top_p"], 1),
        ll.llama_sampler_init_min_p(case["min_p"], 1),
        ll.llama_sampler_init_temp(case["temperature"]),
    ]
    for sampler in samplers:
        ll.llama_sampler_chain_add(chain, sampler)
    for token in case["history"]:
        ll.llama_sampler_accept(chain, token)
    ll.llama_sampler_apply(chain, ctypes.byref(array))
    kept = [(array.data[i].id, array.data[i].logit) for i in range(array.size)]
    ll.llama_sampler_free(chain)
    largest = max(logit for _, logit in kept)
    weights = [(token, math.exp(logit - largest)) for token, logit in kept]
    total = sum(weight for _, weight in weights)
    return sorted([token, weight / total] for token, weight in weights)


json.dump([distribution(case) for case in json.load(sys.stdin)], sys.stdout)
