//! GGUF files made by chance, most of them nearly right, then damaged.

use firecrest_engine::quant::{Format, GgmlType};
use firecrest_tests::GgufWriter;
use firecrest_tests::random::Random;

use crate::mutate::damage;
use crate::open::open_and_read;

/// The file of one case.
fn file(case: usize) -> Vec<u8> {
    let random = &mut Random::new(case as u64);
    let mut writer = GgufWriter::new();
    if random.one_in(16) {
        writer = writer.version(random.below(5) as u32);
    }
    if random.one_in(8) {
        writer = writer.alignment(*random.pick(&[1, 8, 64, 0, 3, 1 << 20]));
    }
    for i in 0..random.below(8) {
        writer = entry(writer, i, random);
    }
    for i in 0..random.below(5) {
        writer = tensor(writer, i, random);
    }
    let mut bytes = writer.finish();
    let head = bytes.len().saturating_sub(256).max(24);
    for _ in 0..random.below(4) {
        damage(&mut bytes, head, random);
    }
    bytes
}

fn entry(writer: GgufWriter, i: usize, random: &mut Random) -> GgufWriter {
    let key = match random.below(24) {
        0 => "general.architecture".to_owned(),
        1 => "tokenizer.ggml.tokens".to_owned(),
        2 => (*random.pick(&["split.count", "split.no", "split.tensors.count", "general.alignment"])).to_owned(),
        3..6 => "k".repeat(random.below(300)),
        _ => format!("llama.key_{i}"),
    };
    match random.below(24) {
        0 | 12..23 => writer.u32(&key, random.bits() as u32),
        1 => writer.f32(&key, f32::from_bits(random.bits() as u32)),
        2 => writer.bool(&key, random.one_in(2)),
        3 => writer.str(&key, &"text \u{1b} ✓ ".repeat(random.below(40))),
        4 => writer.strings(&key, &vec!["token"; random.below(50)]),
        5 => writer.strings(&key, &vec![""; random.below(200)]),
        6 => writer.f32s(&key, &vec![f32::NEG_INFINITY; random.below(50)]),
        7 => writer.i32s(&key, &vec![-1; random.below(50)]),
        8 => writer.u32s(&key, &[1, 2]).bools(&format!("{key}s"), &[true]),
        9 => writer.raw(&key, random.below(14) as u32, &random.bits().to_le_bytes()),
        10 => {
            // Arrays in arrays, as deep as they may be and deeper.
            let mut value = Vec::new();
            for _ in 0..random.below(7) {
                value.extend_from_slice(&9u32.to_le_bytes());
                value.extend_from_slice(&1u64.to_le_bytes());
            }
            value.extend_from_slice(&0u32.to_le_bytes());
            value.extend_from_slice(&3u64.to_le_bytes());
            value.extend_from_slice(&[1, 2, 3]);
            writer.raw(&key, 9, &value)
        }
        _ => {
            let mut value = 8u32.to_le_bytes().to_vec();
            value.extend_from_slice(&random.bits().to_le_bytes());
            writer.raw(&key, 9, &value)
        }
    }
}

fn tensor(writer: GgufWriter, i: usize, random: &mut Random) -> GgufWriter {
    let name = match random.below(24) {
        0 => "token_embd.weight".to_owned(),
        1..3 => "t".repeat(random.below(300)),
        _ => format!("blk.{i}.ffn_up.weight"),
    };
    let rows = random.below(4);
    match random.below(12) {
        0..6 => {
            let format = *random.pick(&Format::ALL);
            let values: Vec<f32> = (0..rows * 256).map(|v| v as f32 * 0.01 - 1.0).collect();
            writer.tensor_f32(&name, &[rows, 256], format, &values)
        }
        6..10 => {
            let ty = *random.pick(&GgmlType::SUPPORTED);
            let bytes = (0..ty.row_bytes(256) * rows).map(|_| random.bits() as u8 & 0x7b).collect();
            writer.tensor(&name, &[rows, 256], ty, bytes)
        }
        10 => {
            // Any type number, and any bytes: scales will be NaN now and then.
            let bytes = (0..random.below(400)).map(|_| random.bits() as u8).collect();
            writer.tensor_of_id(&name, &[rows, 32 * random.below(9)], random.below(48) as u32, bytes)
        }
        _ => {
            let shape: Vec<usize> = (0..random.below(7)).map(|_| random.bits() as usize >> random.below(64)).collect();
            writer.tensor_of_id(&name, &shape, random.below(3) as u32, vec![0; 64])
        }
    }
}

#[test]
fn gguf() {
    crate::sweep("GGUF", |case| {
        let bytes = file(case);
        if case % 16 != 0 {
            return open_and_read(vec![("model.gguf".into(), bytes)]);
        }
        let other = file(case / 16);
        open_and_read(vec![("model-00001-of-00002.gguf".into(), bytes), ("model-00002-of-00002.gguf".into(), other)])
    });
}
