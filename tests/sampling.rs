//! Sampling: cases computed by hand, a float64 reference that sorts everything, chi-square over draws, and llama.cpp's samplers.

use std::io::Write;
use std::process::{Command, Stdio};

use firecrest_engine::ErrorCode;
use firecrest_engine::sampling::{Sampler, Sampling};
use firecrest_tests::{oracle, skip};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Logits of a distribution over four tokens.
fn halves() -> Vec<f32> {
    [0.5f32, 0.25, 0.125, 0.125].map(f32::ln).to_vec()
}

/// What is drawn from, as (id, probability).
fn distribution(logits: &[f32], sampling: &Sampling) -> Vec<(u32, f64)> {
    Sampler::new().distribution(logits, sampling, &[]).unwrap()
}

#[track_caller]
fn same(left: &[(u32, f64)], right: &[(u32, f64)], within: f64) {
    let close = left.len() == right.len() && left.iter().zip(right).all(|(l, r)| l.0 == r.0 && (l.1 - r.1).abs() <= within);
    assert!(close, "{left:?} is not {right:?}");
}

#[test]
fn filters_by_hand() {
    let default = Sampling::default;
    let all = [(0, 0.5), (1, 0.25), (2, 0.125), (3, 0.125)];
    let two = [(0, 2.0 / 3.0), (1, 1.0 / 3.0)];
    let cases = [
        (default(), &all[..]),
        (Sampling { top_k: 2, ..default() }, &two[..]),
        // Ties: the lowest id stays.
        (Sampling { top_k: 3, ..default() }, &[(0, 4.0 / 7.0), (1, 2.0 / 7.0), (2, 1.0 / 7.0)][..]),
        (Sampling { top_k: 9, ..default() }, &all[..]),
        (Sampling { top_p: 0.49, ..default() }, &[(0, 1.0)][..]),
        (Sampling { top_p: 0.51, ..default() }, &two[..]),
        (Sampling { min_p: 0.4, ..default() }, &two[..]),
        (Sampling { min_p: 1.0, ..default() }, &[(0, 1.0)][..]),
        // The entropy is 1.213 nats; surprises are 0.693, 1.386, 2.079, 2.079, so token 1 is the most typical, then 0.
        (Sampling { typical_p: 0.2, ..default() }, &[(1, 1.0)][..]),
        (Sampling { typical_p: 0.5, ..default() }, &two[..]),
        // Top-k renormalises before top-p looks: 2/3 reaches 0.6.
        (Sampling { top_k: 2, top_p: 0.6, ..default() }, &[(0, 1.0)][..]),
        // Temperature is last: filters saw 0.5 and 0.25, whatever it makes of them.
        (Sampling { top_p: 0.51, temperature: 0.5, ..default() }, &[(0, 0.8), (1, 0.2)][..]),
        (Sampling { temperature: 0.0, ..default() }, &[(0, 1.0)][..]),
        (Sampling { temperature: 0.0, typical_p: 0.2, ..default() }, &[(1, 1.0)][..]),
        (Sampling { logit_bias: vec![(0, f32::NEG_INFINITY)], ..default() }, &[(1, 0.5), (2, 0.25), (3, 0.25)][..]),
        (
            Sampling { logit_bias: vec![(2, 8.0f32.ln())], ..default() },
            &[(0, 4.0 / 15.0), (1, 2.0 / 15.0), (2, 8.0 / 15.0), (3, 1.0 / 15.0)][..],
        ),
        (Sampling { logit_bias: vec![(3, 3.0e38), (3, 3.0e38)], ..default() }, &[(0, 0.0), (1, 0.0), (2, 0.0), (3, 1.0)][..]),
    ];
    for (sampling, expected) in cases {
        sampling.check(4).unwrap();
        same(&distribution(&halves(), &sampling), expected, 1e-6);
    }
}

#[test]
fn penalties_by_hand() {
    let sampling =
        Sampling { repeat_penalty: 2.0, frequency_penalty: 0.5, presence_penalty: 0.25, penalty_last_n: Some(3), ..Sampling::default() };
    // Token 2 is further back than the last three.
    let history = [2, 0, 1, 0];
    let penalised: [f64; 3] = [2.0 / 2.0 - 2.0 * 0.5 - 0.25, -2.0 * 2.0 - 0.5 - 0.25, 1.0];
    let total: f64 = penalised.iter().map(|l| l.exp()).sum();
    let expected: Vec<_> = penalised.iter().zip(0..).map(|(l, id)| (id, l.exp() / total)).collect();
    let mut sampler = Sampler::new();
    same(&sampler.distribution(&[2.0, -2.0, 1.0], &sampling, &history).unwrap(), &expected, 1e-7);
    let none = Sampling { penalty_last_n: Some(0), ..sampling };
    let plain = sampler.distribution(&[2.0, -2.0, 1.0], &Sampling::default(), &history).unwrap();
    same(&sampler.distribution(&[2.0, -2.0, 1.0], &none, &history).unwrap(), &plain, 0.0);
}

#[test]
fn greedy_takes_the_lowest_of_equals() {
    let mut sampler = Sampler::new();
    for (logits, id) in [(&[1.0, 3.0, 3.0, 2.0][..], 1), (&[-0.0, 0.0], 0), (&[-5.0], 0)] {
        assert_eq!(sampler.sample(logits, &Sampling::greedy(), &[], None).unwrap(), id);
    }
}

#[test]
fn a_draw_depends_on_seed_and_position_only() {
    let logits: Vec<f32> = (0..100).map(|i| (i as f32 * 0.7).sin()).collect();
    let sampling = Sampling { seed: 42, ..Sampling::default() };
    let history: Vec<u32> = (0..64).collect();
    let draw = |sampler: &mut Sampler, n: usize| sampler.sample(&logits, &sampling, &history[..n], None).unwrap();
    let mut one = Sampler::new();
    let forward: Vec<u32> = (0..64).map(|n| draw(&mut one, n)).collect();
    let backward: Vec<u32> = (0..64).rev().map(|n| draw(&mut Sampler::new(), n)).collect();
    assert!(forward.iter().eq(backward.iter().rev()));
    let other = Sampling { seed: 43, ..sampling.clone() };
    let differs = (0..64).any(|n| one.sample(&logits, &other, &history[..n], None).unwrap() != forward[n]);
    assert!(differs);
}

#[test]
fn logprobs_are_of_the_raw_distribution() {
    let logprobs = Sampler::new().logprobs(&halves(), 2, 3);
    assert!((logprobs.chosen - 0.125f32.ln()).abs() < 1e-6);
    assert_eq!(logprobs.top.iter().map(|t| t.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert!((logprobs.top[1].1 - 0.25f32.ln()).abs() < 1e-6);
    assert!(Sampler::new().logprobs(&halves(), 0, 0).top.is_empty());
}

#[test]
fn broken_logits_and_settings_are_errors() {
    let mut sampler = Sampler::new();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = sampler.sample(&[0.0, bad], &Sampling::default(), &[7], None).unwrap_err();
        assert!(error.message().contains("token 1 at position 0"), "{error}");
    }
    let forbid = Sampling { logit_bias: vec![(0, f32::NEG_INFINITY)], ..Sampling::default() };
    assert_eq!(sampler.sample(&[0.0], &forbid, &[], None).unwrap_err().code(), ErrorCode::Request);
    let default = Sampling::default;
    let refused = [
        Sampling { temperature: -1.0, ..default() },
        Sampling { temperature: f32::NAN, ..default() },
        Sampling { top_p: 0.0, ..default() },
        Sampling { top_p: 1.5, ..default() },
        Sampling { min_p: -0.1, ..default() },
        Sampling { typical_p: 0.0, ..default() },
        Sampling { repeat_penalty: 0.0, ..default() },
        Sampling { presence_penalty: f32::INFINITY, ..default() },
        Sampling { logit_bias: vec![(4, 0.0)], ..default() },
        Sampling { logit_bias: vec![(0, f32::NAN)], ..default() },
    ];
    for sampling in refused {
        assert_eq!(sampling.check(4).unwrap_err().code(), ErrorCode::Request, "{sampling:?}");
    }
}

/// The same definitions with full sorts in float64.
fn reference(logits: &[f32], sampling: &Sampling) -> Vec<(u32, f64)> {
    let mut kept: Vec<(u32, f64)> = logits.iter().zip(0..).map(|(&l, id)| (id, f64::from(l))).collect();
    let softmax = |kept: &[(u32, f64)], temperature: f64| -> Vec<f64> {
        let max = kept.iter().map(|c| c.1).fold(f64::MIN, f64::max);
        let exp: Vec<f64> = kept.iter().map(|c| ((c.1 - max) / temperature).exp()).collect();
        let sum: f64 = exp.iter().sum();
        exp.iter().map(|e| e / sum).collect()
    };
    let descending = |kept: &mut Vec<(u32, f64)>| kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    descending(&mut kept);
    if sampling.top_k > 0 {
        kept.truncate(sampling.top_k as usize);
    }
    if sampling.typical_p < 1.0 {
        let p = softmax(&kept, 1.0);
        let entropy: f64 = p.iter().map(|p| -p * p.ln()).sum();
        let mut order: Vec<usize> = (0..kept.len()).collect();
        order.sort_by(|&a, &b| (-p[a].ln() - entropy).abs().total_cmp(&(-p[b].ln() - entropy).abs()).then(kept[a].0.cmp(&kept[b].0)));
        let mut mass = 0.0;
        let mut typical = Vec::new();
        for i in order {
            typical.push(kept[i]);
            mass += p[i];
            if mass > f64::from(sampling.typical_p) {
                break;
            }
        }
        kept = typical;
        descending(&mut kept);
    }
    if sampling.top_p < 1.0 {
        let mut mass = 0.0;
        let enough = softmax(&kept, 1.0).iter().position(|p| {
            mass += p;
            mass >= f64::from(sampling.top_p)
        });
        kept.truncate(enough.map_or(kept.len(), |i| i + 1));
    }
    if sampling.min_p > 0.0 {
        let least = kept[0].1 + f64::from(sampling.min_p).ln();
        kept.retain(|c| c.1 >= least);
    }
    let p = softmax(&kept, f64::from(sampling.temperature));
    let mut kept: Vec<_> = kept.iter().zip(p).map(|(c, p)| (c.0, p)).collect();
    kept.sort_by_key(|c| c.0);
    kept
}

fn settings() -> impl Strategy<Value = Sampling> {
    let off = |s: BoxedStrategy<f32>, off: f32| prop_oneof![Just(off).boxed(), s];
    (
        0.2..2.0f32,
        prop_oneof![Just(0u32), 1..600u32],
        off((0.05..0.999f32).boxed(), 1.0),
        off((0.001..0.9f32).boxed(), 0.0),
        off((0.05..0.999f32).boxed(), 1.0),
    )
        .prop_map(|(temperature, top_k, top_p, min_p, typical_p)| Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            typical_p,
            ..Sampling::default()
        })
}

proptest! {
    /// Filters that select only as much as they need keep exactly what full sorts keep.
    #[test]
    fn as_the_reference(logits in prop::collection::vec(-8.0..8.0f32, 1..700), sampling in settings()) {
        let (ours, theirs) = (distribution(&logits, &sampling), reference(&logits, &sampling));
        // Where a cumulative sum lands on the bound to within rounding, either count is right.
        prop_assert!(ours.len().abs_diff(theirs.len()) <= 1);
        if ours.len() == theirs.len() {
            same(&ours, &theirs, 1e-9);
        }
    }
}

/// Pearson's χ² of 10^5 draws against the reference, as the standard normal it is near (Wilson and Hilferty).
fn chi_square(logits: &[f32], sampling: &Sampling) -> f64 {
    const DRAWS: usize = 100_000;
    let expected = reference(logits, sampling);
    let mut counts = vec![0u32; logits.len()];
    let history = vec![0; DRAWS];
    let mut sampler = Sampler::new();
    for n in 0..DRAWS {
        counts[sampler.sample(logits, sampling, &history[..n], None).unwrap() as usize] += 1;
    }
    let mut chi = 0.0;
    let mut bins = 0.0;
    let (mut rest, mut rest_count) = (0.0, 0.0);
    let drawn: u32 = expected.iter().map(|(id, _)| counts[*id as usize]).sum();
    assert_eq!(drawn as usize, DRAWS, "a token outside the distribution was drawn");
    for (id, p) in expected {
        let (want, got) = (p * DRAWS as f64, f64::from(counts[id as usize]));
        if want < 10.0 {
            (rest, rest_count) = (rest + want, rest_count + got);
        } else {
            chi += (got - want).powi(2) / want;
            bins += 1.0;
        }
    }
    if rest >= 10.0 {
        chi += (rest_count - rest).powi(2) / rest;
        bins += 1.0;
    }
    let k: f64 = bins - 1.0;
    ((chi / k).cbrt() - (1.0 - 2.0 / (9.0 * k))) / (2.0 / (9.0 * k)).sqrt()
}

#[test]
fn draws_follow_the_distribution() {
    let logits: Vec<f32> = (0..200u32).map(|i| 6.0 * ((i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1u32 << 24) as f32)).collect();
    let default = Sampling::default;
    let cases = [
        default(),
        Sampling { temperature: 1.5, seed: 1, ..default() },
        Sampling { top_p: 0.95, temperature: 1.5, seed: 2, ..default() },
        Sampling { top_k: 40, temperature: 0.8, seed: 3, ..default() },
        Sampling { min_p: 0.1, seed: 4, ..default() },
        Sampling { typical_p: 0.7, seed: u64::MAX, ..default() },
    ];
    for sampling in cases {
        let z = chi_square(&logits, &sampling);
        assert!(z.abs() < 4.0, "{sampling:?}: z = {z}");
    }
}

/// Runs llama.cpp's samplers over the same logits, all cases in one process.
#[test]
fn as_llama_cpp() {
    let what = "sampling against llama.cpp";
    let Some(python) = oracle(what) else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/oracle/sampling.py");
    let default = Sampling::default;
    let history: Vec<u32> = (0..90u32).map(|i| i * i % 23).collect();
    let mut cases = Vec::new();
    for case in 0..40u32 {
        let logits: Vec<f32> =
            (0..300u32).map(|i| 10.0 * (((i + 1000 * case).wrapping_mul(2_654_435_761) >> 8) as f32 / (1u32 << 24) as f32) - 4.0).collect();
        let sampling = match case % 8 {
            0 => Sampling { top_k: 1 + case, ..default() },
            1 => Sampling { top_p: 0.3 + 0.015 * case as f32, ..default() },
            2 => Sampling { min_p: 0.01 * (1 + case) as f32, ..default() },
            3 => Sampling { typical_p: 0.2 + 0.015 * case as f32, ..default() },
            4 => Sampling { temperature: 0.3 + 0.05 * case as f32, ..default() },
            5 => Sampling { repeat_penalty: 1.0 + 0.02 * case as f32, penalty_last_n: Some(case), ..default() },
            6 => Sampling { presence_penalty: 0.3, frequency_penalty: 0.02 * case as f32, penalty_last_n: Some(64), ..default() },
            _ => Sampling {
                temperature: 0.7,
                top_k: 50,
                top_p: 0.9,
                min_p: 0.02,
                typical_p: 0.95,
                repeat_penalty: 1.1,
                logit_bias: vec![(case, 2.5), (case + 1, -3.0)],
                ..default()
            },
        };
        cases.push((logits, sampling));
    }
    let asked: Vec<Value> = cases
        .iter()
        .map(|(logits, s)| {
            json!({
                "logits": logits, "history": history, "temperature": s.temperature, "top_k": s.top_k, "top_p": s.top_p,
                "min_p": s.min_p, "typical_p": s.typical_p, "repeat": s.repeat_penalty, "presence": s.presence_penalty,
                "frequency": s.frequency_penalty, "last_n": s.penalty_last_n, "bias": s.logit_bias,
            })
        })
        .collect();
    let mut child = Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(json!(asked).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.code() == Some(77) {
        return skip(what, "llama-cpp-python is not installed: run `cargo xtask setup --oracles`");
    }
    assert!(output.status.success(), "the oracle failed");
    let answers: Vec<Vec<(u32, f64)>> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers.len(), cases.len());
    for ((logits, sampling), theirs) in cases.iter().zip(answers) {
        let ours = Sampler::new().distribution(logits, sampling, &history).unwrap();
        same(&ours, &theirs, 2e-6);
    }
}
