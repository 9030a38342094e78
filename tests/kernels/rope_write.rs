use firecrest_shaders::params::rope_pairs;
use firecrest_shaders::reference::RopeCase;
use firecrest_shaders::{Kernel, KvFormat};
use firecrest_tests::kernel_runner::check_all;

#[test]
fn rope_write() {
    check_all(Kernel::RopeWrite, |variant| {
        let base = RopeCase {
            heads: 3,
            kv_heads: 1,
            head_dim: 64,
            rotated: 64,
            pairs: rope_pairs::HALVES,
            qk_norm: false,
            rows: 5,
            first_row: 0,
            position: 0,
            magnitude: 1.0,
        };
        let mut cases = Vec::new();
        for pairs in [rope_pairs::NONE, rope_pairs::ADJACENT, rope_pairs::HALVES] {
            for qk_norm in [false, true] {
                // Heads of odd multiples of 2 pad their pages; 256 is the widest; some rotate in part (phi3).
                for (head_dim, rotated) in [(8, 8), (64, 64), (80, 32), (100, 100), (102, 96), (256, 256)] {
                    cases.push(RopeCase { pairs, qk_norm, head_dim, rotated, kv_heads: 2, heads: 4, ..base }.case(variant));
                }
            }
        }
        // Far positions: the angle is 10^5 radians.
        cases.extend([100, 4095, 100_000].map(|position| RopeCase { position, first_row: 2, magnitude: 1.19, ..base }.case(variant)));
        // Heads of codes that are nothing, nearly nothing, and more than a scale can say: K of row 0, V of rows 1 to 3. f16 says no more
        // than that large ones are infinite.
        if variant.kv == Some(KvFormat::Int8) {
            let mut case = RopeCase { pairs: rope_pairs::NONE, kv_heads: 2, ..base }.case(variant);
            let (stride, heads) = (case.buffers[0][4] as usize, 3);
            for (row, head, factor) in [(0, heads, 0.0f32), (1, heads + 2, 1e-9), (2, heads + 3, 1e-5), (3, heads + 2, 1e12)] {
                for value in &mut case.buffers[6][row * stride + head * 64..][..64] {
                    *value = (f32::from_bits(*value) * factor).to_bits();
                }
            }
            cases.push(case);
        }
        cases
    });
}
