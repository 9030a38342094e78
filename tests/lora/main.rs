//! LoRA adapters: whole models against the float64 reference and against merged weights, every form of file, and refusals.
//! What becomes of them among other requests is `engine`'s.

mod files;
mod models;
mod oracle;
mod refusals;

use firecrest_engine::file::ModelFile;
use firecrest_engine::quant::Format;
use firecrest_tests::random_models::{RandomModel, VOCAB, open_bytes};

fn tiny(family: &str, format: Format) -> ModelFile {
    open_bytes(family, RandomModel::of(family, format, false).finish()).unwrap()
}

fn prompt() -> Vec<u32> {
    (0..37u32).map(|i| (i * 37 + 11) % VOCAB as u32).collect()
}

fn generated() -> Vec<u32> {
    (0..6u32).map(|i| (i * 29 + 5) % VOCAB as u32).collect()
}
