//! Tiny model files of every family, random weights, made in memory: what the normal test run judges loading and planning on.
//!
//! `tests/oracle/models.py` makes larger ones that llama.cpp judges too. Keys and names are GGUF's.

use firecrest_engine::file::ModelFile;
use firecrest_engine::quant::Format;
use firecrest_engine::{Error, Result};
use firecrest_weights::MemorySource;

use crate::GgufWriter;
use crate::random::Random;

/// Tokens of every tiny model.
pub const VOCAB: usize = 96;
/// Positions each was "trained" for.
pub const CONTEXT: u32 = 64;

const DIM: usize = 64;
const FF: usize = 96;
const HEADS: usize = 4;

/// The families, and what a case of each is called.
pub const FAMILIES: [&str; 9] = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "bert", "nomic-bert"];

/// A tiny model's file in the making: what differs by family is in [`RandomModel::of`].
pub struct RandomModel {
    architecture: &'static str,
    writer: GgufWriter,
    random: Random,
    format: Format,
    layers: usize,
}

impl RandomModel {
    /// The file of a family, matrices in `format` (V of every second layer in Q8_0 where `mixed`, so that Q, K and V differ).
    ///
    /// # Panics
    /// Where the family is not one of [`FAMILIES`].
    pub fn of(family: &str, format: Format, mixed: bool) -> GgufWriter {
        let architecture = match family {
            "mistral" | "llama" => "llama",
            "qwen2" => "qwen2",
            "qwen3" => "qwen3",
            "gemma2" => "gemma2",
            "gemma3" => "gemma3",
            "phi3" => "phi3",
            "bert" => "bert",
            "nomic-bert" => "nomic-bert",
            other => panic!("no tiny model of family {other}"),
        };
        let encoder = architecture.ends_with("bert");
        let gemma = architecture.starts_with("gemma");
        let head_dim = if matches!(family, "qwen3" | "gemma2") { 32 } else { 16 };
        let kv_heads = if encoder { HEADS } else { 2 };
        let layers = if family == "gemma3" { 6 } else { 2 };
        let writer = GgufWriter::new().str("general.architecture", architecture);
        let seed = family.bytes().fold(7, |seed, b| seed * 31 + u64::from(b));
        let mut model = RandomModel { architecture, writer, random: Random::new(seed), format, layers };

        for (key, value) in [
            ("context_length", CONTEXT),
            ("embedding_length", DIM as u32),
            ("block_count", layers as u32),
            ("feed_forward_length", FF as u32),
            ("attention.head_count", HEADS as u32),
            ("attention.head_count_kv", kv_heads as u32),
            ("attention.key_length", head_dim as u32),
            ("attention.value_length", head_dim as u32),
        ] {
            model.u32(key, value);
        }
        model.f32(if encoder { "attention.layer_norm_epsilon" } else { "attention.layer_norm_rms_epsilon" }, 1e-5);
        match family {
            "llama" => model.divisors("rope_freqs", head_dim, 4.0),
            "mistral" => model.u32("attention.sliding_window", 7),
            "gemma2" => {
                model.u32("attention.sliding_window", 9);
                model.f32("attn_logit_softcapping", 3.0);
                model.f32("final_logit_softcapping", 2.0);
            }
            "gemma3" => {
                model.u32("attention.sliding_window", 6);
                model.f32("rope.freq_base", 1e6);
                model.f32("rope.scaling.factor", 4.0);
            }
            "phi3" => {
                model.u32("rope.dimension_count", 12);
                model.u32("rope.scaling.original_context_length", 16);
                model.f32("rope.scaling.attn_factor", 1.2);
                model.divisors("rope_factors_long", 12, 8.0);
                model.divisors("rope_factors_short", 12, 1.5);
            }
            "bert" | "nomic-bert" => model.u32("pooling_type", 1),
            _ => {}
        }

        model.matrix("token_embd", VOCAB, DIM, if gemma { 0.5 } else { 4.0 });
        if encoder {
            model.float_matrix("token_types", 2, 4.0);
            model.norm("token_embd_norm", DIM, true);
        }
        if family == "bert" {
            model.float_matrix("position_embd", CONTEXT as usize, 8.0);
        }
        for layer in 0..layers {
            model.block(family, layer, head_dim, kv_heads, mixed);
        }
        if !encoder {
            model.norm("output_norm", DIM, false);
        }
        if matches!(family, "mistral" | "phi3" | "qwen3") {
            model.matrix("output", VOCAB, DIM, 2.0);
        }
        model.writer
    }

    fn block(&mut self, family: &str, layer: usize, head_dim: usize, kv_heads: usize, mixed: bool) {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let (encoder, gemma) = (self.architecture.ends_with("bert"), self.architecture.starts_with("gemma"));
        let norms: &[&str] = match (encoder, gemma) {
            (true, _) => &["attn_output_norm", "layer_output_norm"],
            (_, true) => &["attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm"],
            _ => &["attn_norm", "ffn_norm"],
        };
        norms.iter().for_each(|n| self.norm(&name(n), DIM, encoder));
        let (q, kv) = (HEADS * head_dim, kv_heads * head_dim);
        if matches!(family, "phi3" | "nomic-bert") {
            self.matrix(&name("attn_qkv"), q + 2 * kv, DIM, 2.0);
        } else {
            let format = self.format;
            for (part, rows, gain) in [("attn_q", q, 3.0), ("attn_k", kv, 3.0), ("attn_v", kv, 1.0)] {
                if mixed && part == "attn_v" && layer % 2 == 1 {
                    self.format = Format::Q8_0;
                }
                self.matrix(&name(part), rows, DIM, gain);
                if matches!(family, "qwen2" | "bert") {
                    self.bias(&name(part), rows);
                }
            }
            self.format = format;
        }
        if matches!(family, "qwen3" | "gemma3") {
            self.norm(&name("attn_q_norm"), head_dim, false);
            self.norm(&name("attn_k_norm"), head_dim, false);
        }
        self.matrix(&name("attn_output"), DIM, q, 1.0);
        match family {
            "phi3" => self.matrix(&name("ffn_up"), 2 * FF, DIM, 1.0),
            "bert" => self.matrix(&name("ffn_up"), FF, DIM, 1.0),
            _ => {
                self.matrix(&name("ffn_up"), FF, DIM, 1.0);
                let format = self.format;
                if mixed && layer % 2 == 1 {
                    self.format = Format::F16;
                }
                self.matrix(&name("ffn_gate"), FF, DIM, 1.0);
                self.format = format;
            }
        }
        self.matrix(&name("ffn_down"), DIM, FF, 1.0);
        if family == "bert" {
            self.bias(&name("attn_output"), DIM);
            self.bias(&name("ffn_up"), FF);
            self.bias(&name("ffn_down"), DIM);
        }
    }

    fn add(&mut self, add: impl FnOnce(GgufWriter) -> GgufWriter) {
        self.writer = add(std::mem::take(&mut self.writer));
    }

    fn u32(&mut self, key: &str, value: u32) {
        let key = format!("{}.{key}", self.architecture);
        self.add(|w| w.u32(&key, value));
    }

    fn f32(&mut self, key: &str, value: f32) {
        let key = format!("{}.{key}", self.architecture);
        self.add(|w| w.f32(&key, value));
    }

    fn values(&mut self, count: usize, middle: f32, spread: f32) -> Vec<f32> {
        (0..count).map(|_| middle + spread * self.random.value()).collect()
    }

    /// Uniform weights, scaled so that a unit input gives outputs of about `gain / √3`.
    fn matrix(&mut self, name: &str, rows: usize, columns: usize, gain: f32) {
        let values = self.values(rows * columns, 0.0, gain / (columns as f32).sqrt());
        let format = self.format;
        self.add(|w| w.tensor_f32(&format!("{name}.weight"), &[rows, columns], format, &values));
    }

    /// A table that files keep in floats.
    fn float_matrix(&mut self, name: &str, rows: usize, gain: f32) {
        let format = std::mem::replace(&mut self.format, Format::F32);
        self.matrix(name, rows, DIM, gain);
        self.format = format;
    }

    fn vector(&mut self, name: &str, values: &[f32]) {
        self.add(|w| w.tensor_f32(name, &[values.len()], Format::F32, values));
    }

    fn bias(&mut self, name: &str, width: usize) {
        let values = self.values(width, 0.0, 0.5);
        self.vector(&format!("{name}.bias"), &values);
    }

    fn norm(&mut self, name: &str, width: usize, bias: bool) {
        let values = self.values(width, 1.0, 0.4);
        self.vector(&format!("{name}.weight"), &values);
        if bias {
            self.bias(name, width);
        }
    }

    fn divisors(&mut self, name: &str, rotated: usize, most: f32) {
        let pairs = rotated / 2;
        let values: Vec<f32> = (0..pairs).map(|i| 1.0 + (most - 1.0) * i as f32 / pairs as f32).collect();
        self.vector(&format!("{name}.weight"), &values);
    }

    /// How many layers it has.
    pub fn layers(&self) -> usize {
        self.layers
    }
}

/// Opens a file that stands in memory.
pub fn open_bytes(name: &str, bytes: Vec<u8>) -> Result<ModelFile> {
    let source = MemorySource::new(name, bytes);
    pollster::block_on(ModelFile::open(vec![Box::new(source)])).map_err(|e: Error| e)
}
