"""Writes a trained checkpoint as a GGUF file: matrices in one format, norms in F32, tokenizer and chat template in the metadata.

    python export.py --from FOLDER --to ../chat.gguf [--format Q8_0]
"""

import argparse
from pathlib import Path

import gguf
import numpy
import torch

from model import Config
from tokenizer import CONTROL, Tokenizer

# ChatML. Whatever follows the last message is the assistant's.
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--format", default="Q8_0", choices=["F32", "F16", "Q8_0", "Q4_0"])
    options = parser.parse_args()

    saved = torch.load(options.source / "model.pt", map_location="cpu")
    config = Config(**saved["config"])
    tokenizer = Tokenizer.load(options.source / "merges.json")
    format = gguf.GGMLQuantizationType[options.format]
    file_type = {"F32": "ALL_F32", "F16": "MOSTLY_F16", "Q8_0": "MOSTLY_Q8_0", "Q4_0": "MOSTLY_Q4_0"}[options.format]

    writer = gguf.GGUFWriter(options.to, "llama")
    writer.add_name("Firecrest Chat")
    writer.add_description("A very small chat model that tells children's stories, trained from scratch")
    writer.add_license("MIT OR Apache-2.0")
    writer.add_file_type(gguf.LlamaFileType[file_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.feed_forward)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_rope_dimension_count(config.head_width)
    writer.add_rope_freq_base(config.rope_base)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokenizer.tokens)
    ordinary = len(tokenizer.tokens) - len(CONTROL)
    writer.add_token_types([gguf.TokenType.NORMAL] * ordinary + [gguf.TokenType.CONTROL] * len(CONTROL))
    writer.add_token_merges([f"{a} {b}" for a, b in tokenizer.merges])
    writer.add_bos_token_id(tokenizer.document)
    writer.add_eos_token_id(tokenizer.end)
    writer.add_eot_token_id(tokenizer.end)
    writer.add_pad_token_id(tokenizer.document)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(TEMPLATE)
    # The network uses GGUF's names for its parameters.
    for name, weight in saved["weights"].items():
        values = weight.float().numpy().astype(numpy.float32)
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, format), raw_dtype=format)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{options.to}: {options.to.stat().st_size} bytes, {saved['record']}")


if __name__ == "__main__":
    main()
