// Whole weights of a chunk, four at a time.
#for J in 0..8
fn weights$J(c: Chunk) -> vec4<f32> {
    #if !SCALED
    return values$J(c);
    #end
    #if SCALED && HAS_MIN
    return fma(vec4<f32>(scale0(c)), values$J(c), vec4<f32>(-minimum(c)));
    #end
    #if SCALED && HALVES == 2 && !HAS_MIN && J > 3
    return scale1(c) * values$J(c);
    #end
    #if SCALED && HALVES == 2 && !HAS_MIN && 4 > J
    return scale0(c) * values$J(c);
    #end
    #if SCALED && HALVES == 1 && !HAS_MIN
    return scale0(c) * values$J(c);
    #end
}
#end
