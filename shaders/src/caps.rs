//! What a device can do, and what a variant asks of it.

/// What a pipeline's text uses beyond base WGSL; its row is validated with exactly these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Needs {
    /// Subgroup shuffles. Any subgroup size from 4 up will do.
    pub subgroups: bool,
    /// `enable f16;`.
    pub f16: bool,
}

/// What was probed of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Smallest subgroup size, where the device has subgroups. 0: none.
    pub min_subgroup: u32,
    /// Whether shaders may use f16.
    pub f16: bool,
    /// Storage buffers a stage.
    pub storage_buffers: u32,
    /// Invocations a workgroup.
    pub invocations: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
}

impl Caps {
    /// The least that WebGPU promises.
    pub const BASE: Caps = Caps { min_subgroup: 0, f16: false, storage_buffers: 8, invocations: 256, workgroup_bytes: 16384 };

    /// Whether a pipeline with these needs can be made.
    pub const fn meets(&self, needs: Needs) -> bool {
        (!needs.subgroups || self.min_subgroup >= 4) && (!needs.f16 || self.f16)
    }
}

/// Which way a kernel computes. Rungs are chosen at load, never per batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rung {
    /// Base WGSL, f32 arithmetic.
    Plain,
    /// Reductions begin with subgroup shuffles. Bitwise the same sums as [`Rung::Plain`].
    Subgroup,
    /// Tiles in f16, sums in f32.
    F16,
    /// Activations quantised to 8 bits in workgroup memory, `dot4I8Packed`. A benchmark's choice, not a capability.
    IntDot,
    /// [`Rung::IntDot`] with [`Rung::Subgroup`]'s reductions.
    IntDotSubgroup,
}

impl Rung {
    /// The name used in tables and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Rung::Plain => "plain",
            Rung::Subgroup => "subgroup",
            Rung::F16 => "f16",
            Rung::IntDot => "intdot",
            Rung::IntDotSubgroup => "intdot_subgroup",
        }
    }

    /// Whether activations are quantised to 8 bits.
    pub const fn is_int_dot(self) -> bool {
        matches!(self, Rung::IntDot | Rung::IntDotSubgroup)
    }
}
