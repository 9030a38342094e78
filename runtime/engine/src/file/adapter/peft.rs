//! PEFT folders: `adapter_config.json`, and tensors called `base_model.model.<module>.lora_A.weight` and `….lora_B.weight`.

use std::fmt;

use fancy_regex::{Regex, RegexBuilder};
use firecrest_weights::ByteSource;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Half, Pair, pair_up};
use crate::error::{Error, Result};
use crate::file::head::quoted;
use crate::file::{ModelFile, huggingface};

/// The configuration's file name.
pub(super) const CONFIG: &str = "adapter_config.json";
/// The weights' file name.
pub(super) const WEIGHTS: &str = "adapter_model.safetensors";

/// Patterns of modules that have a rank or an α of their own, at most, and how hard each may be to match.
const MOST_PATTERNS: usize = 1024;
const BACKTRACK_LIMIT: usize = 10_000;

/// What says how the weights are meant.
pub(super) struct Config {
    /// What messages call it.
    pub(super) origin: String,
    rank: Option<usize>,
    alpha: f32,
    rank_stabilised: bool,
    ranks: Vec<(Regex, f64)>,
    alphas: Vec<(Regex, f64)>,
}

/// As the file has it. `fan_in_fan_out` only says how A and B are merged into the base's own matrices, and what is passed over chooses modules
/// (the tensors themselves say which), or matters to training alone.
#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Raw {
    peft_type: Option<String>,
    r: Option<usize>,
    lora_alpha: Option<f32>,
    use_rslora: Option<bool>,
    bias: Option<String>,
    rank_pattern: Option<Patterns>,
    alpha_pattern: Option<Patterns>,
    use_dora: Given,
    modules_to_save: Given,
    lora_bias: Given,
    layer_replication: Given,
    trainable_token_indices: Given,
    target_parameters: Given,
    use_qalora: Given,
    alora_invocation_tokens: Given,
    arrow_config: Given,
    init_lora_weights: Given,
}

impl Config {
    /// Reads a configuration and refuses what is no plain LoRA.
    pub(super) async fn read(source: &dyn ByteSource) -> Result<Config> {
        let origin = source.name().to_owned();
        let raw: Raw = huggingface::parse(source, huggingface::LARGEST_CONFIG).await?;
        let unsupported = |what: String| Error::unsupported(format!("{origin}: {what}"));
        match raw.peft_type.as_deref() {
            Some("LORA") => {}
            Some(other) => return Err(unsupported(format!("an adapter of the peft_type {} is not run; LORA is", quoted(other)))),
            None => return Err(Error::malformed(format!("{origin}: peft_type is missing, which should be LORA"))),
        }
        if let Some(bias) = raw.bias.as_deref().filter(|bias| *bias != "none") {
            return Err(unsupported(format!("bias is {}: adapters with trained biases are not run, only `none`", quoted(bias))));
        }
        for (name, given, what) in [
            ("use_dora", &raw.use_dora, "DoRA"),
            ("modules_to_save", &raw.modules_to_save, "whole modules beside the adapter"),
            ("lora_bias", &raw.lora_bias, "a bias of B"),
            ("layer_replication", &raw.layer_replication, "replicated layers"),
            ("trainable_token_indices", &raw.trainable_token_indices, "trained tokens"),
            ("target_parameters", &raw.target_parameters, "adapted parameters that are no linear layers"),
            ("use_qalora", &raw.use_qalora, "QALoRA"),
            ("alora_invocation_tokens", &raw.alora_invocation_tokens, "an activated LoRA"),
            ("arrow_config", &raw.arrow_config, "an Arrow router"),
        ] {
            if let Some(given) = &given.0 {
                return Err(unsupported(format!("{name} is {given}: {what} is not run")));
            }
        }
        if let Some(how) = &raw.init_lora_weights.0
            && !["true", "`gaussian`", "`eva`", "`orthogonal`"].contains(&how.as_str())
        {
            return Err(unsupported(format!(
                "init_lora_weights is {how}, which changes the base model's own weights; convert the adapter to a plain LoRA"
            )));
        }
        // PEFT's own default.
        let alpha = raw.lora_alpha.unwrap_or(8.0);
        if !alpha.is_finite() {
            return Err(Error::malformed(format!("{origin}: lora_alpha is {alpha}")));
        }
        let compiled = |field: &str, patterns: Option<Patterns>| -> Result<Vec<(Regex, f64)>> {
            let patterns = patterns.map_or(Vec::new(), |patterns| patterns.0);
            patterns.into_iter().map(|(text, value)| Ok((pattern(&origin, field, &text)?, value))).collect()
        };
        let (ranks, alphas) = (compiled("rank_pattern", raw.rank_pattern)?, compiled("alpha_pattern", raw.alpha_pattern)?);
        Ok(Config { rank: raw.r, alpha, rank_stabilised: raw.use_rslora == Some(true), ranks, alphas, origin })
    }

    fn of_module(&self, patterns: &[(Regex, f64)], module: &str) -> Result<Option<f64>> {
        for (pattern, value) in patterns {
            let matched = pattern
                .is_match(module)
                .map_err(|_| Error::malformed(format!("{}: the pattern {} is too hard to match", self.origin, quoted(pattern.as_str()))))?;
            if matched {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }

    /// α / rank, or α / √rank. The rank that the tensors have must be the one the configuration says.
    fn scale(&self, module: &str, rank: usize) -> Result<f32> {
        let wanted = match self.of_module(&self.ranks, module)? {
            Some(own) => Some(own),
            None => self.rank.map(|r| r as f64),
        };
        if let Some(wanted) = wanted.filter(|&wanted| wanted != rank as f64) {
            return Err(Error::malformed(format!(
                "{}: the rank of {} should be {wanted}, but its tensors are of rank {rank}",
                self.origin,
                quoted(module)
            )));
        }
        let alpha = self.of_module(&self.alphas, module)?.map_or(self.alpha, |own| own as f32);
        Ok(if self.rank_stabilised { alpha / (rank as f32).sqrt() } else { alpha / rank as f32 })
    }
}

/// PEFT takes the first pattern that matches the end of a module's name from a dot on.
fn pattern(origin: &str, field: &str, text: &str) -> Result<Regex> {
    let mut builder = RegexBuilder::new(&format!("^(?:.*\\.)?(?:{text})$"));
    builder.backtrack_limit(BACKTRACK_LIMIT);
    builder.delegate_size_limit(1 << 20);
    builder.build().map_err(|_| Error::malformed(format!("{origin}: {field} has the pattern {}, which is no regex", quoted(text))))
}

/// The folder's pairs.
pub(super) fn pairs(config: &Config, file: &ModelFile) -> Result<Vec<Pair>> {
    let mut halves = Vec::new();
    for tensor in file.tensors() {
        let refused = |what: &str| Err(Error::unsupported(format!("{}: tensor {} {what}", file.name(), quoted(&tensor.name))));
        if tensor.name.contains("lora_magnitude_vector") {
            return refused("is a magnitude of DoRA, which is not run");
        }
        if tensor.name.contains("lora_embedding_") {
            return refused("adapts an embedding table, which is not run; linear layers are");
        }
        let half = |name: &'_ str| -> Option<(String, Half)> {
            let name = name.strip_prefix("base_model.model.")?;
            match name.strip_suffix(".lora_A.weight") {
                Some(module) => Some((module.to_owned(), Half::A)),
                None => Some((name.strip_suffix(".lora_B.weight")?.to_owned(), Half::B)),
            }
        };
        let Some((module, half)) = half(&tensor.name) else {
            return refused("is neither `base_model.model.….lora_A.weight` nor `….lora_B.weight`; plain LoRA has nothing else");
        };
        halves.push((module, half, tensor));
    }
    pair_up(file, halves, |module, rank| config.scale(module, rank))
}

/// A field that should say nothing: null, false or empty; or else what it says, for the message that refuses it.
#[derive(Default)]
struct Given(Option<String>);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Given, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Given;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_unit<E>(self) -> Result<Given, E> {
                Ok(Given(None))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Given, E> {
                Ok(Given(value.then(|| "true".to_owned())))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Given, E> {
                Ok(Given(Some(value.to_string())))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Given, E> {
                Ok(Given(Some(value.to_string())))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Given, E> {
                Ok(Given(Some(value.to_string())))
            }
            fn visit_str<E>(self, text: &str) -> Result<Given, E> {
                Ok(Given((!text.is_empty()).then(|| quoted(text))))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Given, A::Error> {
                let mut any = false;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    any = true;
                }
                Ok(Given(any.then(|| "a list".to_owned())))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
                let mut any = false;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    any = true;
                }
                Ok(Given(any.then(|| "an object".to_owned())))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// An object from patterns to numbers, in its order: the first match counts.
struct Patterns(Vec<(String, f64)>);

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Patterns, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Patterns;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from patterns of module names to numbers")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Patterns, A::Error> {
                let mut patterns = Vec::new();
                while let Some((text, value)) = map.next_entry::<String, f64>()? {
                    if patterns.len() == MOST_PATTERNS {
                        return Err(A::Error::custom(format_args!("more than {MOST_PATTERNS} patterns")));
                    }
                    patterns.push((text, value));
                }
                Ok(Patterns(patterns))
            }
        }
        deserializer.deserialize_map(Map)
    }
}
