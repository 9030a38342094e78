// weight = d·sc · code, codes −32..31, signed sc for each 16. See f32.wgsl for what a format module says.
#set SCALED 1
#set HALVES 2
#set HAS_MIN 0
#import "shared/quant/nibbles.wgsl"

struct Chunk {
    q: vec4<u32>,
    high: vec2<u32>,
    d: vec2<f32>,
}

fn load_chunk(row: u32, chunk: u32, chunks: u32) -> Chunk {
    let high = params.planes.y * 4u + (row * chunks + chunk) * 2u;
    // Two i8 a chunk, two chunks a word.
    let sc = bitcast<i32>(words[params.planes.z * 4u + ((row * chunks + chunk) >> 1u)]);
    let shift = (chunk & 1u) * 16u;
    let block = chunk >> 3u;
    let pair = unpack2x16float(words[params.planes.w * 4u + row * (((chunks >> 3u) + 1u) >> 1u) + (block >> 1u)]);
    let d = select(pair.x, pair.y, (block & 1u) == 1u);
    return Chunk(
        weights[params.planes.x + row * chunks + chunk],
        vec2<u32>(words[high], words[high + 1u]),
        d * vec2<f32>(f32(extractBits(sc, shift, 8u)), f32(extractBits(sc, shift + 8u, 8u))),
    );
}

// Six-bit codes less 32, in each byte: setting the top bit keeps borrows inside, flipping it back leaves two's complement.
fn signed(code: u32) -> u32 {
    return ((code | 0x80808080u) - 0x20202020u) ^ 0x80808080u;
}

#for J in 0..4
fn codes$J(c: Chunk) -> u32 { return signed(nibbles$J(c.q) | (((c.high.x >> (2u * $Ju)) & 0x03030303u) << 4u)); }
fn codes${J+4}(c: Chunk) -> u32 { return signed(nibbles${J+4}(c.q) | (((c.high.y >> (2u * $Ju)) & 0x03030303u) << 4u)); }
#end
#for J in 0..8
fn values$J(c: Chunk) -> vec4<f32> { return vec4<f32>(unpack4xI8(codes$J(c))); }
#end
fn scale0(c: Chunk) -> f32 { return c.d.x; }
fn scale1(c: Chunk) -> f32 { return c.d.y; }
