//! Where plans run: a closed set of backends with a few verbs (upload, lower, run, read, free).
//!
//! Weight layout belongs to (backend, format): `upload` takes rows of GGML blocks of a kernel [`Format`] and repacks them.

use firecrest_shaders::Format;

use crate::batch::{Batch, BatchShape, Slot};
use crate::error::Result;
use crate::kv::KvGroup;
use crate::model::AdapterWeights;
use crate::model::plan::Plan;

#[cfg(feature = "cpu")]
pub mod cpu;
#[cfg(feature = "gpu")]
pub mod gpu;

/// A matrix on a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MatrixId(pub u32);

/// A vector of f32 on a backend (gains, biases, frequencies).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VectorId(pub u32);

/// A LoRA adapter on a backend. The engine numbers them, and never uses a number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AdapterId(pub u32);

/// A matrix about to be uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatrixSpec {
    /// What messages call it: the tensor's name, or names joined by `+`.
    pub name: String,
    /// Output rows.
    pub rows: usize,
    /// Inputs; a multiple of the format's block length.
    pub columns: usize,
    /// How rows are given, and stored.
    pub format: Format,
}

/// What memory a backend holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Weights as repacked.
    pub weights: u64,
    /// LoRA adapters.
    pub adapters: u64,
    /// KV cache pages.
    pub kv: u64,
    /// Activation buffers.
    pub activations: u64,
}

/// What a backend says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// `cpu` or `gpu`.
    pub backend: &'static str,
    /// The adapter's name, or the CPU's instruction set.
    pub adapter: String,
    /// The rung chosen: kernel families by name.
    pub rung: String,
}

/// A closed set: no trait, no stubs.
#[allow(clippy::large_enum_variant, reason = "there is one a model, held by value in its engine and never copied")]
pub enum Backend {
    /// SIMD kernels on this processor.
    #[cfg(feature = "cpu")]
    Cpu(cpu::CpuBackend),
    /// WGSL kernels through wgpu.
    #[cfg(feature = "gpu")]
    Gpu(gpu::GpuBackend),
}

/// Calls the method of the same name on whichever backend this is.
macro_rules! each {
    ($self:ident, $backend:ident => $call:expr) => {
        match $self {
            #[cfg(feature = "cpu")]
            Backend::Cpu($backend) => $call,
            #[cfg(feature = "gpu")]
            Backend::Gpu($backend) => $call,
            // Without a backend the set is empty; a reference to it is not known to be.
            #[cfg(not(any(feature = "cpu", feature = "gpu")))]
            _ => match *$self {},
        }
    };
}

#[cfg_attr(not(any(feature = "cpu", feature = "gpu")), allow(unused_variables, reason = "no backend, no use of arguments"))]
impl Backend {
    /// Reserves a matrix. Rows follow by [`Backend::write_rows`], every row exactly once, in any order.
    pub fn matrix(&mut self, spec: &MatrixSpec) -> Result<MatrixId> {
        each!(self, b => b.matrix(spec))
    }

    /// Repacks and stores rows `first_row..` given as GGML blocks of the matrix's format.
    /// `blocks.len()` is a multiple of the format's row bytes.
    pub fn write_rows(&mut self, matrix: MatrixId, first_row: usize, blocks: &[u8]) -> Result<()> {
        each!(self, b => b.write_rows(matrix, first_row, blocks))
    }

    /// Uploads a vector of f32.
    pub fn vector(&mut self, name: &str, values: &[f32]) -> Result<VectorId> {
        each!(self, b => b.vector(name, values))
    }

    /// Allocates the KV cache: one pool a group. Called once, after the weights.
    pub fn allocate_kv(&mut self, groups: &[KvGroup]) -> Result<()> {
        each!(self, b => b.allocate_kv(groups))
    }

    /// Stores an adapter under an id that no other has. On an error nothing has changed.
    pub async fn load_adapter(&mut self, id: AdapterId, adapter: &AdapterWeights) -> Result<()> {
        each!(self, b => b.load_adapter(id, adapter).await)
    }

    /// Lets go of an adapter that no later batch names.
    pub fn unload_adapter(&mut self, id: AdapterId) -> Result<()> {
        each!(self, b => b.unload_adapter(id))
    }

    /// Lets go of weights, vectors, adapters and KV cache. Threads, the device, its compiled kernels and what their self-check found stay, and ids
    /// begin at 0 again: another model may be loaded.
    pub fn unload(&mut self) {
        each!(self, b => b.unload());
    }

    /// Puts a token into a slot, for rows that feed from it.
    pub fn write_slot(&mut self, slot: Slot, token: u32) -> Result<()> {
        each!(self, b => b.write_slot(slot, token))
    }

    /// Lowers the plan for the batch's shape (programs are cached by plan kind and shape), and runs it. On return the step
    /// has been issued; [`Backend::read_outputs`] waits for it.
    pub async fn run(&mut self, plan: &Plan, batch: &Batch) -> Result<()> {
        each!(self, b => b.run(plan, batch).await)
    }

    /// Waits for the step and replaces `out` with OUT, `[outputs, plan.widths.out]`.
    pub async fn read_outputs(&mut self, out: &mut Vec<f32>) -> Result<()> {
        each!(self, b => b.read_outputs(out).await)
    }

    /// What would run for this shape, as text: one line a dispatch or kernel call. Snapshots of it are tests.
    pub fn program_text(&mut self, plan: &Plan, shape: &BatchShape) -> Result<String> {
        each!(self, b => b.program_text(plan, shape))
    }

    /// Whether prompt and generated positions are computed alike, bit for bit.
    pub fn has_one_class(&self) -> bool {
        match self {
            #[cfg(feature = "cpu")]
            Backend::Cpu(_) => true,
            #[cfg(feature = "gpu")]
            Backend::Gpu(_) => false,
            #[cfg(not(any(feature = "cpu", feature = "gpu")))]
            _ => match *self {},
        }
    }

    /// Bytes held.
    pub fn memory(&self) -> MemoryUse {
        each!(self, b => b.memory())
    }

    /// Who this is.
    pub fn describe(&self) -> Description {
        each!(self, b => b.describe())
    }
}
