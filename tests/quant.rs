//! Blocks decode bit for bit as ggml's do, and encoders write what ggml's reference writes.

use firecrest_engine::quant::{Format, GgmlType, dequantise, first_non_finite, quantise};

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
