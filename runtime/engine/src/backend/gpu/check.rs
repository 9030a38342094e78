//! The load-time self-check: every kernel that a model will use runs a few small cases and is compared with its reference
//! twin; a rung that differs is stepped down from, and the reason kept. Where the host lends a clock, rungs that pass are
//! timed and the fastest is taken.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use firecrest_shaders::reference::{Case, MatrixCase, check_cases, compare, expected};
use firecrest_shaders::{BindingKind, Format, Kernel, KvFormat, Rung, shuffle_width};

use crate::error::{Error, ErrorCode, Result};

use super::GpuBackend;
use super::buffers::Buffer;
use super::select::Key;
use crate::Clock;

/// How much faster than the preferred rung another must be to be taken, as a ratio: rungs change bits, and a close race that
/// falls out differently from run to run would change a model's answers with it.
const MARGIN: f64 = 1.15;

/// How long a rung is timed for, at least, so that the clock's grain and a submission's cost don't matter.
const TIMED: Duration = Duration::from_millis(4);

/// The most dispatches of one timing.
const MOST_DISPATCHES: u32 = 256;

/// Timings of a rung, of which the best counts.
const RUNS: u32 = 3;

/// Whether a rung is right, and the reason where it is not.
type Verdict = Result<(), String>;

/// What was found in this process: by adapter and driver, whether a rung of a kernel is right, and the reason where it is not.
/// A model loaded again, or a device rebuilt after it was lost, need not find it again.
static VERDICTS: Mutex<BTreeMap<(String, Key, Rung), Verdict>> = Mutex::new(BTreeMap::new());

/// The rungs that timing took in this process: a second backend on an adapter must not choose otherwise, or answers would differ.
static CHOICES: Mutex<BTreeMap<(String, Key), Rung>> = Mutex::new(BTreeMap::new());

/// A case on the device.
struct Staged {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    buffers: Vec<Buffer>,
    grid: [u32; 3],
}

impl GpuBackend {
    /// Checks the kernels that models of these weight formats use over caches of these KV formats, each once. [`GpuBackend::run`]
    /// does this for the formats it was given.
    ///
    /// # Errors
    /// `Device` where a kernel fails on every rung, or the device was lost.
    pub async fn check_kernels(&mut self, formats: &[Format], kv: &[KvFormat]) -> Result<()> {
        // What only adapters need is checked with the first of them.
        let kernels = Kernel::ALL.into_iter().filter(|kernel| *kernel != Kernel::Sample && !kernel.adapts());
        for key in kernels.flat_map(|kernel| Key::all(kernel, formats, kv)) {
            self.check_kernel(key).await?;
        }
        if self.draws.is_none() {
            // Where it does not work the host draws.
            let works = self.check_key(Key::of(Kernel::Sample)).await.is_ok();
            self.device.check()?;
            self.draws = Some(works);
        }
        Ok(())
    }

    /// Checks one kernel, if that was not done before.
    pub(super) async fn check_kernel(&mut self, key: Key) -> Result<()> {
        if !self.checked.contains(&key) {
            self.check_key(key).await?;
            self.checked.push(key);
        }
        Ok(())
    }

    /// Finds a rung that is right, and among right ones the fastest.
    async fn check_key(&mut self, key: Key) -> Result<()> {
        let kernel = key.kernel;
        // A software adapter's speed is that of whatever else the processor does: what it says of rungs is noise.
        let timed = self.clock.clone().filter(|_| matches!(kernel, Kernel::Matvec | Kernel::Matmul) && !self.report.software);
        let preferred = loop {
            // An error where every rung has failed.
            let rung = self.selection.rung(key)?;
            if self.rung_is_right(key, rung).await? {
                break rung;
            }
        };
        let Some(clock) = timed else { return Ok(()) };
        let place = (format!("{}, {:?}", self.identity(), self.selection.without()), key);
        if let Some(&rung) = CHOICES.lock().unwrap_or_else(PoisonError::into_inner).get(&place) {
            self.selection.choose(key, rung);
            return Ok(());
        }
        let mut fastest = (preferred, self.time(key, preferred, &clock).await?.mul_f64(1.0 / MARGIN));
        for rung in self.selection.rungs(key) {
            if rung == preferred || !self.rung_is_right(key, rung).await? {
                continue;
            }
            let taken = self.time(key, rung, &clock).await?;
            if taken < fastest.1 {
                fastest = (rung, taken);
            }
        }
        CHOICES.lock().unwrap_or_else(PoisonError::into_inner).insert(place, fastest.0);
        self.selection.choose(key, fastest.0);
        Ok(())
    }

    /// Whether a rung is right here. A difference, or a driver that refuses the kernel, fails the rung; a lost device is an
    /// error.
    async fn rung_is_right(&mut self, key: Key, rung: Rung) -> Result<bool> {
        let place = (self.identity(), key, rung);
        let known = VERDICTS.lock().unwrap_or_else(PoisonError::into_inner).get(&place).cloned();
        let verdict = match known {
            Some(verdict) => verdict,
            None => {
                let verdict = self.judge_rung(key, rung).await?;
                VERDICTS.lock().unwrap_or_else(PoisonError::into_inner).insert(place, verdict.clone());
                verdict
            }
        };
        match verdict {
            Ok(()) => Ok(true),
            Err(reason) => {
                self.selection.fail(key, rung, reason);
                self.programs.clear();
                Ok(false)
            }
        }
    }

    /// Runs the cases of a rung: all of the first size, which decode uses, and the first of every other size.
    async fn judge_rung(&mut self, key: Key, rung: Rung) -> Result<Result<(), String>> {
        let sizes = key.variants(rung).filter(|variant| self.selection.allows(variant)).enumerate();
        let cases: Vec<Case> =
            sizes.flat_map(|(index, variant)| check_cases(variant).into_iter().take(if index == 0 { usize::MAX } else { 1 })).collect();
        match self.run_cases(&cases).await {
            Ok(results) => Ok(results.iter().zip(&cases).try_for_each(|(written, case)| judge(case, written))),
            Err(error) => {
                self.device.check()?;
                Ok(Err(error.message().to_owned()))
            }
        }
    }

    /// What verdicts hold for: the adapter and its driver.
    fn identity(&self) -> String {
        format!("{} ({}, {})", self.report.name, self.report.api, self.report.driver)
    }

    /// Runs cases, one submission for all, and returns what each of their bindings holds then, in words; empty where it is only
    /// read.
    ///
    /// # Errors
    /// `Device` where a kernel is refused or the device fails.
    pub async fn run_cases(&mut self, cases: &[Case]) -> Result<Vec<Vec<Vec<u32>>>> {
        let mut staged = Vec::with_capacity(cases.len());
        for case in cases {
            staged.push(self.stage(case)?);
        }
        let written = |case: &Case| -> Vec<bool> { case.variant.bindings.iter().map(|b| b.kind == BindingKind::ReadWrite).collect() };
        let total: u64 = cases
            .iter()
            .map(|case| {
                case.buffers.iter().zip(written(case)).filter(|(_, written)| *written).map(|(words, _)| words.len() as u64 * 4).sum::<u64>()
            })
            .sum();
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.device.buffer("self-check", total, usage)?;
        let mut encoder = self.device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("self-check") });
        let mut offset = 0;
        for (case, staged) in cases.iter().zip(&staged) {
            encode(&mut encoder, staged, 1);
            for ((words, written), buffer) in case.buffers.iter().zip(written(case)).zip(&staged.buffers) {
                if written {
                    let bytes = words.len() as u64 * 4;
                    encoder.copy_buffer_to_buffer(&buffer.wgpu, 0, &staging, offset, bytes);
                    offset += bytes;
                }
            }
        }
        self.device.queue.submit([encoder.finish()]);
        let mut words: Vec<u32> = Vec::new();
        self.device.read(&staging, total, |bytes| words.extend_from_slice(bytemuck::cast_slice(bytes))).await?;
        let mut rest = words.as_slice();
        let mut results = Vec::with_capacity(cases.len());
        for case in cases {
            let mut buffers = Vec::with_capacity(case.buffers.len());
            for (words, written) in case.buffers.iter().zip(written(case)) {
                let (taken, left) = rest.split_at(if written { words.len() } else { 0 });
                buffers.push(taken.to_vec());
                rest = left;
            }
            results.push(buffers);
        }
        Ok(results)
    }

    /// Puts a case on the device.
    fn stage(&mut self, case: &Case) -> Result<Staged> {
        let mut constants: Vec<(&'static str, u32)> = case.overrides.iter().map(|&(name, value)| (name, value as u32)).collect();
        if case.variant.overrides.iter().any(|o| o.name == "SHUFFLE_WIDTH") {
            constants.push(("SHUFFLE_WIDTH", shuffle_width(self.selection.caps())));
        }
        constants.sort_unstable();
        let pipeline = self.pipelines.pipeline(&mut self.device, case.variant, &constants)?;
        let mut buffers = Vec::with_capacity(case.buffers.len());
        for (binding, words) in case.variant.bindings.iter().zip(&case.buffers) {
            let kind = match binding.kind {
                BindingKind::Uniform(_) => wgpu::BufferUsages::UNIFORM,
                BindingKind::Read | BindingKind::ReadWrite => wgpu::BufferUsages::STORAGE,
            };
            let usage = kind | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
            let buffer = self.allocator.buffer(&mut self.device, binding.name, words.len() as u64 * 4, usage)?;
            self.device.queue.write_buffer(&buffer.wgpu, 0, bytemuck::cast_slice(words));
            buffers.push(buffer);
        }
        let bound: Vec<(Buffer, u64)> = buffers.iter().map(|buffer| (buffer.clone(), 0)).collect();
        let bind_group = self.pipelines.bind_group_once(&mut self.device, case.variant, &bound)?;
        Ok(Staged { pipeline, bind_group, buffers, grid: case.grid })
    }

    /// The time a dispatch takes on a rung, at the size that decode (or a chunk of a prompt) has.
    async fn time(&mut self, key: Key, rung: Rung, clock: &Clock) -> Result<Duration> {
        let kernel = key.kernel;
        let rows = if kernel == Kernel::Matvec { 1 } else { 64 };
        let usable = key.variants(rung).filter(|variant| self.selection.allows(variant));
        let variant = usable
            .min_by_key(|variant| variant.rows().abs_diff(rows))
            .ok_or_else(|| Error::new(ErrorCode::Internal, format!("no variant of `{}` to time", kernel.name())))?;
        let staged = self.stage(&MatrixCase::product(2048, 512, rows).case(variant))?;
        let fence = self.device.buffer("timing", 16, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)?;
        let mut dispatches = 1;
        // Once unmeasured, since the first use of a pipeline may finish compiling it; then until there are enough dispatches to
        // time; then the best of few, since anything but the kernel only adds.
        let mut warm = false;
        let mut best: Option<Duration> = None;
        let mut runs = 0;
        loop {
            let before = clock();
            let mut encoder = self.device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("timing") });
            encode(&mut encoder, &staged, dispatches);
            if let Some(last) = staged.buffers.last() {
                encoder.copy_buffer_to_buffer(&last.wgpu, 0, &fence, 0, 16);
            }
            self.device.queue.submit([encoder.finish()]);
            self.device.read(&fence, 16, |_| ()).await?;
            let taken = clock().saturating_sub(before);
            if !warm {
                warm = true;
            } else if taken < TIMED && dispatches < MOST_DISPATCHES && runs == 0 {
                dispatches *= 2;
            } else {
                let shortest = best.map_or(taken, |best| best.min(taken));
                best = Some(shortest);
                runs += 1;
                if runs == RUNS {
                    return Ok(shortest / dispatches);
                }
            }
        }
    }
}

fn encode(encoder: &mut wgpu::CommandEncoder, staged: &Staged, dispatches: u32) {
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    pass.set_pipeline(&staged.pipeline);
    pass.set_bind_group(0, &staged.bind_group, &[0]);
    let [x, y, z] = staged.grid;
    for _ in 0..dispatches {
        pass.dispatch_workgroups(x, y, z);
    }
}

/// Compares everything a case wrote.
fn judge(case: &Case, got: &[Vec<u32>]) -> Result<(), String> {
    let wanted = expected(case);
    for (binding, about) in case.variant.bindings.iter().enumerate() {
        if about.kind == BindingKind::ReadWrite {
            compare(case, binding, &wanted[binding], &got[binding])?;
        }
    }
    Ok(())
}
