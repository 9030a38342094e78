//! Which adapters there are, and which one is taken.

use firecrest_shaders::Caps;

use crate::Clock;
use crate::error::{Error, ErrorCode, Result};

/// How a GPU backend is made.
#[derive(Clone, Default)]
pub struct GpuOptions {
    /// Takes the first adapter whose name, driver or API contains this, in any case. A browser offers one adapter and lets
    /// nobody choose.
    pub adapter: Option<String>,
    /// Whether a software adapter may be taken without being named. Programs leave it off: the CPU backend is faster.
    pub accept_software: bool,
    /// Rungs that are not to be used.
    pub without: Without,
    /// Set by a browser host that has wrapped `GPUAdapter.requestDevice` to add `subgroups`: wgpu 30 can neither ask for
    /// the feature there nor see it.
    pub browser_subgroups: bool,
    /// A monotonic clock. Lent, rungs that pass the self-check are timed and the fastest is taken; without it the order of
    /// preference decides.
    pub clock: Option<Clock>,
}

/// Rungs to stay off, for tests and for drivers that lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Without {
    /// No subgroup operations.
    pub subgroups: bool,
    /// No 16-bit float arithmetic.
    pub f16: bool,
    /// No packed 8-bit integer dot products.
    pub int_dot: bool,
}

/// One adapter as `firecrest devices` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterReport {
    /// The device's name.
    pub name: String,
    /// The API that reaches it: `vulkan`, `metal`, `dx12`, `webgpu`.
    pub api: String,
    /// The driver and its version, where known.
    pub driver: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: &'static str,
    /// Whether it computes on the CPU: never taken unless named.
    pub software: bool,
    /// What kernels may use there.
    pub caps: Caps,
}

impl AdapterReport {
    pub(super) fn new(info: &wgpu::AdapterInfo, caps: Caps) -> AdapterReport {
        AdapterReport {
            name: info.name.clone(),
            api: info.backend.to_string(),
            driver: [info.driver.as_str(), info.driver_info.as_str()].join(" ").trim().to_owned(),
            kind: kind(info.device_type),
            software: is_software(info),
            caps,
        }
    }
}

fn kind(device: wgpu::DeviceType) -> &'static str {
    match device {
        wgpu::DeviceType::DiscreteGpu => "discrete",
        wgpu::DeviceType::IntegratedGpu => "integrated",
        wgpu::DeviceType::VirtualGpu => "virtual",
        wgpu::DeviceType::Cpu => "software",
        wgpu::DeviceType::Other => "other",
    }
}

fn is_software(info: &wgpu::AdapterInfo) -> bool {
    // Some software drivers report themselves as `other`, and Chromium's SwiftShader hides behind ANGLE's name.
    let text = format!("{} {} {}", info.name, info.driver, info.driver_info).to_lowercase();
    info.device_type == wgpu::DeviceType::Cpu
        || ["llvmpipe", "lavapipe", "swiftshader", "basic render driver"].iter().any(|name| text.contains(name))
}

/// Lower is better: a discrete GPU before an integrated one before whatever else.
fn preference(info: &wgpu::AdapterInfo) -> u32 {
    match info.device_type {
        _ if is_software(info) => 4,
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other | wgpu::DeviceType::Cpu => 3,
    }
}

fn matches(info: &wgpu::AdapterInfo, wanted: &str) -> bool {
    let text = format!("{} {} {} {}", info.name, info.backend, info.driver, info.driver_info).to_lowercase();
    text.contains(&wanted.to_lowercase())
}

pub(super) fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    // No indirect dispatch is ever issued, and wgpu's own validation does not need the debug layers.
    descriptor.flags = wgpu::InstanceFlags::empty();
    wgpu::Instance::new(descriptor)
}

/// Every adapter, best first. Empty where there is no driver at all.
pub(super) async fn enumerate(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    #[cfg(not(target_family = "wasm"))]
    let mut adapters = instance.enumerate_adapters(wgpu::Backends::all()).await;
    #[cfg(target_family = "wasm")]
    let mut adapters: Vec<wgpu::Adapter> = instance
        .request_adapter(&wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..wgpu::RequestAdapterOptions::default()
        })
        .await
        .into_iter()
        .collect();
    adapters.sort_by_key(|adapter| preference(&adapter.get_info()));
    adapters
}

/// The adapter the options ask for.
pub(super) async fn select(instance: &wgpu::Instance, options: &GpuOptions) -> Result<wgpu::Adapter> {
    let adapters = enumerate(instance).await;
    let names = || adapters.iter().map(|adapter| format!("`{}`", adapter.get_info().name)).collect::<Vec<_>>().join(", ");
    if adapters.is_empty() {
        return Err(Error::new(ErrorCode::Device, "no GPU adapter was found: install a Vulkan, Metal or DX12 driver, or run on the CPU"));
    }
    let chosen = match &options.adapter {
        Some(wanted) => adapters
            .iter()
            .find(|adapter| matches(&adapter.get_info(), wanted))
            .ok_or_else(|| Error::new(ErrorCode::Device, format!("no GPU adapter's name contains `{wanted}`; there are {}", names())))?,
        None => adapters.iter().find(|adapter| options.accept_software || !is_software(&adapter.get_info())).ok_or_else(|| {
            Error::new(ErrorCode::Device, format!("only software adapters were found ({}); name one to use it, or run on the CPU", names()))
        })?,
    };
    Ok(chosen.clone())
}

/// What is asked of an adapter, and what kernels may then use.
pub(super) struct Probe {
    pub(super) features: wgpu::Features,
    pub(super) limits: wgpu::Limits,
    pub(super) caps: Caps,
}

/// Asks for everything useful that the adapter offers, and for its own limits.
pub(super) fn probe(adapter: &wgpu::Adapter, options: &GpuOptions) -> Probe {
    let info = adapter.get_info();
    let wanted = wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16 | wgpu::Features::TIMESTAMP_QUERY;
    let features = adapter.features() & wanted;
    let limits = adapter.limits();
    let subgroups = features.contains(wgpu::Features::SUBGROUP) || (cfg!(target_family = "wasm") && options.browser_subgroups);
    let caps = Caps {
        // The WebGPU specification lets no device report less than 4.
        min_subgroup: if subgroups { info.subgroup_min_size.max(4) } else { 0 },
        f16: features.contains(wgpu::Features::SHADER_F16),
        storage_buffers: limits.max_storage_buffers_per_shader_stage,
        invocations: limits.max_compute_invocations_per_workgroup,
        workgroup_bytes: limits.max_compute_workgroup_storage_size,
    };
    Probe { features, limits, caps }
}
