// 32 four-bit codes in 16 bytes: byte i holds code i low, code i + 16 high.
#for J in 0..4
fn nibbles$J(q: vec4<u32>) -> u32 { return q[$J] & 0x0f0f0f0fu; }
fn nibbles${J+4}(q: vec4<u32>) -> u32 { return (q[$J] >> 4u) & 0x0f0f0f0fu; }
#end
