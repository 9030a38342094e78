//! Runs single kernels through wgpu on every adapter present, with no engine between.

use crate::adapters;
use firecrest_shaders::reference::{self, Case};
use firecrest_shaders::{BindingKind, Caps, Kernel, TABLE, Variant, shuffle_width};
use std::collections::HashMap;
use wgpu::util::DeviceExt;

/// A device and the pipelines made so far.
pub struct Runner {
    /// The adapter's name.
    pub name: String,
    /// What was probed of it.
    pub caps: Caps,
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipelines: HashMap<String, wgpu::ComputePipeline>,
}

/// A device on every software adapter; those absent are skipped loudly.
pub fn runners(what: &str) -> Vec<Runner> {
    let wanted = adapters::software(what);
    let instance = wgpu::Instance::default();
    let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    let is_wanted = |adapter: &&wgpu::Adapter| wanted.iter().any(|name| adapter.get_info().name.to_lowercase().contains(name));
    found.iter().filter(is_wanted).map(Runner::new).collect()
}

impl Runner {
    fn new(adapter: &wgpu::Adapter) -> Runner {
        let info = adapter.get_info();
        let features = adapter.features() & (wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16);
        let descriptor = wgpu::DeviceDescriptor {
            required_features: features,
            // The least that WebGPU promises, so that a kernel that needs more fails here.
            required_limits: wgpu::Limits::default(),
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) =
            pollster::block_on(adapter.request_device(&descriptor)).unwrap_or_else(|error| panic!("{}: {error}", info.name));
        let min_subgroup = if features.contains(wgpu::Features::SUBGROUP) { info.subgroup_min_size } else { 0 };
        let caps = Caps { min_subgroup, f16: features.contains(wgpu::Features::SHADER_F16), ..Caps::BASE };
        Runner { name: info.name, caps, device, queue, pipelines: HashMap::new() }
    }

    /// Rows of a kernel that this adapter can run. Those it can't are skipped loudly.
    pub fn variants(&self, kernel: Kernel) -> Vec<&'static Variant> {
        // For work on one row: FIRECREST_VARIANTS=q4_k_r4 runs those with it in their name.
        let only = std::env::var("FIRECREST_VARIANTS").unwrap_or_default();
        let rows = TABLE.iter().filter(|v| v.kernel == kernel && v.name.contains(&only));
        let (can, cannot): (Vec<&'static Variant>, Vec<&'static Variant>) = rows.partition(|v| self.caps.meets(v.needs));
        if !cannot.is_empty() {
            let names: Vec<&str> = cannot.iter().map(|v| v.name).collect();
            // Lacking a feature is the adapter's nature, not a hole in the set-up: no failure under CI.
            eprintln!("SKIPPED {} on {}: it lacks what these need: {}", kernel.name(), self.name, names.join(", "));
        }
        can
    }

    fn pipeline(&mut self, case: &Case) -> wgpu::ComputePipeline {
        let mut constants = case.overrides.clone();
        if case.variant.overrides.iter().any(|o| o.name == "SHUFFLE_WIDTH") && !constants.iter().any(|(name, _)| *name == "SHUFFLE_WIDTH") {
            constants.push(("SHUFFLE_WIDTH", f64::from(shuffle_width(&self.caps))));
        }
        let key = format!("{} {constants:?}", case.variant.name);
        if let Some(pipeline) = self.pipelines.get(&key) {
            return pipeline.clone();
        }
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(case.variant.name),
            source: wgpu::ShaderSource::Wgsl(case.variant.wgsl.into()),
        });
        let entries: Vec<wgpu::BindGroupLayoutEntry> = case
            .variant
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
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout =
            self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(case.variant.name), entries: &entries });
        let layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(case.variant.name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(case.variant.name),
            layout: Some(&layout),
            module: &module,
            entry_point: Some(case.variant.entry()),
            compilation_options: wgpu::PipelineCompilationOptions { constants: &constants, ..Default::default() },
            cache: None,
        });
        self.pipelines.insert(key, pipeline.clone());
        pipeline
    }

    /// Dispatches the case. Returns what its read-write buffers hold then, by binding.
    pub fn run(&mut self, case: &Case) -> Vec<(usize, Vec<u32>)> {
        let pipeline = self.pipeline(case);
        let buffers: Vec<wgpu::Buffer> = case
            .buffers
            .iter()
            .zip(case.variant.bindings)
            .map(|(words, binding)| {
                self.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
                    label: Some(binding.name),
                    contents: &words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>(),
                    usage: match binding.kind {
                        BindingKind::Uniform(_) => wgpu::BufferUsages::UNIFORM,
                        _ => wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
                    },
                })
            })
            .collect();
        let entries: Vec<wgpu::BindGroupEntry> = buffers
            .iter()
            .zip(case.variant.bindings)
            .map(|(buffer, binding)| wgpu::BindGroupEntry { binding: binding.index, resource: buffer.as_entire_binding() })
            .collect();
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(case.variant.name),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(case.grid[0], case.grid[1], case.grid[2]);
        }
        let written: Vec<(usize, wgpu::Buffer)> = (0..buffers.len())
            .filter(|&i| case.variant.bindings[i].kind == BindingKind::ReadWrite)
            .map(|i| {
                let size = buffers[i].size();
                let back = self.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("readback"),
                    size,
                    usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                });
                encoder.copy_buffer_to_buffer(&buffers[i], 0, &back, 0, size);
                (i, back)
            })
            .collect();
        self.queue.submit([encoder.finish()]);
        for (_, buffer) in &written {
            buffer.slice(..).map_async(wgpu::MapMode::Read, |outcome| outcome.expect("a readback buffer can be mapped"));
        }
        self.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device finishes");
        let read = |buffer: &wgpu::Buffer| {
            let bytes = buffer.slice(..).get_mapped_range().expect("a mapped buffer can be read");
            bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        };
        written.iter().map(|(i, buffer)| (*i, read(buffer))).collect()
    }

    /// Runs the case and judges it by the reference. Returns the worst error as a share of the largest value.
    pub fn check(&mut self, case: &Case) -> Result<f64, String> {
        let expected = reference::expected(case);
        let mut worst = 0.0f64;
        for (binding, got) in self.run(case) {
            let error = reference::compare(case, binding, &expected[binding], &got).map_err(|e| format!("{}: {e}", self.name))?;
            worst = worst.max(error);
        }
        Ok(worst)
    }
}

/// Runs every case on every adapter for every row of the kernel, and fails with all that went wrong.
///
/// # Panics
/// Where a case differs from the reference, or no row was run at all.
pub fn check_all(kernel: Kernel, cases: impl Fn(&'static Variant) -> Vec<Case>) {
    let mut failures = Vec::new();
    for mut runner in runners(kernel.name()) {
        let variants = runner.variants(kernel);
        assert!(!variants.is_empty(), "no row of `{}` runs on {}", kernel.name(), runner.name);
        let (mut count, mut worst) = (0, 0.0f64);
        for variant in variants {
            let cases = cases(variant);
            assert!(!cases.is_empty(), "`{}` has no case", variant.name);
            for case in cases {
                count += 1;
                match runner.check(&case) {
                    Ok(error) => worst = worst.max(error),
                    Err(message) => failures.push(message),
                }
            }
        }
        println!("{}: {count} cases on {}, worst error {worst:.1e} of the largest value", kernel.name(), runner.name);
    }
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures[..failures.len().min(40)].join("\n"));
}
