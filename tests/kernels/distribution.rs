//! Draws by the thousand against the distribution that the host's float64 sampler states, by Pearson's chi-square.

use bytemuck::cast_slice;
use firecrest_engine::sampling::{Sampler, Sampling};
use firecrest_shaders::params::{DROPPED, DrawInfo, NO_CELL, SampleParams};
use firecrest_shaders::reference::{Case, Random};
use firecrest_shaders::{Kernel, TABLE};
use firecrest_tests::kernel_runner::{Runner, runners};

/// Draws of one dispatch from each of `rows` equal rows: where nothing is ruled out rows are only read, and may be shared.
fn case(logits: &[f32], rows: u32, each: u32, sampling: &Sampling, first_position: u32) -> Case {
    let variant = TABLE.iter().find(|variant| variant.kernel == Kernel::Sample).expect("a row draws");
    let vocab = logits.len() as u32;
    let draws: Vec<DrawInfo> = (0..rows * each)
        .map(|d| DrawInfo {
            output: d / each,
            ring: NO_CELL,
            // Its random numbers' key, with the seed.
            position: first_position + d,
            mask: NO_CELL,
            seed_low: 77,
            seed_high: 5,
            top_k: sampling.top_k,
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            typical_p: sampling.typical_p,
            repeat: 1.0,
            ..DrawInfo::default()
        })
        .collect();
    let params = SampleParams { vocab, draws: rows * each, first_draw: 0, pad: 0 };
    let all: Vec<f32> = logits.iter().copied().cycle().take((vocab * rows) as usize).collect();
    let words = |bytes: &[u8]| cast_slice::<u8, u32>(bytes).to_vec();
    let buffers = vec![
        words(bytemuck::bytes_of(&params)),
        words(cast_slice(&draws)),
        vec![0; 16],
        vec![0; 16],
        words(cast_slice(&all)),
        vec![0; 16],
        vec![0; (rows * each) as usize],
    ];
    let overrides = vec![("FILTERS", f64::from(u32::from(draws[0].filters())))];
    Case { what: "draws".into(), variant, overrides, grid: [rows * each, 1, 1], buffers }
}

/// Pearson's statistic over tokens, rare ones by the bin, in standard deviations above what chance gives.
fn surprise(counts: &[u32], probabilities: &[(u32, f64)], draws: u32) -> f64 {
    let (mut statistic, mut bins) = (0.0, 0);
    let (mut expected, mut seen) = (0.0, 0);
    for &(id, probability) in probabilities {
        expected += probability * f64::from(draws);
        seen += counts[id as usize];
        if expected >= 10.0 {
            statistic += (f64::from(seen) - expected).powi(2) / expected;
            bins += 1;
            (expected, seen) = (0.0, 0);
        }
    }
    let freedom = f64::from(bins - 1).max(1.0);
    (statistic - freedom) / (2.0 * freedom).sqrt()
}

fn judge(runner: &mut Runner, logits: &[f32], sampling: &Sampling, draws: u32) {
    let probabilities = Sampler::new().distribution(logits, sampling, &[]).expect("a distribution");
    let mut left = logits.to_vec();
    let mut settings = sampling.clone();
    let filters = case(logits, 1, 1, sampling, 0).overrides[0].1 == 1.0;
    if filters && draws > MOST_FILTERED {
        // What filters leave does not depend on the draw: they run once, and the rest draws from what they left.
        let results = runner.run(&case(logits, 1, 1, sampling, 0));
        left = cast_slice(&results[0].1[..logits.len()]).to_vec();
        let kept: Vec<u32> = (0..).zip(&left).filter(|(_, v)| **v != DROPPED).map(|(id, _)| id).collect();
        let wanted: Vec<u32> = probabilities.iter().map(|(id, _)| *id).collect();
        assert_eq!(kept, wanted, "{}: {sampling:?}: what filters keep", runner.name);
        settings = Sampling { seed: sampling.seed, temperature: sampling.temperature, ..Sampling::default() };
    }
    let shared = !filters || draws > MOST_FILTERED;
    let (rows, each) = if shared { (1, draws.min(10_000)) } else { (draws.min(500).min(BOUND_VALUES / logits.len() as u32), 1) };
    let mut counts = vec![0u32; logits.len()];
    let mut done = 0;
    while done < draws {
        let results = runner.run(&case(&left, rows, each, &settings, done));
        for &token in &results.last().expect("what was drawn").1 {
            counts[token as usize] += 1;
        }
        done += rows * each;
    }
    let possible: u32 = probabilities.iter().map(|(id, _)| counts[*id as usize]).sum();
    assert_eq!(possible, done, "{}: {sampling:?}: tokens were drawn that filters rule out", runner.name);
    let sigma = surprise(&counts, &probabilities, done);
    println!("{}: {done} draws of {} tokens, {} possible: {sigma:+.2} sigma", runner.name, logits.len(), probabilities.len());
    // Once in a million by chance, and the seed is fixed.
    assert!(sigma < 5.0, "{}: {sampling:?}: {sigma} sigma", runner.name);
}

/// Draws that run their filters each, of which a processor does some hundreds a second.
const MOST_FILTERED: u32 = 4000;

/// Values of the largest binding that every adapter takes: WebGPU's default limit of 128 MiB.
const BOUND_VALUES: u32 = (128 << 20) / 4;

#[test]
fn draws_follow_the_distribution() {
    let full = firecrest_tests::full();
    for mut runner in runners("draws' distribution") {
        let swift = runner.name.contains("SwiftShader");
        for vocab in [300, 4096, 128_256] {
            let mut random = Random::new(vocab);
            // Something like a model's: a few likely, a long tail.
            let logits: Vec<f32> = (0..vocab).map(|_| random.value() * 4.0 + (random.value() + random.value()).powi(3) * 2.0).collect();
            let plain = Sampling::default();
            let settings = [
                plain.clone(),
                Sampling { temperature: 1.5, ..plain.clone() },
                Sampling { temperature: 1.5, top_p: 0.95, ..plain.clone() },
                Sampling { top_k: 40, ..plain.clone() },
                Sampling { min_p: 0.1, temperature: 0.7, ..plain.clone() },
                Sampling { typical_p: 0.9, ..plain.clone() },
                Sampling { top_k: 200, typical_p: 0.95, top_p: 0.9, min_p: 0.01, temperature: 1.2, ..plain },
            ];
            for sampling in &settings {
                match (vocab, swift) {
                    (300, false) => {
                        judge(&mut runner, &logits, sampling, if full { MOST_FILTERED } else { 1000 });
                        judge(&mut runner, &logits, sampling, 100_000);
                    }
                    (300, true) => judge(&mut runner, &logits, sampling, 500),
                    (4096, false) => judge(&mut runner, &logits, sampling, if full { 100_000 } else { 10_000 }),
                    (_, false) if full => judge(&mut runner, &logits, sampling, 100_000),
                    (_, false) => judge(&mut runner, &logits, sampling, 1000),
                    (_, true) if full => judge(&mut runner, &logits, sampling, 5000),
                    _ => {}
                }
            }
        }
    }
}
