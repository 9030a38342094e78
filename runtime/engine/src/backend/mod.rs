//! Where plans run: a closed set of backends with a few verbs (upload, lower, run, read, free).
//!
//! Weight layout belongs to (backend, format): `upload` takes rows of GGML blocks of a kernel [`Format`] and repacks them.

use firecrest_shaders::Format;

use crate::Clock;
use crate::batch::{Batch, BatchShape};
use crate::error::{Error, Result};
use crate::kv::KvGroup;
use crate::model::AdapterWeights;
use crate::model::plan::Plan;

#[cfg(feature = "cpu")]
pub mod cpu;
#[cfg(feature = "gpu")]
pub mod gpu;
mod trace;

pub use trace::Timed;

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

/// What a step leaves to be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs {
    /// Rows of OUT, those that [`Batch::values`] names, `[rows, plan.widths.out]`.
    pub values: Vec<f32>,
    /// By [`Batch::draws`]. Empty where the backend draws none.
    pub drawn: Vec<Drawn>,
}

/// What came of a draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// This token.
    Token(u32),
    /// A logit was NaN or infinite.
    NotFinite,
    /// No token may be drawn.
    NothingAllowed,
    /// It waited, and was not asked for.
    Never,
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

    /// Makes ready what the first step would have to wait for: kernels are compiled and checked. Called once the weights are whole and the KV
    /// cache is allocated.
    pub async fn prepare(&mut self) -> Result<()> {
        each!(self, b => b.prepare().await)
    }

    /// Whether the backend draws tokens itself ([`Batch::draws`]), so that steps can follow each other before any is read. Known once it is
    /// prepared. One that does not leaves every output to be read, and holds one step at a time.
    pub fn draws_tokens(&self) -> bool {
        each!(self, b => b.draws_tokens())
    }

    /// Lowers the plan for the batch's shape (programs are cached by plan kind and shape), and issues the step. What was issued
    /// before runs before it, and [`Backend::read`] gives the steps' results in their order.
    pub async fn run(&mut self, plan: &Plan, batch: &Batch) -> Result<()> {
        each!(self, b => b.run(plan, batch).await)
    }

    /// Issues draws of the last step that wait: index into its [`Batch::draws`], and the tokens allowed, a bit each, `[vocab / 32]` rounded up;
    /// `None` allows all. Called once for a step that has any that wait; those that are not named are not drawn.
    pub fn draw(&mut self, draws: &[(usize, Option<Vec<u32>>)]) -> Result<()> {
        match self {
            #[cfg(feature = "gpu")]
            Backend::Gpu(gpu) => gpu.draw(draws),
            _ => Err(Error::internal(format!("{} draws for a backend that draws none", draws.len()))),
        }
    }

    /// Waits for the oldest step that was not read, and replaces `outputs` with what it left. Dropped before it is ready, it can be asked again.
    pub async fn read(&mut self, outputs: &mut Outputs) -> Result<()> {
        each!(self, b => b.read(outputs).await)
    }

    /// Has every part of the next step that is issued timed: a CPU by the host's clock, a GPU by its own, with a pass for every dispatch, which takes
    /// longer than a step does otherwise. Changes no bit.
    pub fn trace_next(&mut self, clock: &Clock) {
        match self {
            #[cfg(feature = "cpu")]
            Backend::Cpu(cpu) => cpu.trace_next(clock.clone()),
            #[cfg(feature = "gpu")]
            Backend::Gpu(gpu) => gpu.trace_next(),
            #[cfg(not(any(feature = "cpu", feature = "gpu")))]
            _ => match *self {},
        }
    }

    /// What a traced step, which was read, took. `None` where none was traced, or where the device has no timestamps.
    pub async fn traced(&mut self) -> Result<Option<Vec<Timed>>> {
        each!(self, b => b.traced().await)
    }

    /// Lets the oldest step that was not read go by unread.
    pub fn skip(&mut self) {
        each!(self, b => b.skip());
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
