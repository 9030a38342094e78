//! Files that are no adapters, or not of this model: each error names the file and tensor, what it is, and what it should be.

use firecrest_engine::file::AdapterFile;
use firecrest_engine::model::{Config, Model};
use firecrest_engine::quant::Format;
use firecrest_engine::{Error, ErrorCode, Result};
use firecrest_tests::GgufWriter;
use firecrest_tests::interpreter::{Inputs, KvPrecision};
use firecrest_tests::random_adapters::{RandomAdapter, open_adapter, open_gguf};
use firecrest_tests::runner::Reference;
use firecrest_tests::safetensors_writer::SafetensorsWriter;
use serde_json::{Value, json};

use super::tiny;

fn refused<T>(result: Result<T>, code: ErrorCode, words: &[&str]) {
    let error: Error = match result {
        Ok(_) => panic!("taken, where {words:?} was to be said"),
        Err(error) => error,
    };
    for word in words {
        assert!(error.message().contains(word), "{:?} does not say {word:?}", error.message());
    }
    assert_eq!(error.code(), code, "{error}");
}

fn head() -> GgufWriter {
    GgufWriter::new()
        .str("general.type", "adapter")
        .str("general.architecture", "llama")
        .str("adapter.type", "lora")
        .f32("adapter.lora.alpha", 4.0)
}

/// A pair of these shapes, filled with `value`.
fn pair(writer: GgufWriter, base: &str, a: [usize; 2], b: [usize; 2], value: f32) -> GgufWriter {
    writer.tensor_f32(&format!("{base}.lora_a"), &a, Format::F32, &vec![value; a[0] * a[1]]).tensor_f32(
        &format!("{base}.lora_b"),
        &b,
        Format::F32,
        &vec![value; b[0] * b[1]],
    )
}

const Q: &str = "blk.0.attn_q.weight";

#[test]
fn gguf_files_that_are_no_adapters() {
    use ErrorCode::{Malformed, Unsupported};
    let model = GgufWriter::new().str("general.architecture", "llama");
    refused(open_gguf(model.clone()), Malformed, &["adapter.gguf", "not an adapter", "general.type"]);
    refused(open_gguf(model.str("general.type", "model")), Malformed, &["`model`", "not `adapter`"]);
    let typed = |ty: &str| GgufWriter::new().str("general.type", "adapter").str("general.architecture", "llama").str("adapter.type", ty);
    refused(open_gguf(typed("ia3")), Unsupported, &["`ia3`", "`lora`"]);
    refused(open_gguf(typed("lora")), Malformed, &["adapter.lora.alpha"]);
    refused(open_gguf(head().u32s("adapter.alora.invocation_tokens", &[1])), Unsupported, &["adapter.alora", "activated"]);
    refused(open_gguf(head()), Malformed, &["adapts nothing"]);
    let one = head().tensor_f32(&format!("{Q}.lora_a"), &[2, 64], Format::F32, &[0.0; 128]);
    refused(open_gguf(one.clone()), Malformed, &["blk.0.attn_q.weight.lora_a", "B is missing"]);
    refused(
        open_gguf(head().tensor_f32(&format!("{Q}.lora_b"), &[64, 2], Format::F32, &[0.0; 128])),
        Malformed,
        &["lora_b", "A is missing"],
    );
    refused(
        open_gguf(one.tensor_f32("blk.0.attn_norm.weight", &[64], Format::F32, &[0.0; 64])),
        Unsupported,
        &["blk.0.attn_norm.weight", ".lora_a"],
    );
    refused(open_gguf(pair(head(), Q, [2, 64], [64, 3], 0.1)), Malformed, &["lora_b", "[64, 3]", "[outputs, 2]"]);
    refused(open_gguf(pair(head(), Q, [513, 2], [2, 513], 0.1)), Malformed, &["rank 513", "512"]);
    refused(open_gguf(pair(head(), Q, [0, 64], [64, 0], 0.1)), Malformed, &[".lora_", "empty"]);
    let flat = head().tensor_f32(&format!("{Q}.lora_a"), &[64], Format::F32, &[0.0; 64]).tensor_f32(
        &format!("{Q}.lora_b"),
        &[64, 1],
        Format::F32,
        &[0.0; 64],
    );
    refused(open_gguf(flat), Malformed, &["[64]", "no matrix"]);
    refused(open_adapter(vec![]), ErrorCode::Request, &["no file"]);
    refused(open_adapter(vec![("x.bin".into(), vec![1; 9])]), Malformed, &["x.bin"]);
}

#[test]
fn adapters_of_other_models() {
    use ErrorCode::{Malformed, Request, Unsupported};
    let file = tiny("llama", Format::F32);
    let mut target = Reference::new(KvPrecision::F64, Inputs::Exact);
    let model = pollster::block_on(Model::load_configured(Config::from_file(&file).unwrap(), &file, &mut target, &mut |_, _| {})).unwrap();
    let read = |file: AdapterFile, strength| pollster::block_on(model.read_adapter(&file, strength));
    let gguf = |writer| read(open_gguf(writer).unwrap(), 1.0);
    assert!(gguf(pair(head(), Q, [2, 64], [64, 2], 0.1)).is_ok());
    let other = GgufWriter::new().str("general.type", "adapter").str("general.architecture", "qwen2").str("adapter.type", "lora");
    refused(gguf(pair(other.f32("adapter.lora.alpha", 1.0), Q, [2, 64], [64, 2], 0.1)), Malformed, &["qwen2", "llama"]);
    refused(gguf(pair(head(), Q, [2, 65], [64, 2], 0.1)), Malformed, &["attn_q.weight.lora_a", "[2, 65]", "[2, 64]"]);
    refused(gguf(pair(head(), Q, [2, 64], [63, 2], 0.1)), Malformed, &["attn_q.weight.lora_b", "[63, 2]", "[64, 2]"]);
    refused(gguf(pair(head(), "blk.2.attn_q.weight", [2, 64], [64, 2], 0.1)), Malformed, &["blk.2.attn_q.weight", "does not have"]);
    refused(gguf(pair(head(), "blk.0.attn_norm.weight", [2, 64], [64, 2], 0.1)), Malformed, &["attn_norm", "no linear"]);
    refused(gguf(pair(head(), "token_embd.weight", [2, 64], [96, 2], 0.1)), Unsupported, &["token_embd.weight", "embedding"]);
    refused(gguf(pair(head(), Q, [2, 64], [64, 2], f32::NAN)), Malformed, &["lora_a", "NaN"]);
    refused(gguf(pair(head(), Q, [2, 64], [64, 2], f32::INFINITY)), Malformed, &["lora_a", "infinite"]);
    refused(gguf(pair(head(), Q, [2, 64], [64, 2], 3e38)), Malformed, &["lora_b", "scale"]);
    refused(read(open_gguf(pair(head(), Q, [2, 64], [64, 2], 0.1)).unwrap(), f32::NAN), Request, &["strength"]);
    let unknown = SafetensorsWriter::new()
        .f32s("base_model.model.model.layers.0.self_attn.r_proj.lora_A.weight", &[2, 64], &[0.1; 128])
        .f32s("base_model.model.model.layers.0.self_attn.r_proj.lora_B.weight", &[64, 2], &[0.1; 128]);
    let config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 2}).to_string().into_bytes();
    let files = vec![("adapter_config.json".to_owned(), config), ("adapter_model.safetensors".to_owned(), unknown.finish())];
    refused(read(open_adapter(files).unwrap(), 1.0), Malformed, &["r_proj.lora_A.weight", "llama"]);
}

#[test]
fn peft_folders_that_are_no_plain_lora() {
    use ErrorCode::{Malformed, Unsupported};
    let adapter = RandomAdapter::of(&tiny("llama", Format::F32), 1, 4, false, |name| name == Q);
    let with = |more: Value| open_adapter(adapter.peft(more));
    assert!(with(json!({})).is_ok());
    assert!(with(json!({"init_lora_weights": "gaussian", "fan_in_fan_out": true, "target_modules": "all-linear"})).is_ok());
    refused(with(json!({"peft_type": "IA3"})), Unsupported, &["adapter_config.json", "`IA3`", "LORA"]);
    refused(with(json!({"peft_type": null})), Malformed, &["peft_type"]);
    refused(with(json!({"bias": "lora_only"})), Unsupported, &["bias", "`lora_only`"]);
    refused(with(json!({"use_dora": true})), Unsupported, &["use_dora", "DoRA"]);
    refused(with(json!({"modules_to_save": ["lm_head"]})), Unsupported, &["modules_to_save"]);
    refused(with(json!({"lora_bias": true})), Unsupported, &["lora_bias"]);
    refused(with(json!({"layer_replication": [[0, 2]]})), Unsupported, &["layer_replication"]);
    refused(with(json!({"trainable_token_indices": {"embed_tokens": [1]}})), Unsupported, &["trainable_token_indices"]);
    refused(with(json!({"init_lora_weights": "pissa_niter_4"})), Unsupported, &["`pissa_niter_4`"]);
    refused(with(json!({"r": 8})), Malformed, &["rank", "q_proj", "should be 8", "rank 4"]);
    refused(with(json!({"rank_pattern": {"q_proj": 2}})), Malformed, &["should be 2"]);
    refused(with(json!({"rank_pattern": {"(": 2}})), Malformed, &["rank_pattern", "no regex"]);
    let tensors = |writer: SafetensorsWriter| {
        let mut files = adapter.peft(json!({}));
        files[1].1 = writer.finish();
        open_adapter(files)
    };
    let name = |end: &str| format!("base_model.model.model.layers.0.self_attn.q_proj.{end}");
    let dora = SafetensorsWriter::new().f32s(&name("lora_magnitude_vector"), &[2], &[1.0; 2]);
    refused(tensors(dora), Unsupported, &["lora_magnitude_vector", "DoRA"]);
    refused(tensors(SafetensorsWriter::new().f32s(&name("bias"), &[2], &[1.0; 2])), Unsupported, &["q_proj.bias", "lora_A"]);
    let table = SafetensorsWriter::new().f32s("base_model.model.model.embed_tokens.lora_embedding_A", &[2, 2], &[1.0; 4]);
    refused(tensors(table), Unsupported, &["lora_embedding_A", "embedding"]);
    refused(
        tensors(SafetensorsWriter::new().f32s(&name("lora_A.weight"), &[4, 2], &[1.0; 8])),
        Malformed,
        &["lora_A.weight", "B is missing"],
    );
    let mut lone = adapter.peft(json!({}));
    refused(open_adapter(lone.split_off(1)), Malformed, &["adapter_model.safetensors", "adapter_config.json"]);
    refused(open_adapter(lone), Malformed, &["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"]);
    let mut broken = adapter.peft(json!({}));
    broken[0].1.truncate(40);
    refused(open_adapter(broken), Malformed, &["adapter_config.json"]);
}
