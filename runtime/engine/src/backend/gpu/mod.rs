//! The WGSL backend on wgpu. The only room that says `wgpu::`.
//!
//! In the order a step travels: [`lower()`] turns a plan into a [`Program`] for a shape, with the kernel variants that a
//! [`Selection`] holds; the program's pipelines, bind groups and parameter slots are made once and kept; each step writes its
//! few tables, encodes one compute pass, and is submitted once. Weights are repacked into planes as they arrive.

mod adapter;
mod arena;
mod buffers;
mod check;
mod device;
mod draw;
mod flight;
mod lora;
mod lower;
mod pipelines;
mod program;
mod run;
mod select;
mod timestamps;
mod weights;

use std::collections::HashMap;

use firecrest_shaders::{Caps, Format, KvFormat, params};

use crate::Clock;
use crate::backend::{Description, MatrixId, MatrixSpec, MemoryUse, VectorId};
use crate::batch::{Batch, BatchShape};
use crate::error::{Error, ErrorCode, Result};
use crate::kv::KvGroup;
use crate::model::plan::Plan;

pub use adapter::{AdapterReport, GpuOptions, Without};
pub use lora::LoraSite;
pub use lower::{Target, lower};
pub use program::{Dispatch, Operand, Program, StepBuffer};
pub use select::Selection;

use arena::Arena;
use buffers::{Allocator, Buffer, Growing};
use device::Device;
use flight::Flights;
use lora::Loras;
use pipelines::Pipelines;
use run::Programs;
use timestamps::Timestamps;
use weights::{Matrix, Uploads};

/// Sequences whose last tokens there is room for at first.
const SLOTS: u64 = 64;

/// The adapters of this machine, best first, software ones last. Empty where there is no driver.
pub async fn adapters() -> Vec<AdapterReport> {
    let instance = adapter::instance();
    let adapters = adapter::enumerate(&instance).await;
    adapters.iter().map(|adapter| AdapterReport::new(&adapter.get_info(), adapter::probe(adapter, &GpuOptions::default()).caps)).collect()
}

/// Whether `auto` should mean this machine's GPU: whether it has one that is not software.
pub async fn has_gpu() -> bool {
    adapters().await.iter().any(|adapter| !adapter.software)
}

/// The GPU backend.
pub struct GpuBackend {
    device: Device,
    allocator: Allocator,
    report: AdapterReport,
    selection: Selection,
    pipelines: Pipelines,
    arena: Arena,
    programs: Programs,
    specs: Vec<MatrixSpec>,
    matrices: Vec<Matrix>,
    vectors: Vec<Buffer>,
    uploads: Uploads,
    loras: Loras,
    groups: Vec<KvGroup>,
    /// K and V pages by layer.
    pages: HashMap<u32, (Buffer, Buffer)>,
    slots: Buffer,
    /// Bound where a dispatch does not use a binding.
    zero: Buffer,
    step: [Growing; StepBuffer::ALL.len()],
    flights: Flights,
    /// Whether the next step is traced, and what the last traced one left.
    trace_next: bool,
    timestamps: Option<Timestamps>,
    /// Whether the kernel that draws tokens works here; unknown before it was tried.
    draws: Option<bool>,
    clock: Option<Clock>,
    /// Whether weights are whole and their kernels checked.
    ready: bool,
    /// Kernels that passed the self-check.
    checked: Vec<select::Key>,
}

impl GpuBackend {
    /// Opens an adapter.
    ///
    /// # Errors
    /// `Device` where no adapter fits the options or its driver refuses a device.
    pub async fn new(options: GpuOptions) -> Result<GpuBackend> {
        let instance = adapter::instance();
        let adapter = adapter::select(&instance, &options).await?;
        let probe = adapter::probe(&adapter, &options);
        let report = AdapterReport::new(&adapter.get_info(), probe.caps);
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("firecrest"),
                required_features: probe.features,
                required_limits: probe.limits,
                memory_hints: wgpu::MemoryHints::MemoryUsage,
                ..wgpu::DeviceDescriptor::default()
            })
            .await
            .map_err(|error| Error::new(ErrorCode::Device, format!("`{}` refused a device: {error}", report.name)))?;
        let mut device = Device::new(device, queue);
        let mut allocator = Allocator::default();
        let arena = Arena::new(&mut device, &mut allocator)?;
        let storage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let slots = allocator.buffer(&mut device, "token slots", SLOTS * u64::from(params::RING) * 4, storage)?;
        let zero = allocator.buffer(&mut device, "unused bindings", 256, wgpu::BufferUsages::STORAGE)?;
        Ok(GpuBackend {
            device,
            allocator,
            report,
            selection: Selection::new(probe.caps, options.without),
            pipelines: Pipelines::default(),
            arena,
            programs: Programs::default(),
            specs: Vec::new(),
            matrices: Vec::new(),
            vectors: Vec::new(),
            uploads: Uploads::default(),
            loras: Loras::default(),
            groups: Vec::new(),
            pages: HashMap::new(),
            slots,
            zero,
            step: StepBuffer::ALL.map(|buffer| Growing::new(buffer.name(), storage)),
            flights: Flights::default(),
            trace_next: false,
            timestamps: None,
            draws: None,
            clock: options.clock,
            ready: false,
            checked: Vec::new(),
        })
    }

    /// Reserves a matrix, in pieces where one would pass what a binding may span.
    ///
    /// # Errors
    /// `Malformed` for a shape that no format can hold, `Memory` where it does not fit the device.
    pub fn matrix(&mut self, spec: &MatrixSpec) -> Result<MatrixId> {
        self.device.check()?;
        let matrix = Matrix::new(spec, &mut self.device, &mut self.allocator)?;
        self.matrices.push(matrix);
        self.ready = false;
        self.specs.push(spec.clone());
        Ok(MatrixId(self.matrices.len() as u32 - 1))
    }

    /// Repacks rows of GGML blocks and queues them for upload.
    ///
    /// # Errors
    /// `Internal` where the bytes are no whole rows inside the matrix, `Device` where the device is gone.
    pub fn write_rows(&mut self, matrix: MatrixId, first_row: usize, blocks: &[u8]) -> Result<()> {
        let index = matrix.0 as usize;
        let (Some(spec), Some(matrix)) = (self.specs.get(index), self.matrices.get_mut(index)) else {
            return Err(Error::internal(format!("matrix {index} was never made")));
        };
        matrix.write_rows(spec, first_row, blocks, &mut self.uploads, &mut self.device)
    }

    /// Uploads a vector, padded with zeros to a whole chunk of columns.
    ///
    /// # Errors
    /// `Memory` where it does not fit the device.
    pub fn vector(&mut self, name: &str, values: &[f32]) -> Result<VectorId> {
        self.device.check()?;
        let mut padded = values.to_vec();
        padded.resize(values.len().max(1).next_multiple_of(params::CHUNK as usize), 0.0);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let buffer = self.allocator.buffer(&mut self.device, name, padded.len() as u64 * 4, usage)?;
        self.device.queue.write_buffer(&buffer.wgpu, 0, bytemuck::cast_slice(&padded));
        self.vectors.push(buffer);
        Ok(VectorId(self.vectors.len() as u32 - 1))
    }

    /// Allocates K and V of every layer.
    ///
    /// # Errors
    /// `Memory` where a layer's pages pass what a binding may span, or do not fit the device.
    pub fn allocate_kv(&mut self, groups: &[KvGroup]) -> Result<()> {
        self.device.check()?;
        self.uploads.finish();
        self.pages.clear();
        self.programs.clear();
        self.arena.clear();
        self.pipelines.forget_bind_groups();
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        for group in groups {
            let page = params::page_bytes(group.kv_heads, group.head_dim, group.format);
            let bytes = page.checked_mul(u64::from(group.pages)).filter(|&bytes| bytes <= self.device.binding_limit()).ok_or_else(|| {
                let most = self.device.binding_limit() / page.max(1);
                Error::new(
                    ErrorCode::Memory,
                    format!("a KV cache of {} pages does not fit this GPU, which can hold {most}; ask for a shorter context or fewer sequences", group.pages),
                )
            })?;
            for &layer in &group.layers {
                let keys = self.allocator.buffer(&mut self.device, &format!("K pages of layer {layer}"), bytes, usage)?;
                let values = self.allocator.buffer(&mut self.device, &format!("V pages of layer {layer}"), bytes, usage)?;
                self.pages.insert(layer, (keys, values));
            }
        }
        self.groups = groups.to_vec();
        // Kernels of another KV format may be needed.
        self.ready = false;
        Ok(())
    }

    /// See [`crate::backend::Backend::unload`].
    pub fn unload(&mut self) {
        self.programs.clear();
        self.arena.clear();
        self.pipelines.forget_bind_groups();
        self.specs.clear();
        self.matrices.clear();
        self.vectors.clear();
        self.uploads.finish();
        self.loras = Loras::default();
        self.groups.clear();
        self.pages.clear();
        self.flights.clear();
        self.ready = false;
    }

    /// See [`crate::backend::Backend::prepare`].
    ///
    /// # Errors
    /// `Internal` where rows of a matrix are missing, `Device` where no kernel works or the device failed.
    pub async fn prepare(&mut self) -> Result<()> {
        if self.ready {
            return Ok(());
        }
        if let Some(spec) = self.specs.iter().zip(&self.matrices).find(|(spec, matrix)| !matrix.is_complete(spec)).map(|(spec, _)| spec) {
            return Err(Error::internal(format!("not every row of `{}` was written", spec.name)));
        }
        self.check_kernels(&self.formats(), &self.kv_formats()).await?;
        self.ready = true;
        Ok(())
    }

    /// See [`crate::backend::Backend::draws_tokens`].
    pub fn draws_tokens(&self) -> bool {
        self.draws == Some(true)
    }

    /// Lowers the plan for the batch's shape where that was not done before, and issues the step: one submission.
    ///
    /// # Errors
    /// `Internal` for a batch that contradicts itself, `Memory` where the step does not fit, `Device` where the device failed.
    pub async fn run(&mut self, plan: &Plan, batch: &Batch) -> Result<()> {
        self.prepare().await?;
        // Nothing is awaited behind this: a step is issued whole or not at all.
        self.issue(plan, batch)
    }

    /// See [`crate::backend::Backend::trace_next`].
    pub fn trace_next(&mut self) {
        self.trace_next = true;
    }

    /// The program of a shape as text.
    ///
    /// # Errors
    /// As [`lower()`].
    pub fn program_text(&mut self, plan: &Plan, shape: &BatchShape) -> Result<String> {
        Ok(lower(plan, shape, self.target())?.text(plan))
    }

    /// Bytes held.
    pub fn memory(&self) -> MemoryUse {
        MemoryUse {
            weights: self.matrices.iter().map(Matrix::bytes).sum::<u64>() + self.vectors.iter().map(|v| v.wgpu.size()).sum::<u64>(),
            adapters: self.loras.bytes(),
            kv: self.pages.values().map(|(keys, values)| keys.wgpu.size() + values.wgpu.size()).sum(),
            activations: self.step.iter().map(Growing::size).sum::<u64>() + self.flights.bytes() + self.slots.wgpu.size(),
        }
    }

    /// Who this is.
    pub fn describe(&self) -> Description {
        let adapter = format!("{} ({})", self.report.name, self.report.api);
        let formats = self.formats();
        // Before a model is loaded: what any model would run on.
        let formats = if formats.is_empty() { &Format::ALL[..] } else { &formats[..] };
        Description { backend: "gpu", adapter, rung: self.rungs(formats) }
    }

    /// Which rung each kernel runs on for matrices of these formats, as text.
    pub fn rungs(&self, formats: &[Format]) -> String {
        self.selection.text(formats, &self.kv_formats())
    }

    /// Formats of the KV cache: f16 before there is one.
    fn kv_formats(&self) -> Vec<KvFormat> {
        let mut formats: Vec<KvFormat> = self.groups.iter().map(|group| group.format).collect();
        formats.sort_unstable();
        formats.dedup();
        if formats.is_empty() { vec![KvFormat::F16] } else { formats }
    }

    /// Formats of the uploaded matrices.
    fn formats(&self) -> Vec<Format> {
        let mut formats: Vec<Format> = self.specs.iter().map(|spec| spec.format).collect();
        formats.sort_unstable();
        formats.dedup();
        formats
    }

    /// The adapter.
    pub fn adapter(&self) -> &AdapterReport {
        &self.report
    }

    /// What was probed.
    pub fn caps(&self) -> Caps {
        *self.selection.caps()
    }

    /// Rungs that failed the self-check, one sentence each.
    pub fn failures(&self) -> Vec<String> {
        self.selection.failures()
    }

    fn target(&self) -> Target<'_> {
        Target {
            selection: &self.selection,
            matrices: &self.specs,
            groups: &self.groups,
            adapters: self.loras.shapes(),
            binding_limit: self.device.binding_limit(),
        }
    }
}
