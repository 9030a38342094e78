//! Blocks decode bit for bit as ggml's do, and encoders write what ggml's reference writes.

use firecrest_engine::quant::{Format, GgmlType, dequantise, first_non_finite, quantise, requantise};
use firecrest_tests::random::Random;

/// The types of the shared data: file stem and type.
const DATA: [(&str, GgmlType); 14] = [
    ("f16", GgmlType::F16),
    ("bf16", GgmlType::BF16),
    ("q4_0", GgmlType::Q4_0),
    ("q4_1", GgmlType::Q4_1),
    ("q5_0", GgmlType::Q5_0),
    ("q5_1", GgmlType::Q5_1),
    ("q8_0", GgmlType::Q8_0),
    ("q2_K", GgmlType::Q2K),
    ("q3_K", GgmlType::Q3K),
    ("q4_K", GgmlType::Q4K),
    ("q5_K", GgmlType::Q5K),
    ("q6_K", GgmlType::Q6K),
    ("iq4_nl", GgmlType::IQ4NL),
    ("iq4_xs", GgmlType::IQ4XS),
];

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn every_supported_type_decodes_bit_for_bit() {
    let Some(data) = firecrest_tests::shared_data_or_skip("quantised blocks against ggml's") else { return };
    for (stem, ty) in DATA {
        let blocks = std::fs::read(data.join(format!("quant/cosine.{stem}.blocks"))).unwrap();
        let expected = floats(&std::fs::read(data.join(format!("quant/cosine.{stem}.f32"))).unwrap());
        let mut values = vec![0.0; expected.len()];
        dequantise(ty, &blocks, &mut values);
        let wrong = values.iter().zip(&expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        assert_eq!(wrong, 0, "{ty}: {wrong} of {} values differ", values.len());
        assert_eq!(first_non_finite(ty, &blocks), None, "{ty}");
    }
}

#[test]
fn simple_encoders_equal_ggmls_reference() {
    let Some(data) = firecrest_tests::shared_data_or_skip("quantised blocks against ggml's") else { return };
    let input = floats(&std::fs::read(data.join("quant/cosine.input.f32")).unwrap());
    for (stem, format) in [("f16", Format::F16), ("q8_0", Format::Q8_0), ("q4_0", Format::Q4_0)] {
        let expected = std::fs::read(data.join(format!("quant/cosine.{stem}.blocks"))).unwrap();
        let mut blocks = Vec::new();
        quantise(format, &input, &mut blocks);
        assert!(blocks == expected, "{format}: blocks differ from ggml's");
    }
}

/// Blocks of every code, with scales of all sizes and both signs.
fn random_blocks(ty: GgmlType, count: usize) -> Vec<u8> {
    let mut random = Random::new(ty as u64);
    let mut blocks: Vec<u8> = (0..count * ty.block_bytes()).map(|_| (random.bits() >> 40) as u8).collect();
    let scales: &[usize] = match ty {
        GgmlType::Q4_1 | GgmlType::Q5_1 => &[0, 2],
        GgmlType::Q2K => &[80, 82],
        GgmlType::Q3K => &[108],
        _ => &[0],
    };
    for block in blocks.chunks_exact_mut(ty.block_bytes()) {
        for &at in scales {
            // No infinity, no NaN.
            block[at + 1] &= 0xbb;
        }
    }
    blocks
}

/// Runs of 32 values that become Q8_0 without a change, of all.
fn unchanged(ty: GgmlType, blocks: &[u8]) -> (usize, usize) {
    let mut values = vec![0.0; blocks.len() / ty.block_bytes() * ty.block_len()];
    dequantise(ty, blocks, &mut values);
    let (mut encoded, mut anew, mut decoded) = (Vec::new(), Vec::new(), vec![0.0; values.len()]);
    requantise(ty, blocks, &values, Format::Q8_0, &mut encoded);
    quantise(Format::Q8_0, &values, &mut anew);
    dequantise(GgmlType::Q8_0, &encoded, &mut decoded);
    let mut same = 0;
    let runs = values.chunks_exact(32).zip(decoded.chunks_exact(32)).zip(encoded.chunks_exact(34).zip(anew.chunks_exact(34)));
    for ((values, decoded), (encoded, anew)) in runs {
        let is_same = values == decoded;
        assert!(is_same || encoded == anew, "{ty}: neither what it was nor as it is encoded");
        same += usize::from(is_same);
    }
    (same, values.len() / 32)
}

#[test]
fn codes_that_fit_stay_what_they_are() {
    for ty in [GgmlType::Q5_0, GgmlType::IQ4NL] {
        let (same, all) = unchanged(ty, &random_blocks(ty, 3000));
        assert_eq!(same, all, "{ty}");
    }
    // All but those that have a code of 128.
    let (same, all) = unchanged(GgmlType::Q3K, &random_blocks(GgmlType::Q3K, 2000));
    assert!(same * 10 >= all * 8, "{same} of {all}");
    for ty in [GgmlType::Q4_1, GgmlType::Q5_1, GgmlType::Q2K, GgmlType::IQ4XS] {
        let (same, all) = unchanged(ty, &random_blocks(ty, 500));
        println!("{ty}: {same} of {all} runs are unchanged");
    }
    // Minima that are multiples of the scale, and blocks of one value.
    for (scale, minimum) in [(0.5f32, -4.0f32), (0.25, 20.0), (-1.5, 30.0), (0.0, 0.3)] {
        let half = |value: f32| half::f16::from_f32(value).to_le_bytes();
        for (ty, codes) in [(GgmlType::Q4_1, 16), (GgmlType::Q5_1, 20)] {
            let block = [&half(scale)[..], &half(minimum), &(0..codes).map(|i| i * 13).collect::<Vec<u8>>()].concat();
            assert_eq!(unchanged(ty, &block), (1, 1), "{ty}: {scale} and {minimum}");
        }
    }
    let Some(data) = firecrest_tests::shared_data_or_skip("blocks that fit Q8_0") else { return };
    for (stem, ty) in [("q5_0", GgmlType::Q5_0), ("iq4_nl", GgmlType::IQ4NL), ("q3_K", GgmlType::Q3K)] {
        let (same, all) = unchanged(ty, &std::fs::read(data.join(format!("quant/cosine.{stem}.blocks"))).unwrap());
        assert!(same == all || ty == GgmlType::Q3K, "{ty}: {same} of {all}");
        println!("{ty}: {same} of {all} runs of ggml's blocks are unchanged");
    }
}

/// The sum of squared differences that a round trip leaves.
fn squared_error(format: Format, blocks: &[u8], input: &[f32]) -> f64 {
    let mut values = vec![0.0; input.len()];
    dequantise(format.into(), blocks, &mut values);
    values.iter().zip(input).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

/// The K encoders' searches sum in an order of their own, so some codes differ from ggml's; the error may not.
#[test]
fn k_encoders_are_as_good_as_ggmls() {
    let Some(data) = firecrest_tests::shared_data_or_skip("quantised blocks against ggml's") else { return };
    let input = floats(&std::fs::read(data.join("quant/cosine.input.f32")).unwrap());
    for (stem, format) in [("q4_K", Format::Q4K), ("q6_K", Format::Q6K)] {
        let reference = std::fs::read(data.join(format!("quant/cosine.{stem}.blocks"))).unwrap();
        let mut blocks = Vec::new();
        quantise(format, &input, &mut blocks);
        let (ours, theirs) = (squared_error(format, &blocks, &input), squared_error(format, &reference, &input));
        let differing = blocks.iter().zip(&reference).filter(|(a, b)| a != b).count();
        println!("{format}: squared error {ours:.6e}, ggml's {theirs:.6e}; {differing} of {} bytes differ", blocks.len());
        assert!(ours <= 1.01 * theirs, "{format}: squared error {ours}, ggml's {theirs}");
    }
}
