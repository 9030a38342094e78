"""Writes what a GGUF's blocks mean as F32 (`wide.gguf`), and llama.cpp's logits of every token (`llama.f32`), into a folder.

    python truth.py MODEL FOLDER 1,2,3
"""

import pathlib
import sys

import gguf
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "oracle"))
import llama_run


def widen(source, target):
    reader = gguf.GGUFReader(source)
    arch = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, arch)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type", "general.quantization_version"):
            continue
        kind = field.types[0]
        writer.add_key_value(key, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.ascontiguousarray(gguf.quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    model, folder, tokens = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), [int(id) for id in sys.argv[3].split(",")]
    folder.mkdir(parents=True, exist_ok=True)
    widen(model, folder / "wide.gguf")
    session = llama_run.Session(model, 512, plain_kernels=False)
    session.decode(tokens, 0)
    session.logits(len(tokens)).astype(np.float32).tofile(folder / "llama.f32")
    session.close()


main()
