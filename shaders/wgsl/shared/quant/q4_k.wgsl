// weight = d·sc · code − dmin·m, codes 0..15, six-bit sc and m a chunk. See f32.wgsl for what a format module says.
#set SCALED 1
#set HALVES 1
#set HAS_MIN 1
#import "shared/quant/nibbles.wgsl"

struct Chunk {
    q: vec4<u32>,
    d: f32,
    m: f32,
}

fn load_chunk(row: u32, chunk: u32, chunks: u32) -> Chunk {
    // d | dmin, low bits of the scales, low bits of the minima, high bits of both: planes.rs.
    let head = weights[params.planes.z + row * (chunks >> 3u) + (chunk >> 3u)];
    let g = chunk & 7u;
    let d = unpack2x16float(head.x);
    let sc = extractBits(head.y, 4u * g, 4u) | (extractBits(head.w, 2u * g, 2u) << 4u);
    let m = extractBits(head.z, 4u * g, 4u) | (extractBits(head.w, 16u + 2u * g, 2u) << 4u);
    return Chunk(weights[params.planes.x + row * chunks + chunk], d.x * f32(sc), d.y * f32(m));
}

#for J in 0..8
fn codes$J(c: Chunk) -> u32 { return nibbles$J(c.q); }
fn values$J(c: Chunk) -> vec4<f32> { return vec4<f32>(unpack4xU8(codes$J(c))); }
#end
fn scale0(c: Chunk) -> f32 { return c.d; }
fn minimum(c: Chunk) -> f32 { return c.m; }
