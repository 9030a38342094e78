//! What a step computes: families describe themselves as data ([`config`]), and a model turns that into a [`plan`].

mod adapter;
pub mod config;
mod describe;
mod families;
mod layout;
mod load;
pub mod plan;
pub mod rope;

pub use adapter::{AdapterPart, AdapterTarget, AdapterWeights};
pub use config::{Config, NormKind, NormPlacement, Pooling};
pub use describe::{ModelDescription, Runs, TensorUse};
pub use load::WeightTarget;
pub use plan::{Plan, PlanKind};

use crate::error::{Error, Result};
use crate::file::ModelFile;
use crate::kv::{KvFormat, KvGroup};

/// How a model is loaded.
pub struct LoadOptions<'a> {
    /// Positions of the longest sequence; the trained context where not given.
    pub context: Option<u32>,
    /// Told bytes of weights read so far and in all.
    pub progress: &'a mut dyn FnMut(u64, u64),
}

/// A model whose weights are on a backend.
#[derive(Debug)]
pub struct Model {
    /// The model as data.
    pub config: Config,
    logits: Option<Plan>,
    states: Plan,
    targets: Vec<AdapterTarget>,
}

impl Model {
    /// Reads a file's configuration, streams its weights to `target`, and plans.
    ///
    /// Memory beside the target's stays within a few chunks of about 4 MB (a row of a table, where that is larger).
    ///
    /// # Errors
    /// An unknown architecture, bad metadata, a tensor that is missing or mis-shaped, bytes that can't be read, and whatever
    /// the target refuses.
    pub async fn load<T: WeightTarget>(file: &ModelFile, target: &mut T, options: LoadOptions<'_>) -> Result<Model> {
        let mut config = Config::from_file(file)?;
        if let Some(context) = options.context {
            config = config.with_context(context)?;
        }
        Model::load_configured(config, file, target, options.progress).await
    }

    /// The same with a configuration of the caller's: how tests switch a feature off.
    pub async fn load_configured<T: WeightTarget>(
        config: Config,
        file: &ModelFile,
        target: &mut T,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Model> {
        let load::Plans { logits, states, targets } = load::load(&config, file, target, progress).await?;
        Ok(Model { config, logits, states, targets })
    }

    /// What a step computes.
    ///
    /// # Errors
    /// Logits of an encoder, which has none.
    pub fn plan(&self, kind: PlanKind) -> Result<&Plan> {
        match kind {
            PlanKind::States => Ok(&self.states),
            PlanKind::Logits => self
                .logits
                .as_ref()
                .ok_or_else(|| Error::request(format!("{} is an encoder: it gives embeddings, not tokens", self.config.architecture))),
        }
    }

    /// One KV group a window, of `pages` pages each.
    pub fn kv_groups(&self, pages: u32, format: KvFormat) -> Vec<KvGroup> {
        let config = &self.config;
        let mut groups: Vec<KvGroup> = Vec::new();
        for (layer, group) in kv_group_of_layers(config).into_iter().enumerate() {
            if group as usize == groups.len() {
                let (kv_heads, head_dim) = (config.kv_heads, config.head_dim);
                groups.push(KvGroup { layers: Vec::new(), window: config.window(layer), kv_heads, head_dim, format, pages });
            }
            groups[group as usize].layers.push(layer as u32);
        }
        groups
    }

    /// What runs how and what it needs, with a KV cache of `kv`, from a file's tables alone.
    pub fn describe(file: &ModelFile, context: Option<u32>, kv: KvFormat) -> Result<ModelDescription> {
        let config = Config::from_file(file)?;
        let config = match context {
            Some(context) => config.with_context(context)?,
            None => config,
        };
        describe::describe(file, config, kv)
    }
}

/// The KV group of each layer: layers of equal window share one, numbered in order of first appearance.
fn kv_group_of_layers(config: &Config) -> Vec<u32> {
    let mut windows: Vec<Option<u32>> = Vec::new();
    (0..config.layers.len())
        .map(|layer| {
            let window = config.window(layer);
            let known = windows.iter().position(|w| *w == window);
            known.unwrap_or_else(|| {
                windows.push(window);
                windows.len() - 1
            }) as u32
        })
        .collect()
}
