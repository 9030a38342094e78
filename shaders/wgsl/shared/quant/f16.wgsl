// 32 f16 a chunk, in pairs. See f32.wgsl for what a format module says.
#set SCALED 0
#set HALVES 1
#set HAS_MIN 0

struct Chunk {
    #for J in 0..4
    q$J: vec4<u32>,
    #end
}

fn load_chunk(row: u32, chunk: u32, chunks: u32) -> Chunk {
    let at = params.planes.x + (row * chunks + chunk) * 4u;
    return Chunk(weights[at], weights[at + 1u], weights[at + 2u], weights[at + 3u]);
}

fn halves(pair: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(pair.x), unpack2x16float(pair.y));
}

fn values0(c: Chunk) -> vec4<f32> { return halves(c.q0.xy); }
fn values1(c: Chunk) -> vec4<f32> { return halves(c.q0.zw); }
fn values2(c: Chunk) -> vec4<f32> { return halves(c.q1.xy); }
fn values3(c: Chunk) -> vec4<f32> { return halves(c.q1.zw); }
fn values4(c: Chunk) -> vec4<f32> { return halves(c.q2.xy); }
fn values5(c: Chunk) -> vec4<f32> { return halves(c.q2.zw); }
fn values6(c: Chunk) -> vec4<f32> { return halves(c.q3.xy); }
fn values7(c: Chunk) -> vec4<f32> { return halves(c.q3.zw); }
