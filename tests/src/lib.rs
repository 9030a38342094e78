//! The harness that every suite goes through: where the shared data is, and how a test that cannot run says so.
//!
//! A skip is loud. It is printed, written to the file that `cargo xtask test` lists at its end, and where `CI=true` it is a
//! failure.

pub mod adapters;
pub mod backends;
pub mod gguf_writer;
pub mod interpreter;
pub mod kernel_runner;
pub mod random;
pub mod random_adapters;
pub mod random_models;
pub mod runner;
pub mod safetensors_writer;
pub mod synthetic;
pub mod world;

use std::io::Write;
use std::path::{Path, PathBuf};

pub use gguf_writer::GgufWriter;
pub use safetensors_writer::SafetensorsWriter;

/// The root of the checkout.
pub fn repository() -> &'static Path {
    // This crate stands one folder below the root.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The folder of test data that nobody here wrote: `FIRECREST_SHARED`, or `shared/data` beside the checkout.
/// A user's checkout has none; say [`skip`] then.
pub fn shared_data() -> Option<PathBuf> {
    let named = std::env::var_os("FIRECREST_SHARED").map(PathBuf::from);
    let root = repository();
    let beside = [root.join("../shared/data"), root.join("../../shared/data")];
    named.into_iter().chain(beside).find(|p| p.is_dir())
}

/// The Python that has the oracles (llama.cpp, gguf, safetensors): `FIRECREST_PYTHON`, or `.venv` at the root of the checkout.
///
/// Comparisons with oracles belong to the full run. A normal run says that it leaves them out, which is no skip; a full run without the
/// oracles is one.
pub fn oracle(what: &str) -> Option<PathBuf> {
    if !full() {
        println!("{what}: left to `cargo xtask test --full`");
        return None;
    }
    let named = std::env::var_os("FIRECREST_PYTHON").map(PathBuf::from);
    let found = named.into_iter().chain([repository().join(".venv/bin/python")]).find(|p| p.is_file());
    if found.is_none() {
        skip(what, "there is no Python with the oracles: run `cargo xtask setup --oracles`, or set FIRECREST_PYTHON");
    }
    found
}

/// A real model by its name in `tests/real_models/fetch.py`, or a loud skip: in the folder `FIRECREST_MODELS`, or in the user's cache.
pub fn real_model(name: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let named = std::env::var_os("FIRECREST_MODELS").map(PathBuf::from);
    let found = named
        .into_iter()
        .chain(cache.map(|cache| cache.join("firecrest/models")))
        .map(|folder| folder.join(name))
        .find(|path| path.exists());
    if found.is_none() {
        skip(&format!("the real model {name}"), "it is not there: run `cargo xtask setup`, or set FIRECREST_MODELS to its folder");
    }
    found
}

/// Whether the slow sweeps were asked for (`cargo xtask test --full`).
pub fn full() -> bool {
    std::env::var("FIRECREST_FULL").is_ok_and(|v| v == "1")
}

/// A count that a sweep runs to: the environment's, or `normal`.
pub fn count(variable: &str, normal: usize) -> usize {
    std::env::var(variable).ok().and_then(|v| v.replace('_', "").parse().ok()).unwrap_or(normal)
}

/// Says loudly that something was not tested, and why.
///
/// # Panics
/// Where `CI=true`: there a skip is a failure.
pub fn skip(what: &str, reason: &str) {
    let line = format!("SKIPPED {what}: {reason}");
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("FIRECREST_SKIPS")
        && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
    {
        // The line is printed above in any case; a list that can't be written must not fail the test.
        let _ = writeln!(file, "{line}");
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{line} (CI=true makes a skip a failure)");
}

/// [`shared_data`], or a loud skip.
pub fn shared_data_or_skip(what: &str) -> Option<PathBuf> {
    let found = shared_data();
    if found.is_none() {
        skip(what, "the shared test data is absent: set FIRECREST_SHARED to its folder");
    }
    found
}
