// weight = d · code, codes −128..127. See f32.wgsl for what a format module says.
#set SCALED 1
#set HALVES 1
#set HAS_MIN 0
#import "shared/quant/half_scales.wgsl"

struct Chunk {
    low: vec4<u32>,
    high: vec4<u32>,
    d: f32,
}

fn load_chunk(row: u32, chunk: u32, chunks: u32) -> Chunk {
    let at = params.planes.x + (row * chunks + chunk) * 2u;
    return Chunk(weights[at], weights[at + 1u], chunk_scale(row, chunk, chunks));
}

#for J in 0..4
fn codes$J(c: Chunk) -> u32 { return c.low[$J]; }
fn codes${J+4}(c: Chunk) -> u32 { return c.high[$J]; }
#end
#for J in 0..8
fn values$J(c: Chunk) -> vec4<f32> { return vec4<f32>(unpack4xI8(codes$J(c))); }
#end
fn scale0(c: Chunk) -> f32 { return c.d; }
