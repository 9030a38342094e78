//! Pipelines and bind groups, each made once.

use std::collections::HashMap;

use firecrest_shaders::{BindingKind, Variant};

use crate::error::Result;

use super::buffers::Buffer;
use super::device::Device;

/// A variant's text on the device.
struct Module {
    module: wgpu::ShaderModule,
    bindings: wgpu::BindGroupLayout,
    layout: wgpu::PipelineLayout,
}

/// What a pipeline is made of: a variant's name and its constants, sorted by name.
type PipelineKey = (&'static str, Vec<(&'static str, u32)>);

/// What a bind group is made of: a variant's name, and buffer and offset of each binding.
type BindGroupKey = (&'static str, Vec<(u64, u64)>);

/// Everything made from variants so far.
#[derive(Default)]
pub(super) struct Pipelines {
    modules: HashMap<&'static str, Module>,
    pipelines: HashMap<PipelineKey, wgpu::ComputePipeline>,
    bind_groups: HashMap<BindGroupKey, wgpu::BindGroup>,
}

impl Pipelines {
    fn module(&mut self, device: &mut Device, variant: &'static Variant) -> Result<&Module> {
        if !self.modules.contains_key(variant.name) {
            // A browser wants `enable subgroups;`, which naga refuses.
            let text = if cfg!(target_family = "wasm") { variant.browser_text() } else { variant.wgsl.to_owned() };
            let entries: Vec<wgpu::BindGroupLayoutEntry> = variant
                .bindings
                .iter()
                .map(|binding| wgpu::BindGroupLayoutEntry {
                    binding: binding.index,
                    visibility: wgpu::ShaderStages::COMPUTE,
                    ty: wgpu::BindingType::Buffer {
                        ty: match binding.kind {
                            BindingKind::Uniform(_) => wgpu::BufferBindingType::Uniform,
                            BindingKind::Read => wgpu::BufferBindingType::Storage { read_only: true },
                            BindingKind::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
                        },
                        has_dynamic_offset: matches!(binding.kind, BindingKind::Uniform(_)),
                        min_binding_size: None,
                    },
                    count: None,
                })
                .collect();
            let made = device.scoped(&format!("compiling kernel `{}`", variant.name), |device| {
                let label = Some(variant.name);
                let module =
                    device.create_shader_module(wgpu::ShaderModuleDescriptor { label, source: wgpu::ShaderSource::Wgsl(text.into()) });
                let bindings = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
                let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                    label,
                    bind_group_layouts: &[Some(&bindings)],
                    immediate_size: 0,
                });
                Module { module, bindings, layout }
            })?;
            self.modules.insert(variant.name, made);
        }
        Ok(&self.modules[variant.name])
    }

    /// The pipeline of a variant with these constants (sorted by name).
    pub(super) fn pipeline(
        &mut self,
        device: &mut Device,
        variant: &'static Variant,
        constants: &[(&'static str, u32)],
    ) -> Result<wgpu::ComputePipeline> {
        // What only says what is so anyway makes no pipeline of its own.
        let is_default = |(name, value): &(&str, u32)| variant.overrides.iter().any(|o| o.name == *name && o.default == f64::from(*value));
        let constants: Vec<(&'static str, u32)> = constants.iter().copied().filter(|constant| !is_default(constant)).collect();
        let key = (variant.name, constants.clone());
        if let Some(pipeline) = self.pipelines.get(&key) {
            return Ok(pipeline.clone());
        }
        let made = {
            let module = self.module(device, variant)?;
            let (module, layout) = (module.module.clone(), module.layout.clone());
            let constants: Vec<(&str, f64)> = constants.iter().map(|&(name, value)| (name, f64::from(value))).collect();
            device.scoped(&format!("making a pipeline of kernel `{}`", variant.name), |device| {
                device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                    label: Some(variant.name),
                    layout: Some(&layout),
                    module: &module,
                    entry_point: Some(variant.entry()),
                    compilation_options: wgpu::PipelineCompilationOptions {
                        constants: &constants,
                        ..wgpu::PipelineCompilationOptions::default()
                    },
                    cache: None,
                })
            })?
        };
        self.pipelines.insert(key, made.clone());
        Ok(made)
    }

    /// A bind group of the variant's bindings, each a buffer from an offset on; uniforms are bound with a dynamic offset.
    pub(super) fn bind_group(
        &mut self,
        device: &mut Device,
        variant: &'static Variant,
        bound: &[(Buffer, u64)],
    ) -> Result<wgpu::BindGroup> {
        let key = (variant.name, bound.iter().map(|(buffer, offset)| (buffer.id, *offset)).collect::<Vec<_>>());
        if let Some(group) = self.bind_groups.get(&key) {
            return Ok(group.clone());
        }
        let made = self.bind_group_once(device, variant, bound)?;
        self.bind_groups.insert(key, made.clone());
        Ok(made)
    }

    /// [`Pipelines::bind_group`], not kept.
    pub(super) fn bind_group_once(
        &mut self,
        device: &mut Device,
        variant: &'static Variant,
        bound: &[(Buffer, u64)],
    ) -> Result<wgpu::BindGroup> {
        // A buffer may be larger than what one binding may span.
        let limit = device.binding_limit() / 16 * 16;
        let entries: Vec<wgpu::BindGroupEntry<'_>> = variant
            .bindings
            .iter()
            .zip(bound)
            .map(|(binding, (buffer, offset))| {
                let size = match binding.kind {
                    BindingKind::Uniform(bytes) => u64::from(bytes),
                    _ => (buffer.wgpu.size() - offset).min(limit),
                };
                wgpu::BindGroupEntry {
                    binding: binding.index,
                    resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                        buffer: &buffer.wgpu,
                        offset: *offset,
                        size: std::num::NonZeroU64::new(size),
                    }),
                }
            })
            .collect();
        let layout = self.module(device, variant)?.bindings.clone();
        device.scoped(&format!("binding buffers to kernel `{}`", variant.name), |device| {
            device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(variant.name), layout: &layout, entries: &entries })
        })
    }

    /// Forgets bind groups, which keep alive what they bind: buffers were replaced.
    pub(super) fn forget_bind_groups(&mut self) {
        self.bind_groups.clear();
    }
}
