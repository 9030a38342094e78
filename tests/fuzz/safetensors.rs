//! Safetensors folders made by chance, most of them nearly right, then damaged: header, configuration, index, tokenizer.

use firecrest_tests::random::Random;

use crate::mutate::{damage, damage_json};
use crate::open::open_and_read;

const CONFIGS: [&str; 8] = [
    r#"{"model_type":"llama","hidden_size":32,"num_hidden_layers":1,"num_attention_heads":4,"num_key_value_heads":2,"intermediate_size":64,"rms_norm_eps":1e-5,"rope_theta":500000.0,"vocab_size":16,"hidden_act":"silu","rope_scaling":{"factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192,"rope_type":"llama3"},"eos_token_id":[1,2],"bos_token_id":0,"tie_word_embeddings":false}"#,
    r#"{"model_type":"mistral","hidden_size":32,"num_hidden_layers":1,"num_attention_heads":4,"intermediate_size":64,"sliding_window":null,"eos_token_id":2}"#,
    r#"{"model_type":"qwen3","hidden_size":32,"num_hidden_layers":1,"num_attention_heads":4,"intermediate_size":64,"head_dim":16,"use_sliding_window":false,"sliding_window":4096,"tie_word_embeddings":true}"#,
    r#"{"model_type":"gemma2","hidden_size":32,"num_hidden_layers":2,"num_attention_heads":4,"intermediate_size":64,"head_dim":8,"attn_logit_softcapping":50.0,"final_logit_softcapping":null,"query_pre_attn_scalar":8,"hidden_activation":"gelu_pytorch_tanh"}"#,
    r#"{"model_type":"gemma3","text_config":{"model_type":"gemma3_text","hidden_size":32,"num_hidden_layers":2,"intermediate_size":64,"layer_types":["sliding_attention","full_attention"],"rope_parameters":{"full_attention":{"rope_type":"linear","factor":8.0,"rope_theta":1e6},"sliding_attention":{"rope_theta":1e4}}}}"#,
    r#"{"model_type":"phi3","hidden_size":32,"num_hidden_layers":1,"num_attention_heads":4,"intermediate_size":64,"max_position_embeddings":128,"original_max_position_embeddings":32,"rope_scaling":{"type":"longrope","short_factor":[1,1.1,1.2,1.3],"long_factor":[1,2,3,4]}}"#,
    r#"{"model_type":"bert","hidden_size":32,"num_hidden_layers":1,"num_attention_heads":4,"intermediate_size":64,"layer_norm_eps":1e-12,"hidden_act":"gelu","type_vocab_size":2}"#,
    r#"{"model_type":"nomic_bert","n_embd":32,"n_layer":1,"n_head":4,"n_inner":64,"layer_norm_epsilon":1e-12,"rotary_emb_base":1000,"rotary_emb_fraction":1.0,"activation_function":"swiglu"}"#,
];

const NAMES: [&str; 10] = [
    "model.embed_tokens.weight",
    "lm_head.weight",
    "model.norm.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.post_attention_layernorm.weight",
    "language_model.model.layers.1.mlp.down_proj.weight",
    "bert.encoder.layer.0.output.LayerNorm.gamma",
    "encoder.layers.0.attn.Wqkv.bias",
    "vision_tower.patch.weight",
    "something else",
];

/// A weight file; `names` gets the names it holds.
fn weights(names: &mut Vec<String>, random: &mut Random) -> Vec<u8> {
    let mut header = String::from("{");
    let mut data = Vec::new();
    let first = random.below(NAMES.len());
    for i in 0..random.below(5) {
        let name = match random.below(32) {
            0 => (*random.pick(&NAMES)).to_owned(),
            1..8 => format!("tensor {first} {i}"),
            _ => NAMES[(first + i) % NAMES.len()].to_owned(),
        };
        let (dtype, bytes) = *random.pick(&[("F32", 4), ("F16", 2), ("BF16", 2), ("I64", 8), ("U8", 1), ("F8_E4M3", 1)]);
        let (rows, columns) = (random.below(4), random.below(9));
        let begin = data.len();
        data.extend((0..rows * columns * bytes).map(|_| random.bits() as u8 & 0x3f));
        let comma = if i == 0 { "" } else { "," };
        header += &format!(r#"{comma}"{name}":{{"dtype":"{dtype}","shape":[{rows},{columns}],"data_offsets":[{begin},{}]}}"#, data.len());
        names.push(name);
    }
    header.push('}');
    if random.one_in(3) {
        damage_json(&mut header, random);
    }
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    let head = bytes.len();
    bytes.extend_from_slice(&data);
    if random.one_in(4) {
        damage(&mut bytes, head, random);
    }
    bytes
}

fn json(text: &str, random: &mut Random) -> Vec<u8> {
    let mut text = text.to_owned();
    if random.one_in(2) {
        damage_json(&mut text, random);
    }
    let mut bytes = text.into_bytes();
    if random.one_in(32) {
        let head = bytes.len();
        damage(&mut bytes, head, random);
    }
    bytes
}

/// The folder of one case.
fn folder(case: usize) -> Vec<(String, Vec<u8>)> {
    let random = &mut Random::new(case as u64);
    let mut files = Vec::new();
    let mut index = String::from(r#"{"metadata":{"total_size":1},"weight_map":{"#);
    let shards = 1 + random.below(2);
    for shard in 1..=shards {
        let name = if shards == 1 { "model.safetensors".into() } else { format!("model-0000{shard}-of-00002.safetensors") };
        let mut names = Vec::new();
        let bytes = weights(&mut names, random);
        for tensor in names {
            let comma = if index.ends_with('{') { "" } else { "," };
            index += &format!(r#"{comma}"{tensor}":"{name}""#);
        }
        files.push((name, bytes));
    }
    index += "}}";
    if random.one_in(4) {
        files.push(("model.safetensors.index.json".into(), json(&index, random)));
    }
    if !random.one_in(8) {
        files.push(("config.json".into(), json(random.pick::<&str>(&CONFIGS), random)));
    }
    if random.one_in(4) {
        files.push(("generation_config.json".into(), json(r#"{"bos_token_id":1,"eos_token_id":[2,3],"temperature":0.6}"#, random)));
    }
    if random.one_in(4) {
        let config = r#"{"chat_template":[{"name":"default","template":"{{ messages }}"},{"name":"rag","template":""}],"bos_token":"<s>"}"#;
        files.push(("tokenizer_config.json".into(), json(config, random)));
    }
    if random.one_in(8) {
        files.push(("1_Pooling/config.json".into(), json(r#"{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":false}"#, random)));
    }
    if random.one_in(8) {
        files.push(("tokenizer.json".into(), json(r#"{"model":{}}"#, random)));
    }
    files
}

#[test]
fn safetensors() {
    crate::sweep("safetensors", |case| open_and_read(folder(case)));
}
