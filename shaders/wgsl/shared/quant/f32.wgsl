// 32 f32 a chunk. A format module says how a chunk of 32 weights is loaded and what it holds:
//   SCALED 0: values$J are the weights. SCALED 1: weight = scale · value − minimum, codes$J the values as four packed i8.
//   HALVES: scales a chunk. HAS_MIN: whether there are minima.
// Modules read `weights`, `words` and `params.planes`, which the kernel declares.
#set SCALED 0
#set HALVES 1
#set HAS_MIN 0

struct Chunk {
    #for J in 0..8
    v$J: vec4<f32>,
    #end
}

fn load_chunk(row: u32, chunk: u32, chunks: u32) -> Chunk {
    let at = params.planes.x + (row * chunks + chunk) * 8u;
    return Chunk(
        #for J in 0..8
        bitcast<vec4<f32>>(weights[at + $Ju]),
        #end
    );
}

#for J in 0..8
fn values$J(c: Chunk) -> vec4<f32> { return c.v$J; }
#end
