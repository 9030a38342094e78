//! What `inspect` says of a model: which tensor runs how, and the memory it needs.

use std::collections::BTreeMap;

use firecrest_shaders::Format;

use crate::error::Result;
use crate::file::ModelFile;
use crate::kv::KvFormat;
use crate::quant::GgmlType;

use super::config::Config;
use super::kv_group_of_layers;
use super::layout::Layout;

/// How a tensor runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// As it is stored.
    Native(Format),
    /// In another quantised format: lossy, though less than the type it comes from.
    Requantised(Format),
    /// In a wider float format: exact.
    Widened(Format),
    /// As a vector of f32.
    Vector,
    /// Not at all.
    Unused,
}

impl std::fmt::Display for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Runs::Native(format) => write!(f, "native {format}"),
            Runs::Requantised(format) => write!(f, "requantised to {format}"),
            Runs::Widened(format) => write!(f, "widened to {format}"),
            Runs::Vector => f.write_str("vector of F32"),
            Runs::Unused => f.write_str("unused"),
        }
    }
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorUse {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: GgmlType,
    /// Outermost first.
    pub shape: Vec<usize>,
    /// Bytes in the file.
    pub stored_bytes: u64,
    /// How it runs.
    pub runs: Runs,
    /// Bytes where it runs.
    pub bytes: u64,
}

/// What a model is and needs.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelDescription {
    /// The model as data.
    pub config: Config,
    /// Every tensor, in the file's order.
    pub tensors: Vec<TensorUse>,
    /// Bytes of weights where they run; a backend's padding aside.
    pub weight_bytes: u64,
    /// How keys and values are stored.
    pub kv_format: KvFormat,
    /// Bytes of K and V that each position of a sequence takes, over the layers that keep every position.
    pub kv_bytes_per_position: u64,
    /// Bytes of K and V that a sequence takes at most in layers with windows.
    pub kv_bytes_in_windows: u64,
    /// Per window: how many layers have it.
    pub windows: Vec<(Option<u32>, u32)>,
}

impl ModelDescription {
    /// Bytes of K and V of one sequence of `positions`.
    pub fn kv_bytes(&self, positions: u32) -> u64 {
        let each = self.config.kv_bytes_per_layer_position(self.kv_format);
        let layers =
            self.windows.iter().map(|(window, layers)| u64::from(window.map_or(positions, |w| w.min(positions))) * u64::from(*layers));
        layers.sum::<u64>() * each
    }

    /// Per type and use: how many tensors, and their bytes in the file.
    pub fn by_type(&self) -> Vec<(GgmlType, Runs, usize, u64)> {
        let mut sums: Vec<(GgmlType, Runs, usize, u64)> = Vec::new();
        for t in &self.tensors {
            match sums.iter_mut().find(|(ty, runs, ..)| (*ty, *runs) == (t.ty, t.runs)) {
                Some((_, _, count, bytes)) => {
                    *count += 1;
                    *bytes += t.stored_bytes;
                }
                None => sums.push((t.ty, t.runs, 1, t.stored_bytes)),
            }
        }
        sums
    }
}

/// Describes a file's model without reading any weights.
pub(super) fn describe(file: &ModelFile, config: Config, kv_format: KvFormat) -> Result<ModelDescription> {
    let layout = Layout::resolve(&config, file)?;
    let mut uses: BTreeMap<&str, Runs> = layout.vectors().iter().map(|t| (t.name.as_str(), Runs::Vector)).collect();
    for matrix in layout.matrices() {
        for tensor in &matrix.tensors {
            uses.insert(&tensor.name, runs(tensor.ty, matrix.format));
        }
    }
    let tensors: Vec<TensorUse> = file
        .tensors()
        .iter()
        .map(|tensor| {
            let runs = uses.get(tensor.name.as_str()).copied().unwrap_or(Runs::Unused);
            let values = tensor.elements() as u64;
            let bytes = match runs {
                Runs::Native(f) | Runs::Requantised(f) | Runs::Widened(f) => values / f.block_len() as u64 * f.block_bytes() as u64,
                Runs::Vector => 4 * values,
                Runs::Unused => 0,
            };
            let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
            TensorUse { name, ty: tensor.ty, shape, stored_bytes: tensor.bytes(), runs, bytes }
        })
        .collect();

    let groups = kv_group_of_layers(&config);
    let mut windows: Vec<(Option<u32>, u32)> = Vec::new();
    for (layer, group) in groups.iter().enumerate() {
        if *group as usize == windows.len() {
            windows.push((config.window(layer), 0));
        }
        windows[*group as usize].1 += 1;
    }
    let in_windows = windows.iter().filter_map(|(w, layers)| w.map(|w| u64::from(w) * u64::from(*layers))).sum::<u64>();
    Ok(ModelDescription {
        weight_bytes: tensors.iter().map(|t| t.bytes).sum(),
        kv_format,
        kv_bytes_per_position: config.kv_bytes_per_position(kv_format),
        kv_bytes_in_windows: in_windows * config.kv_bytes_per_layer_position(kv_format),
        windows,
        tensors,
        config,
    })
}

fn runs(ty: GgmlType, format: Format) -> Runs {
    if ty.is_format(format) {
        Runs::Native(format)
    } else if format.is_quantised() {
        Runs::Requantised(format)
    } else {
        Runs::Widened(format)
    }
}
