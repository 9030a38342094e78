//! Every backend that this machine has, for suites that hold for all of them.

use firecrest_engine::backend::Backend;
use firecrest_engine::backend::cpu::{CpuBackend, CpuOptions};
use firecrest_engine::backend::gpu::Without;

use crate::{adapters, full, skip};

/// A backend that can be had, any number of times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendChoice {
    /// This processor.
    Cpu,
    /// A GPU adapter, software ones included, by its name.
    Gpu(String),
}

impl BackendChoice {
    /// A backend without a model: one that was given back, whose kernels are compiled, or a new one.
    ///
    /// # Panics
    /// Where there is none to be had.
    pub fn take(&self) -> Backend {
        match self {
            BackendChoice::Cpu => Backend::Cpu(CpuBackend::new(CpuOptions { threads: Some(1), ..CpuOptions::default() }).unwrap()),
            BackendChoice::Gpu(name) => adapters::take(name, Without::default()),
        }
    }

    /// Keeps what [`BackendChoice::take`] gave, for the next test: software GPUs take seconds to compile a model's kernels.
    pub fn give_back(&self, backend: Backend) {
        if let BackendChoice::Gpu(name) = self {
            adapters::give_back(name, Without::default(), backend);
        }
    }
}

impl std::fmt::Display for BackendChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BackendChoice::Cpu => f.write_str("cpu"),
            BackendChoice::Gpu(name) => write!(f, "gpu {name}"),
        }
    }
}

/// The CPU and one GPU backend an adapter; outside the full run without SwiftShader, which takes ten times lavapipe's time to compile a
/// kernel. What must hold there in every run asks for [`every_backend`].
pub fn backends(what: &str) -> Vec<BackendChoice> {
    let mut all = every_backend(what);
    if !full() {
        println!("{what}: SwiftShader is left to `cargo xtask test --full`");
        all.retain(|b| !b.to_string().to_lowercase().contains("swiftshader"));
    }
    all
}

/// The CPU and one GPU backend an adapter. `FIRECREST_BACKEND` keeps those whose name contains it.
///
/// Which Vulkan drivers are seen is the loader's affair: `VK_ADD_DRIVER_FILES` adds SwiftShader to lavapipe.
pub fn every_backend(what: &str) -> Vec<BackendChoice> {
    let reports = adapters::reports();
    if reports.is_empty() {
        skip(what, "no GPU adapter here, not even a software one: only the CPU is tested");
    }
    let mut all = vec![BackendChoice::Cpu];
    all.extend(reports.into_iter().map(|adapter| BackendChoice::Gpu(adapter.name)));
    all.dedup();
    let only = std::env::var("FIRECREST_BACKEND").unwrap_or_default().to_lowercase();
    all.retain(|b| b.to_string().to_lowercase().contains(&only));
    all
}
