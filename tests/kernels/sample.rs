use firecrest_shaders::Kernel;
use firecrest_shaders::params::DrawInfo;
use firecrest_shaders::reference::SampleCase;
use firecrest_tests::kernel_runner::check_all;

#[test]
fn sample() {
    check_all(Kernel::Sample, |variant| {
        let mut cases = Vec::new();
        for vocab in [1, 2, 255, 256, 257, 1000, 4097] {
            let plain = SampleCase::plain(vocab, 3);
            let with = |draw: DrawInfo| SampleCase { draw, ..plain };
            let settings = [
                plain.draw,
                DrawInfo { temperature: 0.0, ..plain.draw },
                DrawInfo { temperature: 1e-4, ..plain.draw },
                DrawInfo { temperature: 1.5, ..plain.draw },
                DrawInfo { top_k: 1, ..plain.draw },
                DrawInfo { top_k: 40, ..plain.draw },
                DrawInfo { top_k: vocab, ..plain.draw },
                DrawInfo { top_p: 0.95, temperature: 1.5, ..plain.draw },
                DrawInfo { top_p: 1e-6, ..plain.draw },
                DrawInfo { min_p: 0.05, ..plain.draw },
                DrawInfo { min_p: 1.0, ..plain.draw },
                DrawInfo { typical_p: 0.9, ..plain.draw },
                DrawInfo { typical_p: 0.5, temperature: 0.0, ..plain.draw },
                // No share of the whole is exactly where a filter cuts.
                DrawInfo { top_k: 101, typical_p: 0.9, top_p: 0.9, min_p: 0.02, temperature: 0.7, ..plain.draw },
            ];
            for draw in settings {
                cases.push(with(draw).case(variant));
                cases.push(SampleCase { ties: true, spread: 4.0, ..with(draw) }.case(variant));
                cases.push(SampleCase { allowed: 0.3, adjustments: 20, first_draw: 2, ..with(draw) }.case(variant));
            }
            let penalties = DrawInfo { repeat: 1.3, presence: 0.4, frequency: 0.2, ..plain.draw };
            for in_flight in [0, 1, 3] {
                for adjustments in [0, 1, 300] {
                    cases.push(SampleCase { in_flight, adjustments, ..with(penalties) }.case(variant));
                }
            }
            cases.push(SampleCase { fault: true, ..plain }.case(variant));
            cases.push(SampleCase { adjustments: vocab, ..with(penalties) }.case(variant));
        }
        // Wider than 256 columns of 256.
        cases.push(SampleCase::plain(128_256, 2).case(variant));
        let wide = SampleCase { spread: 12.0, ..SampleCase::plain(128_256, 1) };
        let filters = DrawInfo { top_k: 5000, typical_p: 0.98, top_p: 0.95, min_p: 1e-4, temperature: 1.5, ..wide.draw };
        cases.push(SampleCase { draw: filters, ..wide }.case(variant));
        cases
    });
}
