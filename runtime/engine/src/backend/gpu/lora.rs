//! LoRA adapters on the device: for each linear that any adapter adapts, one buffer with A and B of all of them, and a table that finds an
//! adapter's by its index. So one dispatch serves every row, whatever adapters rows have.

use std::collections::BTreeMap;

use firecrest_shaders::Kernel;
use firecrest_shaders::params::LoraEntry;

use crate::backend::AdapterId;
use crate::error::{Error, ErrorCode, Result};
use crate::model::{AdapterPart, AdapterWeights};

use super::GpuBackend;
use super::buffers::Buffer;
use super::select::Key;

/// Bytes queued after which uploads are waited for: wgpu keeps a staging copy of every write until a submission.
const FLUSH: u64 = 32 << 20;

/// What programs know of the adapters of one linear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoraSite {
    /// Index of the plan's op.
    pub op: u32,
    /// Entries of one adapter in the table: the most parts of any.
    pub parts: u32,
    /// The largest rank.
    pub ranks: u32,
}

/// One linear's adapters on the device.
pub(super) struct Site {
    pub(super) weights: Buffer,
    pub(super) table: Buffer,
    /// Where each adapter's values begin, in floats.
    starts: BTreeMap<AdapterId, u64>,
}

/// An adapter's part of one linear: entries counted from its start, and how many floats there are.
struct Segment {
    entries: Vec<LoraEntry>,
    floats: u64,
}

/// One adapter.
struct Held {
    id: AdapterId,
    /// By op.
    segments: BTreeMap<u32, Segment>,
}

/// Every adapter that is held.
#[derive(Default)]
pub(super) struct Loras {
    held: Vec<Held>,
    sites: BTreeMap<u32, Site>,
    shapes: Vec<LoraSite>,
}

impl Loras {
    /// What programs are lowered with.
    pub(super) fn shapes(&self) -> &[LoraSite] {
        &self.shapes
    }

    pub(super) fn site(&self, op: u32) -> Option<&Site> {
        self.sites.get(&op)
    }

    /// An adapter's index in the tables.
    pub(super) fn index(&self, id: AdapterId) -> Option<u32> {
        self.held.iter().position(|held| held.id == id).map(|index| index as u32)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.sites.values().map(|site| site.weights.wgpu.size() + site.table.wgpu.size()).sum()
    }
}

/// Floats of A as it is stored: rows are padded to whole vec4s.
fn a_floats(part: &AdapterPart) -> u64 {
    u64::from(part.rank) * u64::from(part.columns.next_multiple_of(4))
}

/// Floats of B as it is stored.
fn b_floats(part: &AdapterPart) -> u64 {
    (u64::from(part.rank) * u64::from(part.rows)).next_multiple_of(4)
}

impl Segment {
    fn of(parts: &[&AdapterPart]) -> Result<Segment> {
        let mut segment = Segment { entries: Vec::new(), floats: 0 };
        for part in parts {
            let (a, b) = (segment.floats, segment.floats + a_floats(part));
            segment.floats = b + b_floats(part);
            if segment.floats > u64::from(u32::MAX) {
                return Err(Error::new(ErrorCode::Memory, format!("the adapter of {} is too large", part.name)));
            }
            segment.entries.push(LoraEntry {
                a: (a / 4) as u32,
                b: b as u32,
                rank: part.rank,
                first_row: part.first_row,
                rows: part.rows,
                pad: [0; 3],
            });
        }
        Ok(segment)
    }
}

/// The values of an adapter's parts of one linear, as [`Segment`] lays them out.
fn values(parts: &[&AdapterPart]) -> Vec<f32> {
    let mut out = Vec::new();
    for part in parts {
        let (columns, rank) = (part.columns as usize, part.rank as usize);
        for row in part.a.chunks_exact(columns) {
            out.extend_from_slice(row);
            out.resize(out.len().next_multiple_of(4), 0.0);
        }
        // Neighbouring invocations take neighbouring outputs: B stands by rank.
        out.extend((0..rank).flat_map(|r| part.b.iter().skip(r).step_by(rank)));
        out.resize(out.len().next_multiple_of(4), 0.0);
    }
    out
}

impl GpuBackend {
    /// See [`crate::backend::Backend::load_adapter`].
    ///
    /// # Errors
    /// `Memory` where the adapters of one linear pass what a binding may span, or do not fit the device.
    pub async fn load_adapter(&mut self, id: AdapterId, adapter: &AdapterWeights) -> Result<()> {
        self.device.check()?;
        if self.loras.index(id).is_some() {
            return Err(Error::internal(format!("an adapter with the id {} is held already", id.0)));
        }
        for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.adapts()) {
            self.check_kernel(Key::of(kernel)).await?;
        }
        let mut by_op: BTreeMap<u32, Vec<&AdapterPart>> = BTreeMap::new();
        for part in &adapter.parts {
            by_op.entry(part.op).or_default().push(part);
        }
        let segments = by_op.iter().map(|(&op, parts)| Ok((op, Segment::of(parts)?))).collect::<Result<_>>()?;
        self.loras.held.push(Held { id, segments });
        let arranged = self.arrange(&by_op);
        if arranged.is_err() {
            self.loras.held.pop();
        }
        let arranged = arranged?;
        self.take_sites(arranged);
        self.device.settle().await
    }

    /// See [`crate::backend::Backend::unload_adapter`].
    ///
    /// # Errors
    /// `Memory` where there is no room to put the other adapters anew.
    pub fn unload_adapter(&mut self, id: AdapterId) -> Result<()> {
        self.device.check()?;
        let Some(index) = self.loras.index(id) else {
            return Err(Error::internal(format!("no adapter has the id {}", id.0)));
        };
        let held = self.loras.held.remove(index as usize);
        match self.arrange(&BTreeMap::new()) {
            Ok(sites) => {
                self.take_sites(sites);
                Ok(())
            }
            Err(error) => {
                self.loras.held.insert(index as usize, held);
                Err(error)
            }
        }
    }

    fn take_sites(&mut self, sites: BTreeMap<u32, Site>) {
        self.loras.sites = sites;
        let segments = |op: u32| self.loras.held.iter().filter_map(move |held| held.segments.get(&op));
        let shape = |&op: &u32| LoraSite {
            op,
            parts: segments(op).map(|s| s.entries.len() as u32).max().unwrap_or(0),
            ranks: segments(op).flat_map(|s| &s.entries).map(|entry| entry.rank).max().unwrap_or(0),
        };
        self.loras.shapes = self.loras.sites.keys().map(shape).collect();
        // Programs name what was replaced, and know the largest rank.
        self.programs.clear();
        self.arena.clear();
        self.pipelines.forget_bind_groups();
    }

    /// Buffers for the adapters that are held now. Values of those that were before are copied on the device, `fresh` are the newest's.
    fn arrange(&mut self, fresh: &BTreeMap<u32, Vec<&AdapterPart>>) -> Result<BTreeMap<u32, Site>> {
        let mut ops: Vec<u32> = self.loras.held.iter().flat_map(|held| held.segments.keys().copied()).collect();
        ops.sort_unstable();
        ops.dedup();
        let mut sites = BTreeMap::new();
        let mut queued = 0;
        for op in ops {
            let (mut starts, mut floats, mut parts) = (BTreeMap::new(), 0, 0);
            for held in &self.loras.held {
                if let Some(segment) = held.segments.get(&op) {
                    starts.insert(held.id, floats);
                    floats += segment.floats;
                    parts = parts.max(segment.entries.len());
                }
            }
            let bytes = floats * 4;
            let limit = self.device.binding_limit();
            if bytes > limit {
                return Err(Error::new(
                    ErrorCode::Memory,
                    format!(
                        "the adapters of one linear layer (op {op}) need {bytes} bytes together; this GPU binds at most {limit}: unload others"
                    ),
                ));
            }
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
            let known = self.loras.sites.get(&op).filter(|site| site.starts == starts).map(|site| site.weights.clone());
            let weights = match known {
                Some(weights) => weights,
                None => {
                    let weights = self.allocator.buffer(&mut self.device, "adapters", bytes, usage)?;
                    if let Some(parts) = fresh.get(&op) {
                        let values = values(parts);
                        let start = floats - values.len() as u64;
                        self.device.queue.write_buffer(&weights.wgpu, start * 4, bytemuck::cast_slice(&values));
                        queued += values.len() as u64 * 4;
                    }
                    if let Some(site) = self.loras.sites.get(&op) {
                        let mut encoder = self.device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                        for held in &self.loras.held {
                            let (Some(from), Some(to), Some(segment)) =
                                (site.starts.get(&held.id), starts.get(&held.id), held.segments.get(&op))
                            else {
                                continue;
                            };
                            encoder.copy_buffer_to_buffer(&site.weights.wgpu, from * 4, &weights.wgpu, to * 4, segment.floats * 4);
                        }
                        self.device.queue.submit([encoder.finish()]);
                    }
                    weights
                }
            };
            let mut table = vec![LoraEntry::default(); self.loras.held.len() * parts];
            for (held, table) in self.loras.held.iter().zip(table.chunks_exact_mut(parts.max(1))) {
                let (Some(&start), Some(segment)) = (starts.get(&held.id), held.segments.get(&op)) else { continue };
                for (to, entry) in table.iter_mut().zip(&segment.entries) {
                    // Below the binding limit, which fits a u32 of floats.
                    *to = LoraEntry { a: entry.a + (start / 4) as u32, b: entry.b + start as u32, ..*entry };
                }
            }
            let buffer = self.allocator.buffer(&mut self.device, "adapter table", size_of_val(&table[..]) as u64, usage)?;
            self.device.queue.write_buffer(&buffer.wgpu, 0, bytemuck::cast_slice(&table));
            sites.insert(op, Site { weights, table: buffer, starts });
            if queued >= FLUSH {
                queued = 0;
                self.device.queue.submit(None);
                self.device.wait()?;
            }
        }
        Ok(sites)
    }
}
