// weight = d · code − 8 d, codes 0..15. See f32.wgsl for what a format module says.
#set SCALED 1
#set HALVES 1
#set HAS_MIN 1
#import "shared/quant/nibbles.wgsl"
#import "shared/quant/half_scales.wgsl"

struct Chunk {
    q: vec4<u32>,
    d: f32,
}

fn load_chunk(row: u32, chunk: u32, chunks: u32) -> Chunk {
    return Chunk(weights[params.planes.x + row * chunks + chunk], chunk_scale(row, chunk, chunks));
}

#for J in 0..8
fn codes$J(c: Chunk) -> u32 { return nibbles$J(c.q); }
fn values$J(c: Chunk) -> vec4<f32> { return vec4<f32>(unpack4xU8(codes$J(c))); }
#end
fn scale0(c: Chunk) -> f32 { return c.d; }
fn minimum(c: Chunk) -> f32 { return 8.0 * c.d; }
