use firecrest_shaders::Kernel;
use firecrest_shaders::params::rope_pairs;
use firecrest_shaders::reference::RopeCase;
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
        cases
    });
}
