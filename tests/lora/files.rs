use firecrest_engine::file::ModelFile;
use firecrest_engine::model::{Config, Model};
use firecrest_engine::quant::GgmlType;
use firecrest_tests::SafetensorsWriter;
use firecrest_tests::interpreter::{Inputs, KvPrecision};
use firecrest_tests::random::Random;
use firecrest_tests::random_adapters::{RandomAdapter, open_adapter, open_gguf, permute};
use firecrest_tests::runner::Reference;
use firecrest_weights::{ByteSource, MemorySource};
use serde_json::json;

/// A llama as Hugging Face lays it out, one layer.
fn folder() -> ModelFile {
    let mut random = Random::new(9);
    let (dim, ff, kv, vocab) = (32, 48, 16, 24);
    let mut writer = SafetensorsWriter::new();
    let layer = "model.layers.0";
    for (name, shape) in [
        ("model.embed_tokens.weight".to_owned(), vec![vocab, dim]),
        ("model.norm.weight".to_owned(), vec![dim]),
        ("lm_head.weight".to_owned(), vec![vocab, dim]),
        (format!("{layer}.input_layernorm.weight"), vec![dim]),
        (format!("{layer}.post_attention_layernorm.weight"), vec![dim]),
        (format!("{layer}.self_attn.q_proj.weight"), vec![dim, dim]),
        (format!("{layer}.self_attn.k_proj.weight"), vec![kv, dim]),
        (format!("{layer}.self_attn.v_proj.weight"), vec![kv, dim]),
        (format!("{layer}.self_attn.o_proj.weight"), vec![dim, dim]),
        (format!("{layer}.mlp.gate_proj.weight"), vec![ff, dim]),
        (format!("{layer}.mlp.up_proj.weight"), vec![ff, dim]),
        (format!("{layer}.mlp.down_proj.weight"), vec![dim, ff]),
    ] {
        writer = writer.f32s(&name, &shape, &random.values(shape.iter().product(), 0.3));
    }
    let config = json!({
        "model_type": "llama", "hidden_size": dim, "intermediate_size": ff, "num_hidden_layers": 1, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": vocab, "rms_norm_eps": 1e-5, "tie_word_embeddings": false, "max_position_embeddings": 64,
    });
    let files = [("model.safetensors", writer.finish()), ("config.json", config.to_string().into_bytes())];
    let sources = files.into_iter().map(|(name, bytes)| -> Box<dyn ByteSource> { Box::new(MemorySource::new(name, bytes)) });
    pollster::block_on(ModelFile::open(sources.collect())).unwrap()
}

#[test]
fn rows_of_q_and_k_take_the_order_of_the_base() {
    let file = folder();
    let mut target = Reference::new(KvPrecision::F64, Inputs::Exact);
    let config = Config::from_file(&file).unwrap();
    let model = pollster::block_on(Model::load_configured(config, &file, &mut target, &mut |_, _| {})).unwrap();
    let adapter = RandomAdapter::of(&file, 1, 3, false, |_| true);
    assert_eq!((adapter.pairs.len(), adapter.head_dim), (8, 8));
    let scale = adapter.alpha / 3.0;
    for (opened, theirs) in
        [(open_adapter(adapter.peft(json!({}))).unwrap(), true), (open_gguf(adapter.gguf(GgmlType::F32)).unwrap(), false)]
    {
        let weights = pollster::block_on(model.read_adapter(&opened, 1.0)).unwrap();
        assert_eq!(weights.parts.len(), 8, "peft: {theirs}");
        for part in &weights.parts {
            let pair = adapter.pairs.iter().find(|p| p.name == part.name).unwrap();
            // Hugging Face's base has its rows as PEFT has them; a GGUF adapter's go back to that.
            let b = if adapter.permutes(pair) { permute(&pair.b, pair.rank, 8) } else { pair.b.clone() };
            let wanted: Vec<f32> = b.iter().map(|v| v * scale).collect();
            assert!(part.a == pair.a && part.b == wanted, "{} (peft: {theirs})", part.name);
        }
    }
}

#[test]
fn what_is_said_of_an_adapter_is_so() {
    let file = folder();
    let adapter = RandomAdapter::of(&file, 1, 6, true, |name| name.contains("attn"));
    let opened = open_gguf(adapter.gguf(GgmlType::F16)).unwrap();
    assert_eq!((opened.name(), opened.adapted(), opened.ranks()), ("adapter.gguf", 4, (5, 6)));
    assert_eq!(opened.architecture(), Some("llama"));
}
