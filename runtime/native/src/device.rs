//! Which backend computes.

#[cfg(feature = "gpu")]
use std::sync::Arc;

use firecrest_engine::backend::Backend;
use firecrest_engine::backend::cpu::{CpuBackend, CpuOptions};
#[cfg(feature = "gpu")]
use firecrest_engine::backend::gpu::{GpuBackend, GpuOptions};
use firecrest_engine::error::{Error, Result};

/// The backend a person asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendKind {
    /// A real GPU where there is one, else the CPU. Software GPUs are taken only by name.
    #[default]
    Auto,
    /// SIMD on this processor.
    Cpu,
    /// WGSL through Vulkan, Metal or DX12.
    Gpu,
}

/// Most CPU threads that may be asked for.
const MAX_THREADS: usize = 1024;

/// Where to compute, and with how much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Which backend.
    pub kind: BackendKind,
    /// Part of an adapter's name, driver or API, in any case.
    pub adapter: Option<String>,
    /// CPU threads, at most 1,024; no more are started than there are cores. `None` is one a core.
    pub threads: Option<usize>,
}

impl Device {
    /// Makes the backend.
    ///
    /// # Errors
    /// Where the GPU asked for is not there, or its driver fails.
    pub async fn backend(&self) -> Result<Backend> {
        match self.kind {
            BackendKind::Cpu => self.cpu(),
            BackendKind::Gpu => self.gpu().await,
            BackendKind::Auto if self.adapter.is_some() => self.gpu().await,
            BackendKind::Auto => match self.gpu().await {
                Ok(backend) => Ok(backend),
                // No GPU, or none that works: that is what `auto` is for.
                Err(_) => self.cpu(),
            },
        }
    }

    fn cpu(&self) -> Result<Backend> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = match self.threads {
            Some(threads) if threads > MAX_THREADS => {
                return Err(Error::request(format!("threads: {threads}; at most {MAX_THREADS} can be asked for")));
            }
            // Threads beyond the cores only wait for each other, for seconds a token.
            Some(threads) => Some(threads.min(cores)),
            None => None,
        };
        Ok(Backend::Cpu(CpuBackend::new(CpuOptions { threads, ..CpuOptions::default() })?))
    }

    #[cfg(feature = "gpu")]
    async fn gpu(&self) -> Result<Backend> {
        let start = std::time::Instant::now();
        let clock = move || start.elapsed();
        // Asked for a GPU in so many words, a software one is better than an error; `auto` prefers the CPU backend to it.
        let accept_software = self.kind == BackendKind::Gpu;
        let options = GpuOptions { adapter: self.adapter.clone(), accept_software, clock: Some(Arc::new(clock)), ..GpuOptions::default() };
        Ok(Backend::Gpu(GpuBackend::new(options).await?))
    }

    #[cfg(not(feature = "gpu"))]
    async fn gpu(&self) -> Result<Backend> {
        Err(Error::unsupported("this build has no GPU backend: build with the feature `gpu`, or say --backend cpu"))
    }
}
