//! Files cut at every byte, and hand-made absurdities: each a clear error within the same bounds as fuzzed files.

use firecrest_engine::quant::{Format, GgmlType};
use firecrest_tests::{GgufWriter, SafetensorsWriter};

use crate::open::open_and_read;

fn small_gguf() -> GgufWriter {
    GgufWriter::new()
        .str("general.architecture", "llama")
        .u32("llama.block_count", 1)
        .strings("tokenizer.ggml.tokens", &["<s>", "a", ""])
        .f32s("tokenizer.ggml.scores", &[0.0, -1.0])
        .tensor_f32("token_embd.weight", &[2, 32], Format::Q8_0, &[0.5; 64])
        .tensor_f32("output_norm.weight", &[8], Format::F32, &[1.0; 8])
}

fn refuse(name: &str, files: Vec<(String, Vec<u8>)>, words: &[&str]) {
    match open_and_read(files) {
        Ok(()) => panic!("{name} was accepted"),
        Err(message) => {
            for word in words {
                assert!(message.contains(word), "{name}: {word:?} is not said in: {message}");
            }
        }
    }
}

fn gguf(bytes: Vec<u8>) -> Vec<(String, Vec<u8>)> {
    vec![("model.gguf".into(), bytes)]
}

#[test]
fn a_gguf_cut_at_any_byte_is_refused() {
    let whole = small_gguf().finish();
    // Behind the last tensor there may be padding, which no reader needs.
    let needed = whole.len() - whole.iter().rev().take_while(|&&b| b == 0).count();
    for len in 0..needed {
        refuse(&format!("a file of {len} bytes"), gguf(whole[..len].to_vec()), &[]);
    }
    open_and_read(gguf(whole)).unwrap();
}

#[test]
fn a_real_gguf_cut_anywhere_in_its_head_is_refused() {
    let Some(data) = firecrest_tests::shared_data_or_skip("truncations of stories260K") else { return };
    let whole = std::fs::read(data.join("models/stories260K.gguf")).unwrap();
    for len in (0..24_000).chain((24_000..whole.len()).step_by(9_973)) {
        refuse(&format!("stories260K cut to {len} bytes"), gguf(whole[..len].to_vec()), &[]);
    }
    open_and_read(gguf(whole)).unwrap();
}

#[test]
fn safetensors_cut_at_any_byte_are_refused() {
    let whole = SafetensorsWriter::new().f32s("a", &[2, 2], &[1.0; 4]).f32s("b", &[3], &[2.0; 3]).finish();
    let files = |len: usize| vec![("model.safetensors".to_owned(), whole[..len].to_vec())];
    for len in 0..whole.len() {
        refuse(&format!("a file of {len} bytes"), files(len), &[]);
    }
    open_and_read(files(whole.len())).unwrap();
    let mut longer = whole.clone();
    longer.push(0);
    refuse("a byte too many", vec![("model.safetensors".into(), longer)], &["cover 28 bytes", "holds 29"]);
}

/// The small file's bytes with a 64-bit number overwritten.
fn with_u64(at: usize, value: u64) -> Vec<u8> {
    let mut bytes = small_gguf().finish();
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    bytes
}

#[test]
fn absurd_gguf_counts_are_refused() {
    for count in [1 << 14, 1 << 32, u64::MAX] {
        refuse("tensor count", gguf(with_u64(8, count)), &["tensors"]);
    }
    for count in [1 << 15, 1 << 32, u64::MAX] {
        refuse("entry count", gguf(with_u64(16, count)), &["metadata entries"]);
    }
    for len in [65_536, 1 << 40, u64::MAX] {
        refuse("key length", gguf(with_u64(24, len)), &["a metadata key", "65535"]);
    }
    // A string, an array of strings and an array of numbers that claim more than there is.
    for (element, claimed) in [(8u32, 1u64 << 40), (8, u64::MAX), (0, 1 << 40), (12, u64::MAX), (10, (1 << 61) + 1)] {
        let mut value = element.to_le_bytes().to_vec();
        value.extend_from_slice(&claimed.to_le_bytes());
        refuse("array length", gguf(GgufWriter::new().raw("list", 9, &value).finish()), &["`list`"]);
    }
    refuse("string length", gguf(GgufWriter::new().raw("text", 8, &u64::MAX.to_le_bytes()).finish()), &["`text`"]);
}

#[test]
fn malformed_gguf_metadata_is_refused() {
    let alone = |writer: GgufWriter| gguf(writer.finish());
    refuse("twice", alone(GgufWriter::new().u32("same", 1).u32("same", 1)), &["`same`", "twice"]);
    refuse("type", alone(GgufWriter::new().raw("odd", 13, &[0; 8])), &["`odd`", "unknown type 13"]);
    refuse("bool", alone(GgufWriter::new().raw("maybe", 7, &[2])), &["`maybe`", "bool"]);
    refuse("alignment 0", alone(GgufWriter::new().u32("general.alignment", 0)), &["general.alignment is 0"]);
    refuse("alignment 24", alone(GgufWriter::new().u32("general.alignment", 24)), &["general.alignment is 24"]);
    refuse("alignment as text", alone(GgufWriter::new().str("general.alignment", "32")), &["general.alignment", "string"]);
    let mut nested = Vec::new();
    for _ in 0..100_000 {
        nested.extend_from_slice(&9u32.to_le_bytes());
        nested.extend_from_slice(&1u64.to_le_bytes());
    }
    refuse("nesting", alone(GgufWriter::new().raw("deep", 9, &nested)), &["`deep`", "nested"]);
    for (version, word) in [(1, "version 1"), (4, "version 4"), (3 << 24, "big-endian")] {
        refuse("version", alone(GgufWriter::new().version(version)), &[word]);
    }
}

#[test]
fn malformed_gguf_tensors_are_refused() {
    let one = |shape: &[usize], id: u32| gguf(GgufWriter::new().tensor_of_id("w", shape, id, vec![0; 64]).finish());
    refuse("unknown type", one(&[4], 99), &["`w`", "unknown type 99"]);
    refuse("withdrawn type", one(&[4], 4), &["`w`", "Q4_2"]);
    refuse("dimensions", one(&[1; 5], 0), &["`w`", "5 dimensions"]);
    refuse("part of a block", one(&[31], 8), &["`w`", "31"]);
    refuse("overflow", one(&[1 << 32, 1 << 32], 0), &["`w`", "impossible"]);
    refuse("overflow in bytes", one(&[1 << 62], 0), &["`w`", "impossible"]);
    refuse("too large", one(&[1 << 40], 0), &["`w`", "cut short"]);
    refuse("a long name", gguf(GgufWriter::new().tensor_of_id(&"n".repeat(256), &[1], 0, vec![0; 4]).finish()), &["name", "255"]);
    let twice = small_gguf().tensor_f32("output_norm.weight", &[8], Format::F32, &[1.0; 8]);
    refuse("two of one name", gguf(twice.finish()), &["two tensors", "`output_norm.weight`"]);
    // The last eight bytes of a tensor's entry are its offset; two entries stand before the padding and the data.
    let two = GgufWriter::new().tensor("a", &[8], GgmlType::F32, vec![0; 32]).tensor("b", &[8], GgmlType::F32, vec![0; 32]).finish();
    let at = two.windows(8).rposition(|w| w == 32u64.to_le_bytes()).unwrap();
    for (offset, words) in
        [(0u64, ["overlap", "`b`"]), (4, ["alignment", "`b`"]), (u64::MAX - 31, ["impossible", "`b`"]), (1 << 40, ["cut", "`b`"])]
    {
        let mut bytes = two.clone();
        bytes[at..at + 8].copy_from_slice(&offset.to_le_bytes());
        refuse("offset", gguf(bytes), &words);
    }
}

#[test]
fn a_million_tiny_entries_stay_within_bounds() {
    // As many entries, tensors and empty strings as fit the counts: what is held beside the bytes is then largest.
    let mut writer = GgufWriter::new().strings("empty", &vec![""; 500_000]);
    for i in 0..16_000 {
        writer = writer.raw(&format!("{i:x}"), 0, &[0]);
    }
    for i in 0..8_192 {
        writer = writer.tensor_of_id(&format!("{i:x}"), &[1, 1, 1, 1], 24, vec![0]);
    }
    open_and_read(gguf(writer.finish())).unwrap();
    let mut writer = SafetensorsWriter::new();
    for i in 0..8_192 {
        writer = writer.tensor(&format!("{i:x}"), &[1, 1, 1, 1, 1, 1, 1, 1], "I8", &[0]);
    }
    open_and_read(vec![("model.safetensors".into(), writer.finish())]).unwrap();
}

#[test]
fn absurd_safetensors_are_refused() {
    let file = |header: &str, data: &[u8]| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        vec![("model.safetensors".to_owned(), bytes)]
    };
    let tensor = |dtype: &str, shape: &str, offsets: &str| format!(r#""w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#);
    let one = |dtype: &str, shape: &str, offsets: &str| file(&format!("{{{}}}", tensor(dtype, shape, offsets)), &[0; 8]);
    open_and_read(one("F32", "[2]", "[0,8]")).unwrap();
    refuse("end before begin", one("F32", "[2]", "[8,0]"), &["`w`"]);
    refuse("offsets past the end", one("F32", "[2]", "[0,16]"), &["`w`"]);
    refuse("offsets at the edge", one("F32", "[2]", "[18446744073709551615,8]"), &["`w`", "gap"]);
    refuse("negative", one("F32", "[-2]", "[0,8]"), &["`w`"]);
    refuse("fraction", one("F32", "[2.5]", "[0,8]"), &["`w`"]);
    refuse("overflow", one("F32", "[4294967296,4294967296]", "[0,8]"), &["`w`", "impossible"]);
    refuse("dimensions", one("F32", "[1,1,1,1,1,1,1,1,1,1]", "[0,8]"), &["`w`", "dimensions"]);
    refuse("unknown type", one("F128", "[1]", "[0,8]"), &["`w`", "`F128`"]);
    refuse("nothing", file("{}", &[0; 8]), &["cover 0 bytes"]);
    refuse("no object", file("[]", &[]), &["`{`"]);
    refuse("a long type", one(&"F".repeat(100_000), "[2]", "[0,8]"), &["`w`", "unknown type"]);
    refuse("a long shape", one("F32", &format!("\"{}\"", "s".repeat(100_000)), "[0,8]"), &["`w`", "invalid type"]);
    let name = format!("{{\"{}\":1}}", "\\n".repeat(1 << 20));
    refuse("a long name", file(&name, &[]), &["string longer"]);
    refuse("deep", file(&format!("{{\"__metadata__\":{}", "[".repeat(4 << 20)), &[]), &["nesting"]);
    let twice = format!("{{{},{}}}", tensor("F32", "[1]", "[0,4]"), tensor("F32", "[1]", "[4,8]"));
    refuse("two of one name", file(&twice, &[0; 8]), &["two tensors", "`w`"]);
    let mut long = u64::MAX.to_le_bytes().to_vec();
    long.extend_from_slice(b"{}");
    refuse("header length", vec![("model.safetensors".into(), long)], &["header"]);
}
