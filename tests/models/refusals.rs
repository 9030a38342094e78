//! Files that a model cannot be made of: each error names the key or tensor, what it is, and what it should be.

use firecrest_engine::backend::{MatrixId, MatrixSpec, VectorId};
use firecrest_engine::model::{Config, Model, PlanKind, WeightTarget};
use firecrest_engine::quant::Format;
use firecrest_engine::{Error, ErrorCode, Result};
use firecrest_tests::GgufWriter;
use firecrest_tests::interpreter::{Inputs, KvPrecision};
use firecrest_tests::random_models::{RandomModel, open_bytes};
use firecrest_tests::runner::{Reference, Session};

/// What loading says of a file.
fn refusal(writer: GgufWriter) -> Error {
    let file = open_bytes("refused.gguf", writer.finish()).unwrap();
    let config = match Config::from_file(&file) {
        Ok(config) => config,
        Err(e) => return e,
    };
    let mut target = Reference::new(KvPrecision::F16, Inputs::Exact);
    pollster::block_on(Model::load_configured(config, &file, &mut target, &mut |_, _| {})).expect_err("the file was taken")
}

fn says(error: &Error, words: &[&str]) {
    for word in words {
        assert!(error.message().contains(word), "{:?} does not say {word:?}", error.message());
    }
}

/// Metadata of a llama, whole but for one key.
fn minimal(without: &str) -> GgufWriter {
    metadata(without).tensor_f32("token_embd.weight", &[8, 32], Format::F32, &[0.5; 256])
}

/// Whole metadata, and a table of `vocab` rows.
fn whole(vocab: usize) -> GgufWriter {
    metadata("").tensor_f32("token_embd.weight", &[vocab, 32], Format::F32, &vec![0.5; vocab * 32])
}

fn metadata(without: &str) -> GgufWriter {
    let numbers = [
        ("llama.context_length", 64),
        ("llama.embedding_length", 32),
        ("llama.block_count", 1),
        ("llama.feed_forward_length", 32),
        ("llama.attention.head_count", 2),
    ];
    let writer = numbers
        .iter()
        .filter(|(k, _)| *k != without)
        .fold(GgufWriter::new().str("general.architecture", "llama"), |w, (k, v)| w.u32(k, *v));
    if without == "llama.attention.layer_norm_rms_epsilon" {
        return writer;
    }
    writer.f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
}

#[test]
fn an_unknown_architecture_lists_those_known() {
    let error = refusal(GgufWriter::new().str("general.architecture", "mamba"));
    assert_eq!(error.code(), ErrorCode::Unsupported);
    says(&error, &["mamba", "llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "bert", "nomic-bert"]);
}

#[test]
fn missing_keys_are_named() {
    for key in [
        "llama.context_length",
        "llama.embedding_length",
        "llama.block_count",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
    ] {
        says(&refusal(minimal(key)), &[key]);
    }
}

#[test]
fn absurd_numbers_are_refused() {
    let cases: [(&str, u32); 6] = [
        ("llama.block_count", 0),
        ("llama.block_count", u32::MAX),
        ("llama.embedding_length", 0),
        ("llama.attention.head_count", 0),
        ("llama.attention.head_count_kv", 0),
        ("llama.rope.dimension_count", 15),
    ];
    for (key, value) in cases {
        let error = refusal(minimal(key).u32(key, value));
        assert_eq!(error.code(), ErrorCode::Malformed, "{key} = {value}: {}", error.message());
        says(&error, &[key, &value.to_string()]);
    }
    says(&refusal(minimal("").u32("llama.attention.head_count_kv", 3)), &["head_count", "3", "divide"]);
    says(&refusal(minimal("").f32("llama.rope.freq_base", -1.0)), &["llama.rope.freq_base", "-1"]);
    says(&refusal(minimal("").str("llama.rope.freq_base", "high")), &["llama.rope.freq_base"]);
    says(&refusal(minimal("").u32("llama.pooling_type", 9)), &["llama.pooling_type", "9"]);
    let scaled = minimal("").str("llama.rope.scaling.type", "spiral").f32("llama.rope.scaling.factor", 2.0);
    says(&refusal(scaled), &["llama.rope.scaling.type", "spiral"]);
    says(&refusal(minimal("").u32("llama.expert_count", 8)), &["llama.expert_count"]);
}

#[test]
fn a_missing_or_mis_shaped_tensor_is_named_with_its_shape() {
    says(&refusal(minimal("")), &["blk.0.attn_norm.weight", "missing", "[32]"]);
    let wrong = minimal("").tensor_f32("blk.0.attn_norm.weight", &[31], Format::F32, &[0.5; 31]);
    says(&refusal(wrong), &["blk.0.attn_norm.weight", "[31]", "[32]"]);
    let norm = minimal("").tensor_f32("blk.0.attn_norm.weight", &[32], Format::F32, &[0.5; 32]);
    let wrong = norm.tensor_f32("blk.0.attn_q.weight", &[16, 32], Format::F32, &[0.5; 512]);
    says(&refusal(wrong), &["blk.0.attn_q.weight", "[16, 32]", "[32, 32]"]);
}

#[test]
fn wrong_rope_factors_are_refused() {
    let short = RandomModel::of("qwen2", Format::F32, false).tensor_f32("rope_freqs.weight", &[3], Format::F32, &[1.0; 3]);
    says(&refusal(short), &["rope_freqs.weight", "[3]", "[8]"]);
    let zero = RandomModel::of("qwen2", Format::F32, false).tensor_f32("rope_freqs.weight", &[8], Format::F32, &[0.0; 8]);
    says(&refusal(zero), &["rope factor", "0"]);
}

#[test]
fn contexts_have_bounds_and_encoders_no_logits() {
    let file = open_bytes("bert", RandomModel::of("bert", Format::F32, false).finish()).unwrap();
    let config = Config::from_file(&file).unwrap();
    says(&config.clone().with_context(65).unwrap_err(), &["65", "64"]);
    says(&config.clone().with_context(0).unwrap_err(), &["0"]);
    let session = Session::open(Reference::new(KvPrecision::F16, Inputs::Exact), &file, config).unwrap();
    says(&session.model.plan(PlanKind::Logits).unwrap_err(), &["bert", "encoder"]);
}

/// Counts bytes on their way to a target: all, and the most at once.
#[derive(Default)]
struct Measure {
    largest: usize,
    bytes: usize,
}

impl WeightTarget for Measure {
    fn matrix(&mut self, _: &MatrixSpec) -> Result<MatrixId> {
        Ok(MatrixId(0))
    }

    fn write_rows(&mut self, _: MatrixId, _: usize, blocks: &[u8]) -> Result<()> {
        self.largest = self.largest.max(blocks.len());
        self.bytes += blocks.len();
        Ok(())
    }

    fn vector(&mut self, _: &str, _: &[f32]) -> Result<VectorId> {
        Ok(VectorId(0))
    }
}

#[test]
fn weights_come_in_chunks_and_progress_ends_at_its_total() {
    let vocab = 40_000; // a table of 5 MB: two chunks
    let names = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
    let writer = names.iter().fold(whole(vocab), |w, n| w.tensor_f32(&format!("blk.0.{n}.weight"), &[32, 32], Format::F32, &[0.1; 1024]));
    let norms = ["blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"];
    let writer = norms.iter().fold(writer, |w, n| w.tensor_f32(n, &[32], Format::F32, &[1.0; 32]));
    let file = open_bytes("chunks.gguf", writer.finish()).unwrap();
    let config = Config::from_file(&file).unwrap();
    let mut seen = Vec::new();
    let mut measure = Measure::default();
    let progress = &mut |done, total| seen.push((done, total));
    pollster::block_on(Model::load_configured(config, &file, &mut measure, progress)).unwrap();
    assert!(measure.largest <= 4 << 20, "{}", measure.largest);
    assert_eq!(measure.bytes, (vocab + 7 * 32) * 32 * 4, "a tied table is uploaded once");
    assert_eq!(seen.last(), Some(&(measure.bytes as u64, measure.bytes as u64)));
    assert!(seen.is_sorted());
}
