//! Model files of every kind open, say what they say, and give their values; bad ones are refused with words that help.

use std::path::Path;

use firecrest_engine::file::{ModelFile, TextAssets};
use firecrest_engine::quant::{Format, GgmlType, dequantise, quantise};
use firecrest_engine::{ErrorCode, Result};
use firecrest_tests::{GgufWriter, SafetensorsWriter, shared_data_or_skip};
use firecrest_weights::{ByteSource, MemorySource};

fn open(files: Vec<(&str, Vec<u8>)>) -> Result<ModelFile> {
    let source = |(name, bytes): (&str, Vec<u8>)| -> Box<dyn ByteSource> { Box::new(MemorySource::new(name, bytes)) };
    pollster::block_on(ModelFile::open(files.into_iter().map(source).collect()))
}

fn open_gguf(writer: GgufWriter) -> Result<ModelFile> {
    open(vec![("model.gguf", writer.finish())])
}

fn refusal(opened: Result<ModelFile>) -> (ErrorCode, String) {
    let error = opened.err().expect("it should have been refused");
    (error.code(), error.message().to_owned())
}

fn f32s(file: &ModelFile, name: &str) -> Vec<f32> {
    pollster::block_on(file.read_f32(file.require_tensor(name).unwrap())).unwrap()
}

/// Values like weights: a bell around zero, the same each time.
fn weights(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| (uniform() + uniform() + uniform()) * 0.1).collect()
}

/// What a file of the corpus should come to: tensors as `name shape type`, or words of the error.
enum Expected {
    Opens(&'static [&'static str]),
    Refused(ErrorCode, &'static [&'static str]),
}

#[test]
fn the_corpus_of_edge_cases() {
    use ErrorCode::{Malformed, Unsupported};
    use Expected::{Opens, Refused};
    let Some(data) = shared_data_or_skip("the corpus of malformed files") else { return };
    let corpus: &[(&str, Expected)] = &[
        ("dummy.gguf", Opens(&[])),
        ("gguf-unknown-type.hex", Refused(Unsupported, &["`future.weight`", "43"])),
        ("gguf-unsupported-version.hex", Refused(Unsupported, &["version 4"])),
        ("gguf-v2-f32.hex", Opens(&["dense.weight [2] F32"])),
        ("gguf-v3-q4-0.hex", Opens(&["quant.weight [32] Q4_0"])),
        ("safetensors-fp8-flux2-worker-output.hex", Refused(Malformed, &["`weight`", "cut short"])),
        ("safetensors-fp8-te137-canonical-member-units.hex", Refused(Malformed, &["`weight`", "cut short"])),
        ("safetensors-gap.hex", Refused(Malformed, &["`x`", "gap"])),
        ("safetensors-header-only.hex", Opens(&[])),
        ("safetensors-two-tensors.hex", Opens(&["a [3] U8", "b [5] U8"])),
        ("safetensors-unknown-dtype.hex", Refused(Unsupported, &["`x`", "F128"])),
        ("tensor-1d-int32.safetensors", Opens(&["embedding [3] I32"])),
        ("tensor-2d-float64.safetensors", Opens(&["embedding [2, 3] F64"])),
        ("tensor-3d-float32.safetensors", Opens(&["embedding [2, 2, 3] F32"])),
        ("tensor-4d-float32.safetensors", Opens(&["embedding [2, 3, 1, 3] F32"])),
    ];
    let mut there: Vec<String> =
        std::fs::read_dir(data.join("malformed")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    there.sort();
    assert_eq!(there, corpus.iter().map(|(name, _)| *name).collect::<Vec<_>>(), "every file has its case here");
    for (name, expected) in corpus {
        let bytes = read_corpus(&data.join("malformed").join(name));
        let as_name = if name.starts_with("gguf") || name.ends_with("gguf") { "x.gguf" } else { "x.safetensors" };
        match (open(vec![(as_name, bytes)]), expected) {
            (Ok(file), Opens(tensors)) => {
                let found: Vec<String> = file.tensors().iter().map(|t| format!("{} {:?} {}", t.name, t.shape, t.ty)).collect();
                if *name != "dummy.gguf" {
                    assert_eq!(found, *tensors, "{name}");
                }
                println!("{name}: opens, {} entries, {found:?}", file.metadata.iter().len());
            }
            (Err(error), Refused(code, words)) => {
                println!("{name}: {error}");
                assert_eq!(error.code(), *code, "{name}: {error}");
                words.iter().for_each(|word| assert!(error.message().contains(word), "{name}: no {word} in {error}"));
            }
            (Ok(_), Refused(..)) => panic!("{name} was accepted"),
            (Err(error), Opens(_)) => panic!("{name} was refused: {error}"),
        }
    }
}

/// A file's bytes, whether it stands in hexadecimal or not.
fn read_corpus(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    if path.extension().is_none_or(|e| e != "hex") {
        return bytes;
    }
    let digits: Vec<u8> = bytes.into_iter().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks_exact(2).map(pair).collect()
}

#[test]
#[allow(clippy::approx_constant, reason = "the numbers that stand in the file")]
fn corpus_values_are_read() {
    let Some(data) = shared_data_or_skip("values of the corpus") else { return };
    let corpus = |name: &str| read_corpus(&data.join("malformed").join(name));
    let gguf = open(vec![("x.gguf", corpus("gguf-v2-f32.hex"))]).unwrap();
    assert_eq!(f32s(&gguf, "dense.weight"), [f32::from_le_bytes(*b"ABCD"), f32::from_le_bytes(*b"EFGH")]);
    let safetensors = open(vec![("x.safetensors", corpus("tensor-3d-float32.safetensors"))]).unwrap();
    let values = f32s(&safetensors, "embedding");
    assert_eq!(values[..6], [22.0, 23.0, 24.0, 11.0, 12.0, 13.0]);
    assert_eq!(safetensors.tensor("embedding").unwrap().rows(), 4);
    // Types that only inspection knows are refused when they are read, by name.
    let integers = open(vec![("x.safetensors", corpus("tensor-1d-int32.safetensors"))]).unwrap();
    let error = pollster::block_on(integers.read_f32(integers.tensor("embedding").unwrap())).unwrap_err();
    assert!(error.code() == ErrorCode::Unsupported && error.message().contains("`embedding`"), "{error}");
    // Every type of metadata, as its writer meant it.
    let dummy = open(vec![("x.gguf", corpus("dummy.gguf"))]).unwrap();
    let m = &dummy.metadata;
    for (key, value) in m.iter() {
        println!("{key} = {value}");
    }
    assert_eq!(m.u32("some.parameter.uint8").unwrap(), Some(0x12));
    assert_eq!(m.u32("some.parameter.uint32").unwrap(), Some(0x1234_5678));
    assert_eq!(m.value("some.parameter.int64").unwrap().to_string(), (-0x1234_5678_9abc_def1i64).to_string());
    assert_eq!(m.bool("some.parameter.bool").unwrap(), Some(true));
    assert_eq!(m.str("some.parameter.string").unwrap(), Some("hello world"));
    assert_eq!(m.i32s("some.parameter.arr.i16").unwrap(), Some(vec![1, 2, 3, 4]));
    assert_eq!(m.f32s("some.parameter.arr.f32").unwrap(), Some(vec![3.145, 2.718, 1.414]));
    assert_eq!(m.strings("some.parameter.arr.str").unwrap().map(|s| s.len()), Some(3));
}

#[test]
fn metadata_says_what_is_wrong() {
    let writer = GgufWriter::new().u32("n", 7).f32("x", f32::NAN).strings("names", &["a", "b"]).i32s("ids", &[-1, 2]);
    let file = open_gguf(writer.raw("big", 10, &u64::MAX.to_le_bytes()).raw("minus", 5, &(-3i32).to_le_bytes())).unwrap();
    let m = &file.metadata;
    assert_eq!(m.u32("n").unwrap(), Some(7));
    assert_eq!(m.u32("absent").unwrap(), None);
    assert_eq!(m.strings("names").unwrap(), Some(vec!["a", "b"]));
    assert_eq!(m.i32s("ids").unwrap(), Some(vec![-1, 2]));
    for (error, words) in [
        (m.u32("big").err(), ["`big`", "18446744073709551615"]),
        (m.u32("minus").err(), ["`minus`", "-3"]),
        (m.str("n").err(), ["`n`", "string"]),
        (m.f32("x").err(), ["`x`", "finite"]),
        (m.f32s("names").err(), ["`names`", "floats"]),
        (m.u32s("ids").err(), ["`ids`[0]", "-1"]),
        (m.require_u32("absent").err(), ["`absent`", "lacks"]),
    ] {
        let error = error.expect("an error");
        words.iter().for_each(|word| assert!(error.message().contains(word), "no {word} in {error}"));
    }
}

#[test]
fn stories260k_opens_from_disk() {
    let Some(data) = shared_data_or_skip("stories260K") else { return };
    let sources = firecrest_weights::native::open_model(data.join("models/stories260K.gguf")).unwrap();
    let file = pollster::block_on(ModelFile::open(sources)).unwrap();
    assert_eq!(file.metadata.str("general.architecture").unwrap(), Some("llama"));
    assert_eq!(file.metadata.strings("tokenizer.ggml.tokens").unwrap().map(|t| t.len()), Some(512));
    let table = file.require_tensor("token_embd.weight").unwrap();
    assert_eq!((table.rows(), table.columns(), table.ty), (512, 64, GgmlType::F32));
    let all = f32s(&file, "token_embd.weight");
    let mut some = Vec::new();
    pollster::block_on(file.read_rows(table, 100, 2, Format::F32, &mut some)).unwrap();
    let expected: Vec<u8> = all[6400..6528].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert!(some == expected);
}

#[test]
fn rows_come_in_the_format_asked_for() {
    const COLUMNS: usize = 256;
    // More than one strip of rows for every type.
    const ROWS: usize = 600;
    let values = weights(ROWS * COLUMNS, 1);
    for ty in GgmlType::SUPPORTED {
        let mut blocks = Vec::new();
        match Format::ALL.into_iter().find(|f| ty.is_format(*f)) {
            Some(format) => quantise(format, &values, &mut blocks),
            None => {
                // Any bytes are blocks of a type without an encoder here, as long as no float among them is NaN or infinite.
                blocks = (0..ty.row_bytes(COLUMNS) * ROWS).map(|i| (i * 37 % 251) as u8 & 0x3b).collect();
            }
        }
        let file = open_gguf(GgufWriter::new().tensor("w", &[ROWS, COLUMNS], ty, blocks.clone())).unwrap();
        let tensor = file.tensor("w").unwrap();
        let mut decoded = vec![0.0; ROWS * COLUMNS];
        dequantise(ty, &blocks, &mut decoded);
        assert!(f32s(&file, "w") == decoded, "{ty}");
        for format in Format::ALL {
            let (first, rows) = (3, ROWS - 5);
            let mut out = vec![1, 2, 3];
            pollster::block_on(file.read_rows(tensor, first, rows, format, &mut out)).unwrap();
            let mut expected = Vec::new();
            if ty.is_format(format) {
                expected.extend_from_slice(&blocks[first * ty.row_bytes(COLUMNS)..(first + rows) * ty.row_bytes(COLUMNS)]);
            } else {
                quantise(format, &decoded[first * COLUMNS..(first + rows) * COLUMNS], &mut expected);
            }
            if format == Format::Q8_0 {
                // Encoded anew, or what it was.
                let values = decoded[first * COLUMNS..].chunks_exact(32);
                for ((block, encoded), values) in out.chunks_exact(34).zip(expected.chunks_exact(34)).zip(values) {
                    let mut got = [0.0; 32];
                    dequantise(GgmlType::Q8_0, block, &mut got);
                    assert!(block == encoded || got == values, "{ty} as {format}");
                }
                assert_eq!(out.len(), expected.len());
            } else {
                assert!(out == expected, "{ty} as {format}");
            }
        }
        let mut out = Vec::new();
        let past = pollster::block_on(file.read_rows(tensor, ROWS, 1, Format::F32, &mut out)).unwrap_err();
        assert!(past.message().contains("`w`"), "{past}");
    }
}

#[test]
fn a_scale_that_is_no_number_is_refused_by_name() {
    // Where each type keeps its floats.
    let places: [(GgmlType, &[usize]); 15] = [
        (GgmlType::F32, &[2]),
        (GgmlType::F16, &[0]),
        (GgmlType::BF16, &[0]),
        (GgmlType::Q4_0, &[0]),
        (GgmlType::Q4_1, &[0, 2]),
        (GgmlType::Q5_0, &[0]),
        (GgmlType::Q5_1, &[0, 2]),
        (GgmlType::Q8_0, &[0]),
        (GgmlType::Q2K, &[80, 82]),
        (GgmlType::Q3K, &[108]),
        (GgmlType::Q4K, &[0, 2]),
        (GgmlType::Q5K, &[0, 2]),
        (GgmlType::Q6K, &[208]),
        (GgmlType::IQ4NL, &[0]),
        (GgmlType::IQ4XS, &[0]),
    ];
    for (ty, at) in places {
        for &at in at {
            // Infinity and NaN, both signs; of a binary32 the upper half.
            for half in [0x7c00u16, 0xfc00, 0x7e00, 0x7f80, 0xffc0] {
                let wide = matches!(ty, GgmlType::F32 | GgmlType::BF16);
                let infinite = if wide { half & 0x7f80 == 0x7f80 } else { half & 0x7c00 == 0x7c00 };
                let mut bytes = vec![0; ty.row_bytes(256) * 4];
                let place = ty.row_bytes(256) * 2 + at;
                bytes[place..place + 2].copy_from_slice(&half.to_le_bytes());
                let file = open_gguf(GgufWriter::new().tensor("blk.0.w", &[4, 256], ty, bytes)).unwrap();
                let tensor = file.tensor("blk.0.w").unwrap();
                let mut out = Vec::new();
                let format = ty.kernel_format().unwrap();
                let mut read = |first, rows| pollster::block_on(file.read_rows(tensor, first, rows, format, &mut out));
                assert!(read(0, 2).is_ok() && read(3, 1).is_ok(), "{ty}: other rows");
                match read(0, 4) {
                    Ok(()) => assert!(!infinite, "{ty}: {half:#x} at {at} was accepted"),
                    Err(error) => {
                        assert!(infinite && error.message().contains("`blk.0.w`, row 2"), "{ty}: {error}");
                        assert!(pollster::block_on(file.read_f32(tensor)).is_err());
                    }
                }
            }
        }
    }
    // A value that a narrower format cannot hold.
    let file = open_gguf(GgufWriter::new().tensor_f32("w", &[1, 32], Format::F32, &[1e9; 32])).unwrap();
    let mut out = Vec::new();
    let error = pollster::block_on(file.read_rows(file.tensor("w").unwrap(), 0, 1, Format::F16, &mut out)).unwrap_err();
    assert!(error.message().contains("`w`, row 0") && error.message().contains("F16"), "{error}");
}

/// Part `number` of a model in `count` parts.
fn part(number: u32, count: u32, tensors: u32) -> Vec<u8> {
    let writer = GgufWriter::new().raw("split.no", 2, &(number as u16).to_le_bytes()).raw("split.count", 2, &(count as u16).to_le_bytes());
    let writer = writer.raw("split.tensors.count", 5, &(tensors as i32).to_le_bytes());
    let writer = if number == 0 { writer.str("general.architecture", "llama") } else { writer };
    writer.tensor_f32(&format!("part{number}"), &[2], Format::F32, &[number as f32, 1.0]).finish()
}

#[test]
fn split_models_are_joined() {
    let names = ["m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"];
    let all = |order: [usize; 3]| open(order.map(|i| (names[i], part(i as u32, 3, 3))).into());
    for order in [[0, 1, 2], [2, 0, 1]] {
        let file = all(order).unwrap();
        assert_eq!(file.metadata.str("general.architecture").unwrap(), Some("llama"));
        assert_eq!(file.tensors().iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["part0", "part1", "part2"]);
        assert_eq!(f32s(&file, "part2"), [2.0, 1.0]);
    }
    let (_, message) = refusal(open(vec![(names[0], part(0, 3, 3))]));
    assert!(message.contains("one of 3 parts") && message.contains("all parts"), "{message}");
    let (_, message) = refusal(open(vec![(names[0], part(0, 2, 2)), (names[1], part(0, 2, 2))]));
    assert!(message.contains("twice"), "{message}");
    let (_, message) = refusal(open(vec![(names[0], part(0, 2, 2)), (names[1], part(7, 2, 2))]));
    assert!(message.contains("split.no is 7"), "{message}");
    let (_, message) = refusal(open(vec![(names[0], part(0, 2, 9)), (names[1], part(1, 2, 9))]));
    assert!(message.contains("split.tensors.count is 9"), "{message}");
    let (_, message) = refusal(open(vec![("a.gguf", GgufWriter::new().finish()), ("b.gguf", GgufWriter::new().finish())]));
    assert!(message.contains("whole model"), "{message}");
}

#[test]
fn files_of_no_kind_are_refused() {
    assert_eq!(refusal(open(vec![])).0, ErrorCode::Request);
    for bytes in [&b""[..], b"GGU", b"PK\x03\x04 something else"] {
        let (code, message) = refusal(open(vec![("thing.bin", bytes.to_vec())]));
        assert!(code == ErrorCode::Malformed && message.contains("thing.bin"), "{message}");
    }
}

#[test]
fn tokenizer_and_template_of_a_folder() {
    let weights = || SafetensorsWriter::new().f32s("model.embed_tokens.weight", &[2, 4], &[0.0; 8]).finish();
    let config = br#"{"model_type":"llama","hidden_size":4,"num_hidden_layers":1,"num_attention_heads":1,"intermediate_size":8}"#;
    let with = |files: Vec<(&'static str, &str)>| {
        let mut all = vec![("model.safetensors", weights()), ("config.json", config.to_vec())];
        all.extend(files.into_iter().map(|(name, text)| (name, text.as_bytes().to_vec())));
        open(all)
    };
    let bare = with(vec![]).unwrap();
    assert!(matches!(bare.text, TextAssets::Absent) && bare.chat_template().unwrap().is_none());
    let plain = with(vec![("tokenizer.json", "{}"), ("tokenizer_config.json", r#"{"chat_template":"A"}"#)]).unwrap();
    assert!(matches!(plain.text, TextAssets::HuggingFace { tokenizer_config_json: Some(_), .. }));
    assert_eq!(plain.chat_template().unwrap(), Some("A"));
    let named = r#"{"chat_template":[{"name":"tool_use","template":"T"},{"name":"default","template":"D"}]}"#;
    assert_eq!(with(vec![("tokenizer_config.json", named)]).unwrap().chat_template().unwrap(), Some("D"));
    let own = vec![("tokenizer_config.json", r#"{"chat_template":"A"}"#), ("chat_template.jinja", "J")];
    assert_eq!(with(own).unwrap().chat_template().unwrap(), Some("J"));
    let (_, message) = refusal(with(vec![("tokenizer_config.json", r#"{"chat_template":7}"#)]));
    assert!(message.contains("tokenizer_config.json") && message.contains("template"), "{message}");
    let gguf = open_gguf(GgufWriter::new().str("tokenizer.chat_template", "G")).unwrap();
    assert_eq!(gguf.chat_template().unwrap(), Some("G"));
}
