//! Which backend computes.

#[cfg(feature = "gpu")]
use std::sync::Arc;

use firecrest_engine::backend::Backend;
use firecrest_engine::backend::cpu::{CpuBackend, CpuOptions};
#[cfg(feature = "gpu")]
use firecrest_engine::backend::gpu::{GpuBackend, GpuOptions};
#[cfg(not(feature = "gpu"))]
use firecrest_engine::error::Error;
use firecrest_engine::error::Result;

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

/// Where to compute, and with how much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Which backend.
    pub kind: BackendKind,
    /// Part of an adapter's name, driver or API, in any case.
    pub adapter: Option<String>,
    /// CPU threads; `None` is one a core.
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
        Ok(Backend::Cpu(CpuBackend::new(CpuOptions { threads: self.threads, ..CpuOptions::default() })?))
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
