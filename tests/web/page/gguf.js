// Writes a Llama of random Q4_0 weights as a GGUF file, so that a test has a model whose steps take some milliseconds.

const U32 = 4, F32 = 6, STRING = 8;
const TYPE_F32 = 0, TYPE_Q4_0 = 2;
const ALIGNMENT = 32;

class Writer {
  #parts = [];
  length = 0;

  bytes(bytes) {
    this.#parts.push(bytes);
    this.length += bytes.length;
  }
  number(method, size, value) {
    const view = new DataView(new ArrayBuffer(size));
    view[method](0, value, true);
    this.bytes(new Uint8Array(view.buffer));
  }
  u32(value) { this.number('setUint32', 4, value); }
  u64(value) { this.number('setBigUint64', 8, BigInt(value)); }
  f32(value) { this.number('setFloat32', 4, value); }
  string(text) {
    const bytes = new TextEncoder().encode(text);
    this.u64(bytes.length);
    this.bytes(bytes);
  }
  pad() {
    const over = this.length % ALIGNMENT;
    if (over) this.bytes(new Uint8Array(ALIGNMENT - over));
  }
  finish() {
    const all = new Uint8Array(this.length);
    let at = 0;
    for (const part of this.#parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
}

// Blocks of 32 weights: an f16 scale of 2^-7 and 32 nibbles. Marsaglia's xorshift fills the nibbles.
function q4_0(elements, seed) {
  const blocks = new Uint8Array((elements / 32) * 18);
  let x = seed | 1;
  for (let at = 0; at < blocks.length; at += 18) {
    blocks[at] = 0x00;
    blocks[at + 1] = 0x20;
    for (let i = 2; i < 18; i += 1) {
      x ^= x << 13;
      x ^= x >>> 17;
      x ^= x << 5;
      blocks[at + i] = x & 0xff;
    }
  }
  return blocks;
}

export function randomLlama({ width, layers, heads, kvHeads, feedForward, vocab, context }) {
  const kvWidth = (width / heads) * kvHeads;
  const tensors = [];
  const matrix = (name, rows, columns) =>
    tensors.push({ name, shape: [columns, rows], type: TYPE_Q4_0, data: q4_0(rows * columns, 7919 * (tensors.length + 1)) });
  const gain = (name) =>
    tensors.push({ name, shape: [width], type: TYPE_F32, data: new Uint8Array(new Float32Array(width).fill(1).buffer) });
  matrix('token_embd.weight', vocab, width);
  for (let layer = 0; layer < layers; layer += 1) {
    const at = `blk.${layer}.`;
    gain(`${at}attn_norm.weight`);
    matrix(`${at}attn_q.weight`, width, width);
    matrix(`${at}attn_k.weight`, kvWidth, width);
    matrix(`${at}attn_v.weight`, kvWidth, width);
    matrix(`${at}attn_output.weight`, width, width);
    gain(`${at}ffn_norm.weight`);
    matrix(`${at}ffn_gate.weight`, feedForward, width);
    matrix(`${at}ffn_up.weight`, feedForward, width);
    matrix(`${at}ffn_down.weight`, width, feedForward);
  }
  gain('output_norm.weight');

  const metadata = [
    ['general.architecture', STRING, 'llama'],
    ['llama.vocab_size', U32, vocab],
    ['llama.context_length', U32, context],
    ['llama.embedding_length', U32, width],
    ['llama.block_count', U32, layers],
    ['llama.feed_forward_length', U32, feedForward],
    ['llama.attention.head_count', U32, heads],
    ['llama.attention.head_count_kv', U32, kvHeads],
    ['llama.attention.layer_norm_rms_epsilon', F32, 1e-5],
    ['llama.rope.dimension_count', U32, width / heads],
  ];
  const writer = new Writer();
  writer.bytes(new TextEncoder().encode('GGUF'));
  writer.u32(3);
  writer.u64(tensors.length);
  writer.u64(metadata.length);
  for (const [key, type, value] of metadata) {
    writer.string(key);
    writer.u32(type);
    if (type === STRING) writer.string(value);
    else if (type === F32) writer.f32(value);
    else writer.u32(value);
  }
  let offset = 0;
  for (const { name, shape, type, data } of tensors) {
    writer.string(name);
    writer.u32(shape.length);
    for (const length of shape) writer.u64(length);
    writer.u32(type);
    writer.u64(offset);
    offset += Math.ceil(data.length / ALIGNMENT) * ALIGNMENT;
  }
  for (const { data } of tensors) {
    writer.pad();
    writer.bytes(data);
  }
  return writer.finish();
}
