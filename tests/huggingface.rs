//! Hugging Face folders of every family, under GGUF's keys and names.

use std::process::Command;

use firecrest_engine::file::ModelFile;
use firecrest_engine::{ErrorCode, Result};
use firecrest_tests::{SafetensorsWriter, oracle};
use firecrest_weights::{ByteSource, MemorySource};
use serde_json::{Value, json};

const LAYERS: usize = 2;

fn open(files: Vec<(String, Vec<u8>)>) -> Result<ModelFile> {
    let source = |(name, bytes): (String, Vec<u8>)| -> Box<dyn ByteSource> { Box::new(MemorySource::new(name, bytes)) };
    pollster::block_on(ModelFile::open(files.into_iter().map(source).collect()))
}

/// A folder of these tensors, each of three values, and this configuration.
fn folder(config: &Value, names: &[String]) -> Result<ModelFile> {
    let weights = names.iter().fold(SafetensorsWriter::new(), |w, name| w.f32s(name, &[3], &[0.25, 0.5, -1.0]));
    open(vec![("model.safetensors".into(), weights.finish()), ("config.json".into(), config.to_string().into_bytes())])
}

fn f32s(file: &ModelFile, name: &str) -> Vec<f32> {
    pollster::block_on(file.read_f32(file.require_tensor(name).unwrap())).unwrap()
}

/// The least configuration of a model type.
fn config(model_type: &str, more: Value) -> Value {
    let mut config = match model_type {
        "nomic_bert" => json!({"n_embd": 64, "n_layer": LAYERS, "n_head": 4, "n_inner": 128, "activation_function": "swiglu"}),
        _ => json!({"hidden_size": 64, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 128}),
    };
    config["model_type"] = model_type.into();
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

/// One family: Hugging Face's model type, GGUF's architecture, and the names of its tensors outside and inside layers.
struct Family {
    model_type: &'static str,
    arch: &'static str,
    top: &'static [&'static str],
    layer: (&'static str, &'static [&'static str]),
}

const DECODER_TOP: &[&str] = &["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"];
const GEMMA_TOP: &[&str] = &["model.embed_tokens.weight", "model.norm.weight"];
const LLAMA_LAYER: &[&str] = &[
    "input_layernorm.weight",
    "self_attn.q_proj.weight",
    "self_attn.k_proj.weight",
    "self_attn.v_proj.weight",
    "self_attn.o_proj.weight",
    "post_attention_layernorm.weight",
    "mlp.gate_proj.weight",
    "mlp.up_proj.weight",
    "mlp.down_proj.weight",
];
const QWEN2_LAYER: &[&str] = &[
    "input_layernorm.weight",
    "self_attn.q_proj.weight",
    "self_attn.q_proj.bias",
    "self_attn.k_proj.bias",
    "self_attn.v_proj.bias",
    "self_attn.o_proj.weight",
    "post_attention_layernorm.weight",
    "mlp.down_proj.weight",
];
const QWEN3_LAYER: &[&str] = &["self_attn.q_norm.weight", "self_attn.k_norm.weight", "post_attention_layernorm.weight"];
const GEMMA_LAYER: &[&str] = &[
    "input_layernorm.weight",
    "self_attn.q_proj.weight",
    "post_attention_layernorm.weight",
    "pre_feedforward_layernorm.weight",
    "post_feedforward_layernorm.weight",
    "mlp.gate_proj.weight",
];
const GEMMA3_LAYER: &[&str] = &["self_attn.q_norm.weight", "self_attn.k_norm.weight", "post_feedforward_layernorm.weight"];
const PHI3_LAYER: &[&str] = &[
    "input_layernorm.weight",
    "self_attn.qkv_proj.weight",
    "self_attn.o_proj.weight",
    "post_attention_layernorm.weight",
    "mlp.gate_up_proj.weight",
    "mlp.down_proj.weight",
];
const BERT_TOP: &[&str] = &[
    "embeddings.word_embeddings.weight",
    "embeddings.position_embeddings.weight",
    "embeddings.token_type_embeddings.weight",
    "embeddings.LayerNorm.weight",
    "embeddings.LayerNorm.bias",
];
const BERT_LAYER: &[&str] = &[
    "attention.self.query.weight",
    "attention.self.key.bias",
    "attention.self.value.weight",
    "attention.output.dense.weight",
    "attention.output.LayerNorm.weight",
    "attention.output.LayerNorm.bias",
    "intermediate.dense.weight",
    "output.dense.bias",
    "output.LayerNorm.weight",
];
const NOMIC_TOP: &[&str] =
    &["embeddings.word_embeddings.weight", "embeddings.token_type_embeddings.weight", "emb_ln.weight", "emb_ln.bias"];
const NOMIC_LAYER: &[&str] = &[
    "attn.Wqkv.weight",
    "attn.out_proj.weight",
    "norm1.weight",
    "norm1.bias",
    "mlp.fc11.weight",
    "mlp.fc12.weight",
    "mlp.fc2.weight",
    "norm2.weight",
];

const FAMILIES: &[Family] = &[
    Family { model_type: "llama", arch: "llama", top: DECODER_TOP, layer: ("model.layers.", LLAMA_LAYER) },
    Family { model_type: "mistral", arch: "llama", top: DECODER_TOP, layer: ("model.layers.", LLAMA_LAYER) },
    Family { model_type: "qwen2", arch: "qwen2", top: DECODER_TOP, layer: ("model.layers.", QWEN2_LAYER) },
    Family { model_type: "qwen3", arch: "qwen3", top: DECODER_TOP, layer: ("model.layers.", QWEN3_LAYER) },
    Family { model_type: "gemma2", arch: "gemma2", top: GEMMA_TOP, layer: ("model.layers.", GEMMA_LAYER) },
    Family { model_type: "gemma3_text", arch: "gemma3", top: GEMMA_TOP, layer: ("model.layers.", GEMMA3_LAYER) },
    Family { model_type: "phi3", arch: "phi3", top: DECODER_TOP, layer: ("model.layers.", PHI3_LAYER) },
    Family { model_type: "bert", arch: "bert", top: BERT_TOP, layer: ("encoder.layer.", BERT_LAYER) },
    Family { model_type: "nomic_bert", arch: "nomic-bert", top: NOMIC_TOP, layer: ("encoder.layers.", NOMIC_LAYER) },
];

impl Family {
    fn names(&self) -> Vec<String> {
        let (prefix, layer) = self.layer;
        let layers = (0..LAYERS).flat_map(|l| layer.iter().map(move |part| format!("{prefix}{l}.{part}")));
        self.top.iter().map(|s| (*s).to_owned()).chain(layers).collect()
    }
}

#[test]
fn names_are_those_of_ggufs_own_tables() {
    let Some(python) = oracle("tensor names against gguf-py") else { return };
    let script = r#"
import json, sys, gguf
cases = json.load(sys.stdin)
arch = {name: a for a, name in gguf.MODEL_ARCH_NAMES.items()}
out = []
for name, tensors in cases:
    table = gguf.get_tensor_name_map(arch[name], 2)
    out.append([table.get_name(t, try_suffixes=(".weight", ".bias")) for t in tensors])
json.dump(out, sys.stdout)
"#;
    let cases: Vec<(&str, Vec<String>)> = FAMILIES.iter().map(|f| (f.arch, f.names())).collect();
    let mut child =
        Command::new(python).args(["-c", script]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    serde_json::to_writer(child.stdin.take().unwrap(), &cases).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "gguf-py failed");
    let theirs: Vec<Vec<Option<String>>> = serde_json::from_slice(&output.stdout).unwrap();
    for (family, theirs) in FAMILIES.iter().zip(theirs) {
        let names = family.names();
        let file = folder(&config(family.model_type, json!({})), &names).unwrap();
        assert_eq!(file.tensors().len(), names.len());
        for ((hf, gguf), ours) in names.iter().zip(theirs).zip(file.tensors()) {
            assert_eq!(Some(&ours.name), gguf.as_ref(), "{}: {hf}", family.model_type);
        }
    }
}

#[test]
fn every_family_opens_with_its_keys() {
    for family in FAMILIES {
        let file = folder(&config(family.model_type, json!({})), &family.names()).unwrap();
        let m = &file.metadata;
        let key = |name: &str| format!("{}.{name}", family.arch);
        assert_eq!(m.require_str("general.architecture").unwrap(), family.arch);
        assert_eq!(m.require_u32(&key("block_count")).unwrap(), LAYERS as u32, "{}", family.model_type);
        assert_eq!(m.require_u32(&key("embedding_length")).unwrap(), 64);
        assert_eq!(m.require_u32(&key("feed_forward_length")).unwrap(), 128);
        assert_eq!(m.require_u32(&key("attention.head_count")).unwrap(), 4);
        let encoder = family.arch.ends_with("bert");
        assert_eq!(m.bool(&key("attention.causal")).unwrap(), encoder.then_some(false));
        assert_eq!(m.f32(&key("attention.layer_norm_epsilon")).unwrap().is_some(), encoder);
        assert_eq!(m.f32(&key("attention.layer_norm_rms_epsilon")).unwrap().is_some(), !encoder);
        assert_eq!(m.str("firecrest.rope_pairs").unwrap(), (family.arch == "llama").then_some("halves"));
        // Gemma's norms hold g − 1, and nothing else does.
        let gemma = family.arch.starts_with("gemma");
        for tensor in file.tensors() {
            let plus = if gemma && tensor.name.ends_with("norm.weight") { 1.0 } else { 0.0 };
            assert_eq!(f32s(&file, &tensor.name), [0.25 + plus, 0.5 + plus, -1.0 + plus], "{}", tensor.name);
        }
    }
}

#[test]
fn windows_and_caps() {
    let names = FAMILIES[0].names();
    let window = |model_type: &str, arch: &str, more: Value| {
        let file = folder(&config(model_type, more), &names).unwrap();
        let read = |key: &str| file.metadata.u32(&format!("{arch}.attention.{key}")).unwrap();
        (read("sliding_window"), read("sliding_window_pattern"))
    };
    assert_eq!(window("llama", "llama", json!({})), (None, None));
    assert_eq!(window("mistral", "llama", json!({})), (Some(4096), None), "the class's own default");
    assert_eq!(window("mistral", "llama", json!({"sliding_window": null})), (None, None));
    assert_eq!(window("mistral", "llama", json!({"sliding_window": 8})), (Some(8), None));
    assert_eq!(window("phi3", "phi3", json!({"sliding_window": 2047})), (Some(2047), None));
    assert_eq!(window("qwen2", "qwen2", json!({"sliding_window": 8, "use_sliding_window": false})), (None, None));
    assert_eq!(window("gemma2", "gemma2", json!({"sliding_window": 16})), (Some(16), Some(2)));
    assert_eq!(window("gemma3_text", "gemma3", json!({"sliding_window": 16})), (Some(16), Some(6)));
    assert_eq!(window("gemma3_text", "gemma3", json!({"sliding_window_pattern": 3})), (Some(4096), Some(3)));
    let types = json!({"layer_types": ["sliding_attention", "full_attention"]});
    assert_eq!(window("gemma3_text", "gemma3", types), (Some(4096), Some(2)));
    let uneven = json!({"layer_types": ["full_attention", "sliding_attention"]});
    assert!(folder(&config("gemma2", uneven), &names).is_err());
    assert!(folder(&config("qwen2", json!({"sliding_window": 8, "use_sliding_window": true})), &names).is_err());

    let caps = |model_type: &str, arch: &str, more: Value| {
        let file = folder(&config(model_type, more), &names).unwrap();
        let read = |key: &str| file.metadata.f32(&format!("{arch}.{key}")).unwrap();
        (read("attn_logit_softcapping"), read("final_logit_softcapping"), read("attention.scale"))
    };
    assert_eq!(caps("gemma2", "gemma2", json!({})), (Some(50.0), Some(30.0), Some(1.0 / 16.0)));
    assert_eq!(caps("gemma2", "gemma2", json!({"attn_logit_softcapping": null})), (Some(0.0), Some(30.0), Some(1.0 / 16.0)));
    let given = json!({"final_logit_softcapping": 7.5, "query_pre_attn_scalar": 64});
    assert_eq!(caps("gemma2", "gemma2", given), (Some(50.0), Some(7.5), Some(0.125)));
    assert_eq!(caps("gemma3_text", "gemma3", json!({})), (None, None, Some(1.0 / 16.0)));
}

#[test]
fn rope_scalings() {
    let names = FAMILIES[0].names();
    let llama3 = json!({"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "type": "llama3", "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}});
    let file = folder(&config("llama", llama3), &names).unwrap();
    let factors = f32s(&file, "rope_freqs.weight");
    // The same definition once more, in float64 and as frequencies.
    assert_eq!(factors.len(), 8);
    for (i, factor) in factors.iter().enumerate() {
        let frequency = 500_000f64.powf(-(i as f64) / 8.0);
        let turns = 64.0 * frequency / std::f64::consts::TAU;
        let kept = ((turns - 1.0) / 3.0).clamp(0.0, 1.0);
        let scaled = frequency * (kept + (1.0 - kept) / 8.0);
        let expected = frequency / scaled;
        assert!((f64::from(*factor) - expected).abs() < 1e-4 * expected, "pair {i}: {factor}, not {expected}");
    }
    assert!(factors[0] == 1.0 && factors[7] == 8.0 && factors.iter().any(|f| *f > 1.0 && *f < 8.0), "{factors:?}");

    let linear = json!({"rope_scaling": {"type": "linear", "factor": 4.0}});
    let file = folder(&config("llama", linear), &names).unwrap();
    assert_eq!(file.metadata.require_str("llama.rope.scaling.type").unwrap(), "linear");
    assert_eq!(file.metadata.require_f32("llama.rope.scaling.factor").unwrap(), 4.0);

    let long = json!({"max_position_embeddings": 128, "original_max_position_embeddings": 32, "partial_rotary_factor": 0.5,
        "rope_scaling": {"type": "longrope", "short_factor": [1, 1.5, 2, 2.5], "long_factor": [1, 4, 8, 16]}});
    let file = folder(&config("phi3", long), &names).unwrap();
    assert_eq!(file.metadata.require_u32("phi3.rope.dimension_count").unwrap(), 8);
    assert_eq!(file.metadata.require_u32("phi3.rope.scaling.original_context_length").unwrap(), 32);
    let magnitude = (1.0 + 4f32.ln() / 32f32.ln()).sqrt();
    assert!((file.metadata.require_f32("phi3.rope.scaling.attn_factor").unwrap() - magnitude).abs() < 1e-6);
    assert_eq!(f32s(&file, "rope_factors_short.weight"), [1.0, 1.5, 2.0, 2.5]);
    assert_eq!(f32s(&file, "rope_factors_long.weight"), [1.0, 4.0, 8.0, 16.0]);

    let gemma = json!({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}});
    let file = folder(&config("gemma3_text", gemma), &names).unwrap();
    assert_eq!(file.metadata.require_f32("gemma3.rope.freq_base").unwrap(), 1e6);
    assert_eq!(file.metadata.require_f32("gemma3.rope.freq_base_swa").unwrap(), 1e4);
    assert_eq!(file.metadata.require_f32("gemma3.rope.scaling.factor").unwrap(), 8.0);

    for (scaling, word) in [
        (json!({"type": "dynamic", "factor": 4.0}), "dynamic"),
        (json!({"type": "yarn", "factor": -4.0}), "factor"),
        (json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 0}), "original_max_position_embeddings"),
        (json!({"type": "yarn", "factor": 4.0, "attention_factor": -1.0}), "YaRN"),
        (json!({"rope_type": "linear"}), "factor"),
        (json!({"rope_type": "linear", "factor": 0.0}), "factor"),
        (json!({"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}), "short_factor"),
    ] {
        let error = folder(&config("phi3", json!({"rope_scaling": scaling})), &names).err().unwrap();
        assert!(error.message().contains(word) && error.message().contains("config.json"), "{error}");
    }
}

/// transformers' `_compute_yarn_parameters`, line by line in float64: frequencies and the attention factor.
fn yarn_twin(parameters: &Value, dim: usize, base: f64, max_position_embeddings: f64) -> (Vec<f64>, f64) {
    let get = |name: &str| parameters[name].as_f64();
    let original = get("original_max_position_embeddings").unwrap_or(max_position_embeddings);
    let factor = get("factor").unwrap_or(max_position_embeddings / original);
    let get_mscale = |scale: f64, mscale: f64| if scale <= 1.0 { 1.0 } else { 0.1 * mscale * scale.ln() + 1.0 };
    let attention_factor = get("attention_factor").unwrap_or_else(|| match (get("mscale"), get("mscale_all_dim")) {
        (Some(mscale), Some(all)) if mscale != 0.0 && all != 0.0 => get_mscale(factor, mscale) / get_mscale(factor, all),
        _ => get_mscale(factor, 1.0),
    });
    let correction_dim = |rotations: f64| (dim as f64 * (original / (rotations * 2.0 * std::f64::consts::PI)).ln()) / (2.0 * base.ln());
    let (mut low, mut high) = (correction_dim(get("beta_fast").unwrap_or(32.0)), correction_dim(get("beta_slow").unwrap_or(1.0)));
    if parameters["truncate"].as_bool().unwrap_or(true) {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(dim as f64 - 1.0));
    if low == high {
        high += 0.001;
    }
    let frequencies = (0..dim / 2).map(|i| {
        let pos_freq = base.powf(2.0 * i as f64 / dim as f64);
        let (extrapolation, interpolation) = (1.0 / pos_freq, 1.0 / (factor * pos_freq));
        let extrapolation_factor = 1.0 - ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
        interpolation * (1.0 - extrapolation_factor) + extrapolation * extrapolation_factor
    });
    (frequencies.collect(), attention_factor)
}

#[test]
fn yarn_is_as_transformers_computes_it() {
    let names = ["model.norm.weight".to_owned()];
    for parameters in [
        json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}),
        json!({"rope_type": "yarn", "factor": 4.0}),
        json!({"rope_type": "yarn", "original_max_position_embeddings": 4096}),
        json!({"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": false, "original_max_position_embeddings": 4096}),
        json!({"rope_type": "yarn", "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096}),
        json!({"rope_type": "yarn", "factor": 8.0, "attention_factor": 0.75, "beta_fast": 16.0, "beta_slow": 2.0}),
        json!({"rope_type": "yarn", "factor": 1.0}),
        json!({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 40}),
    ] {
        for (model, arch) in [("llama", "llama"), ("qwen2", "qwen2"), ("qwen3", "qwen3")] {
            let more = json!({"rope_scaling": parameters, "max_position_embeddings": 131072, "rope_theta": 1e6, "head_dim": 64,
                "hidden_size": 256, "num_attention_heads": 4});
            let file = folder(&config(model, more), &names).unwrap();
            let (wanted, magnitude) = yarn_twin(&parameters, 64, 1e6, 131_072.0);
            let divisors = f32s(&file, "rope_freqs.weight");
            assert_eq!(divisors.len(), wanted.len());
            for (pair, (divisor, wanted)) in divisors.iter().zip(wanted).enumerate() {
                let got = 1e6f64.powf(-2.0 * pair as f64 / 64.0) / f64::from(*divisor);
                assert!((got - wanted).abs() <= 1e-6 * wanted, "{parameters}, pair {pair}: {got} is not {wanted}");
            }
            let got = file.metadata.require_f32(&format!("{arch}.rope.scaling.attn_factor")).unwrap();
            assert!((f64::from(got) - magnitude).abs() < 1e-6, "{parameters}: {got} is not {magnitude}");
            assert_eq!(file.metadata.str(&format!("{arch}.rope.scaling.type")).unwrap(), None, "scaled once");
        }
    }
}

#[test]
fn wrapped_models_and_leftovers() {
    let text = config("gemma3_text", json!({"head_dim": 16}));
    let whole = json!({"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 9}, "eos_token_id": [1, 106]});
    for prefix in ["language_model.model.", "model.language_model."] {
        let names = [format!("{prefix}norm.weight"), "vision_tower.x.weight".into(), "multi_modal_projector.y".into()];
        let file = folder(&whole, &names).unwrap();
        assert_eq!(file.tensors().iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["output_norm.weight"]);
        assert_eq!(file.metadata.u32s("firecrest.eos_token_ids").unwrap(), Some(vec![1, 106]));
    }
    let bert = ["bert.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.beta", "cls.predictions.bias", "bert.pooler.dense.weight"];
    let file = folder(&config("bert", json!({})), &bert.map(str::to_owned)).unwrap();
    let names: Vec<&str> = file.tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["token_embd_norm.weight", "token_embd_norm.bias"]);
}

#[test]
fn tied_heads() {
    let head = |tied: Value, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|s| (*s).to_owned()).collect();
        folder(&config("llama", json!({"tie_word_embeddings": tied})), &names).map(|f| f.tensor("output.weight").is_some())
    };
    assert!(!head(json!(true), &["model.embed_tokens.weight", "lm_head.weight"]).unwrap(), "a tied head is the embedding's");
    assert!(head(json!(false), &["model.embed_tokens.weight", "lm_head.weight"]).unwrap());
    assert!(head(Value::Null, &["model.embed_tokens.weight", "lm_head.weight"]).unwrap());
    assert!(!head(Value::Null, &["model.embed_tokens.weight"]).unwrap());
    let error = head(json!(false), &["model.embed_tokens.weight"]).unwrap_err();
    assert!(error.message().contains("lm_head.weight"), "{error}");
}

#[test]
fn token_ids_from_both_configurations() {
    let weights = SafetensorsWriter::new().f32s("model.norm.weight", &[3], &[1.0; 3]).finish();
    let config = config("llama", json!({"bos_token_id": 5, "eos_token_id": 7, "pad_token_id": -1}));
    let file = open(vec![
        ("model.safetensors".into(), weights),
        ("config.json".into(), config.to_string().into_bytes()),
        ("generation_config.json".into(), br#"{"eos_token_id":[8,7,9]}"#.to_vec()),
    ])
    .unwrap();
    assert_eq!(file.metadata.u32("tokenizer.ggml.bos_token_id").unwrap(), Some(5));
    assert_eq!(file.metadata.u32("tokenizer.ggml.eos_token_id").unwrap(), Some(7));
    assert_eq!(file.metadata.u32("tokenizer.ggml.padding_token_id").unwrap(), None);
    assert_eq!(file.metadata.u32s("firecrest.eos_token_ids").unwrap(), Some(vec![8, 7, 9]));
}

#[test]
fn shards_and_their_index() {
    let shard = |name: &str| SafetensorsWriter::new().f32s(name, &[2], &[1.0, 2.0]).finish();
    let map = |entries: Value| json!({"metadata": {"total_size": 16}, "weight_map": entries}).to_string().into_bytes();
    let with = |index: Vec<u8>| {
        open(vec![
            ("model-00001-of-00002.safetensors".into(), shard("model.norm.weight")),
            ("model-00002-of-00002.safetensors".into(), shard("model.embed_tokens.weight")),
            ("consolidated.safetensors".into(), shard("norm.weight")),
            ("model.safetensors.index.json".into(), index),
            ("config.json".into(), config("llama", json!({})).to_string().into_bytes()),
        ])
    };
    let both =
        json!({"model.norm.weight": "model-00001-of-00002.safetensors", "model.embed_tokens.weight": "model-00002-of-00002.safetensors"});
    let file = with(map(both)).unwrap();
    assert_eq!(file.tensors().iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["output_norm.weight", "token_embd.weight"]);
    assert_eq!(f32s(&file, "token_embd.weight"), [1.0, 2.0]);
    for (index, words) in [
        (map(json!({"a": "model-00003-of-00003.safetensors"})), "model-00003"),
        (map(json!({"model.norm.weight": "model-00002-of-00002.safetensors"})), "lacks the tensor `model.norm.weight`"),
        (map(json!({"gone": "model-00001-of-00002.safetensors"})), "`gone`"),
        (br#"{"metadata":{}}"#.to_vec(), "weight_map"),
        (b"[".to_vec(), "model.safetensors.index.json"),
    ] {
        let error = with(index).err().unwrap();
        assert!(error.message().contains(words) && error.message().contains("index.json"), "{error}");
    }
}

#[test]
fn what_is_not_run_is_said() {
    let names = FAMILIES[0].names();
    for (config, words) in [
        (config("mamba", json!({})), ["`mamba`", "llama"]),
        (config("llama", json!({"quantization_config": {"quant_method": "gptq"}})), ["quantised", "GGUF"]),
        (config("llama", json!({"hidden_act": "relu"})), ["`relu`", "silu"]),
        (config("bert", json!({"position_embedding_type": "relative_key"})), ["positions", "bert"]),
        (config("nomic_bert", json!({"rotary_emb_fraction": 0.5})), ["nomic_bert", "rotates"]),
    ] {
        let error = folder(&config, &names).err().unwrap();
        assert_eq!(error.code(), ErrorCode::Unsupported);
        words.iter().for_each(|word| assert!(error.message().contains(word), "no {word} in {error}"));
    }
    for (config, word) in [
        (json!({}), "model_type"),
        (json!({"model_type": "llama"}), "hidden_size"),
        (json!({"model_type": "llama", "hidden_size": -1}), "line 1"),
        (config("llama", json!({"num_hidden_layers": 4_000_000_000u32})), "layers"),
        (config("llama", json!({"num_attention_heads": 0})), "heads"),
        (config("llama", json!({"hidden_size": 4_000_000_000u32})), "1000000000 values"),
        (config("llama", json!({"head_dim": 0})), "0 values"),
    ] {
        let error = folder(&config, &names).err().unwrap();
        assert_eq!(error.code(), ErrorCode::Malformed, "{error}");
        assert!(error.message().contains("config.json") && error.message().contains(word), "{error}");
    }
}

#[test]
fn stages_behind_a_model_are_run_or_refused() {
    let weights = || SafetensorsWriter::new().f32s("embeddings.LayerNorm.weight", &[3], &[0.25, 0.5, -1.0]).finish();
    let open = |modules: &Value, pooling: bool| {
        let mut files = vec![
            ("model.safetensors".to_owned(), weights()),
            ("config.json".to_owned(), config("bert", json!({})).to_string().into_bytes()),
            ("modules.json".to_owned(), modules.to_string().into_bytes()),
        ];
        files.extend(pooling.then(|| ("1_Pooling/config.json".to_owned(), br#"{"pooling_mode_cls_token": true}"#.to_vec())));
        open(files).map(drop)
    };
    let module =
        |kind: &str, path: &str| json!({"idx": 0, "name": "0", "path": path, "type": format!("sentence_transformers.models.{kind}")});
    let usual = json!([module("Transformer", ""), module("Pooling", "1_Pooling"), module("Normalize", "2_Normalize")]);
    open(&usual, true).unwrap();
    let error = open(&usual, false).unwrap_err();
    assert!(error.code() == ErrorCode::Malformed && error.message().contains("1_Pooling/config.json is missing"), "{error}");
    let error = open(&json!([module("Transformer", ""), module("Pooling", "1_Pooling"), module("Dense", "2_Dense")]), true).unwrap_err();
    assert!(error.code() == ErrorCode::Unsupported && error.message().contains("2_Dense"), "{error}");
    assert_eq!(open(&json!({"a": 1}), true).unwrap_err().code(), ErrorCode::Malformed);
}
