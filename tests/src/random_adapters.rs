//! Random LoRA adapters of tiny models, in every form that files have, and merged into the base's own weights.

use firecrest_engine::Result;
use firecrest_engine::file::{AdapterFile, ModelFile};
use firecrest_engine::quant::{Format, GgmlType, dequantise, quantise};
use firecrest_weights::{ByteSource, MemorySource};
use serde_json::{Value, json};

use crate::random::Random;
use crate::{GgufWriter, SafetensorsWriter};

/// One adapted matrix.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The base tensor's GGUF name.
    pub name: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub columns: usize,
    /// The rank.
    pub rank: usize,
    /// `[rank, columns]`.
    pub a: Vec<f32>,
    /// `[rows, rank]`, rows in GGUF's order.
    pub b: Vec<f32>,
}

/// An adapter of a model.
#[derive(Clone, Debug)]
pub struct RandomAdapter {
    /// GGUF's name of the base's architecture.
    pub architecture: String,
    /// Width of a head: llama's Q and K rows are permuted by heads.
    pub head_dim: usize,
    /// α.
    pub alpha: f32,
    /// Whether the scale is α / √rank.
    pub rank_stabilised: bool,
    /// What it adapts.
    pub pairs: Vec<Pair>,
}

/// Every linear of a layer, by part of its name: GGUF's and Hugging Face's.
const PARTS: [(&str, &str); 8] = [
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_qkv", "self_attn.qkv_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

impl RandomAdapter {
    /// An adapter of every linear of a layer of `base` whose name `wanted` takes, and of the head where it takes `output.weight`.
    /// Ranks are `rank`, and one less for every second pair where `uneven`.
    pub fn of(base: &ModelFile, seed: u64, rank: usize, uneven: bool, wanted: impl Fn(&str) -> bool) -> RandomAdapter {
        let mut random = Random::new(seed);
        let architecture = base.metadata.require_str("general.architecture").expect("a model names its architecture").to_owned();
        let head_dim = base.metadata.u32(&format!("{architecture}.attention.key_length")).expect("a number").unwrap_or(0) as usize;
        let mut pairs = Vec::new();
        for tensor in base.tensors() {
            let part = tensor.name.strip_suffix(".weight").and_then(|n| n.rsplit_once('.')).map(|(_, part)| part);
            let linear = part.is_some_and(|part| PARTS.iter().any(|(ours, _)| *ours == part));
            let head = tensor.name == "output.weight";
            if !(linear || head) || !wanted(&tensor.name) {
                continue;
            }
            let (rows, columns) = (tensor.rows(), tensor.columns());
            let rank = if uneven && pairs.len() % 2 == 1 { rank - 1 } else { rank };
            let a = random.values(rank * columns, 1.7 / (columns as f32).sqrt());
            let b = random.values(rows * rank, 0.6 / (rank as f32).sqrt());
            pairs.push(Pair { name: tensor.name.clone(), rows, columns, rank, a, b });
        }
        assert!(!pairs.is_empty(), "an adapter of nothing");
        RandomAdapter { architecture, head_dim, alpha: 1.5 * rank as f32, rank_stabilised: false, pairs }
    }

    /// The same, and the head with it: also where that is tied to the embedding table, which stays as it is.
    pub fn with_head(mut self, rows: usize, columns: usize) -> RandomAdapter {
        self.pairs.retain(|pair| pair.name != "output.weight");
        let mut random = Random::new(77);
        let (rank, name) = (5, "output.weight".to_owned());
        let (a, b) = (random.values(rank * columns, 1.7 / (columns as f32).sqrt()), random.values(rows * rank, 0.6));
        self.pairs.push(Pair { name, rows, columns, rank, a, b });
        self
    }

    /// The scale of a pair.
    pub fn scale(&self, pair: &Pair) -> f32 {
        let rank = pair.rank as f32;
        self.alpha / if self.rank_stabilised { rank.sqrt() } else { rank }
    }

    /// The adapter as its values are when they were stored as `ty`.
    pub fn rounded(mut self, ty: GgmlType) -> RandomAdapter {
        for pair in &mut self.pairs {
            for values in [&mut pair.a, &mut pair.b] {
                let bytes = encode(ty, values);
                dequantise(ty, &bytes, values);
            }
        }
        self
    }

    /// A GGUF adapter whose tensors are of this type.
    pub fn gguf(&self, ty: GgmlType) -> GgufWriter {
        let writer = GgufWriter::new()
            .str("general.type", "adapter")
            .str("general.architecture", &self.architecture)
            .str("adapter.type", "lora")
            .f32("adapter.lora.alpha", self.alpha);
        self.pairs.iter().fold(writer, |w, p| {
            w.tensor(&format!("{}.lora_a", p.name), &[p.rank, p.columns], ty, encode(ty, &p.a)).tensor(
                &format!("{}.lora_b", p.name),
                &[p.rows, p.rank],
                ty,
                encode(ty, &p.b),
            )
        })
    }

    /// A PEFT folder of float32, `more` over its configuration.
    pub fn peft(&self, more: Value) -> Vec<(String, Vec<u8>)> {
        let mut ranks = serde_json::Map::new();
        let most = self.pairs.iter().map(|p| p.rank).max().unwrap_or(0);
        let mut writer = SafetensorsWriter::new();
        for pair in &self.pairs {
            let module = self.module(&pair.name);
            if pair.rank != most {
                ranks.insert(module.strip_prefix("model.").unwrap_or(&module).to_owned(), pair.rank.into());
            }
            let b = if self.permutes(pair) { permute(&pair.b, pair.rank, self.head_dim) } else { pair.b.clone() };
            writer = writer.f32s(&format!("base_model.model.{module}.lora_A.weight"), &[pair.rank, pair.columns], &pair.a).f32s(
                &format!("base_model.model.{module}.lora_B.weight"),
                &[pair.rows, pair.rank],
                &b,
            );
        }
        let mut config = json!({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": most, "lora_alpha": self.alpha, "lora_dropout": 0.05, "bias": "none",
            "use_rslora": self.rank_stabilised, "use_dora": false, "modules_to_save": null, "fan_in_fan_out": false, "rank_pattern": ranks,
            "alpha_pattern": {}, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": true, "layer_replication": null,
            "base_model_name_or_path": "nobody/nothing", "inference_mode": true,
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        vec![("adapter_config.json".into(), config.to_string().into_bytes()), ("adapter_model.safetensors".into(), writer.finish())]
    }

    /// Whether GGUF has a pair's rows in another order than Hugging Face.
    pub fn permutes(&self, pair: &Pair) -> bool {
        self.architecture == "llama" && ["attn_q.weight", "attn_k.weight"].iter().any(|part| pair.name.ends_with(part))
    }

    /// Hugging Face's module of a GGUF name.
    pub fn module(&self, name: &str) -> String {
        if name == "output.weight" {
            return "lm_head".into();
        }
        let parts: Vec<&str> = name.split('.').collect();
        let (_, theirs) = PARTS.iter().find(|(ours, _)| *ours == parts[2]).unwrap_or_else(|| panic!("no module is called {name}"));
        // Phi 3's gate and up stand together under the name of up.
        let theirs = if self.architecture == "phi3" && parts[2] == "ffn_up" { "mlp.gate_up_proj" } else { theirs };
        format!("model.layers.{}.{theirs}", parts[1])
    }

    /// The base with the adapter's deltas in its own (float32) weights.
    pub fn merged(&self, base: GgufWriter, strength: f32) -> GgufWriter {
        self.pairs.iter().fold(base, |writer, pair| {
            let scale = f64::from(self.scale(pair)) * f64::from(strength);
            writer.change_f32(&pair.name, |weights| {
                for (i, w) in weights.iter_mut().enumerate() {
                    let (n, k) = (i / pair.columns, i % pair.columns);
                    let delta: f64 =
                        (0..pair.rank).map(|r| f64::from(pair.b[n * pair.rank + r]) * f64::from(pair.a[r * pair.columns + k])).sum();
                    *w = (f64::from(*w) + scale * delta) as f32;
                }
            })
        })
    }
}

/// Rows from GGUF's order to Hugging Face's: within a head, what neighbours are (2i, 2i + 1) are halves (i, i + d/2) there.
pub fn permute(rows: &[f32], width: usize, head_dim: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows.len()];
    for (n, row) in rows.chunks_exact(width).enumerate() {
        let (head, e) = (n / head_dim, n % head_dim);
        let to = head * head_dim + e % 2 * (head_dim / 2) + e / 2;
        out[to * width..][..width].copy_from_slice(row);
    }
    out
}

fn encode(ty: GgmlType, values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if ty == GgmlType::BF16 {
        // Cut off: what a reader makes of it is exact whatever the rounding.
        bytes.extend(values.iter().flat_map(|v| ((v.to_bits() >> 16) as u16).to_le_bytes()));
        return bytes;
    }
    let format = Format::ALL.into_iter().find(|f| GgmlType::from(*f) == ty).unwrap_or_else(|| panic!("{ty} is not written here"));
    quantise(format, values, &mut bytes);
    bytes
}

/// Opens an adapter from files in memory.
pub fn open_adapter(files: Vec<(String, Vec<u8>)>) -> Result<AdapterFile> {
    let source = |(name, bytes): (String, Vec<u8>)| -> Box<dyn ByteSource> { Box::new(MemorySource::new(name, bytes)) };
    pollster::block_on(AdapterFile::open(files.into_iter().map(source).collect()))
}

/// Opens a GGUF adapter in the making.
pub fn open_gguf(writer: GgufWriter) -> Result<AdapterFile> {
    open_adapter(vec![("adapter.gguf".into(), writer.finish())])
}
