//! The instruction sets kernels are written for, behind one private trait.
//!
//! Every kernel is written once over [`Isa`], whose vectors are always 16 lanes wide whatever a register holds: one lane a
//! row of a weight panel, or one a position of a KV page. Integer results are exact, hence equal on every instruction set;
//! float results may differ in rounding between sets (fused multiply-add or not), never within one.

use crate::backend::cpu::matmul::LinearArgs;
use crate::backend::cpu::{attention, rows};
use crate::error::{Error, ErrorCode, Result};

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
pub(super) mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(super) mod wasm;

/// Lanes of every vector.
pub(super) const LANES: usize = 16;

/// 16-lane arithmetic of one instruction set.
///
/// # Safety
/// Every method may only be called where the processor has the set's features (a kernel reached through [`Kernels`] is),
/// and every pointer must be valid for what the method reads or writes. Nothing need be aligned.
#[allow(clippy::missing_safety_doc, reason = "one obligation for all methods, stated on the trait")]
pub(super) trait Isa: Copy + 'static {
    /// 16 f32.
    type F: Copy;
    /// Integer sums of 16 rows, perhaps not yet folded.
    type Acc: Copy;
    /// 64 codes: 16 rows × 4 consecutive inputs.
    type W: Copy;
    /// 4 consecutive inputs, repeated for every row.
    type X: Copy;

    /// Panels a tile spans where there are so many.
    const PANELS: usize;
    /// Rows of the largest tile: 4 or 6.
    const TILE: usize;
    /// Vectors of a value head that attention keeps in registers for each of 4 queries.
    const SLAB: usize;
    /// Whether [`Isa::dot8`] takes codes as unsigned, so that sums start at −128·Σx; else it takes off the 128 itself.
    const DOT8_UNSIGNED: bool;

    /// Sums that all start at `*start`.
    unsafe fn acc(start: *const i32) -> Self::Acc;
    /// Loads 64 bytes of codes.
    unsafe fn codes(at: *const u8) -> Self::W;
    /// The low half of each byte.
    unsafe fn low4(w: Self::W) -> Self::W;
    /// The high half of each byte.
    unsafe fn high4(w: Self::W) -> Self::W;
    /// `w | ((bits >> 2·field) & 3) << 4`: the upper two bits of 6-bit codes; `field` is below 4 and a constant after inlining.
    unsafe fn with_high2(w: Self::W, bits: Self::W, field: usize) -> Self::W;
    /// Loads 4 inputs for all rows.
    unsafe fn inputs(at: *const i8) -> Self::X;
    /// Adds the products of 4 inputs with codes of 0..=127.
    unsafe fn dot(acc: Self::Acc, w: Self::W, x: Self::X) -> Self::Acc;
    /// The same for codes of 0..=255 that stand for code − 128.
    unsafe fn dot8(acc: Self::Acc, w: Self::W, x: Self::X) -> Self::Acc;
    /// The folded sums as floats.
    unsafe fn sums(acc: Self::Acc) -> Self::F;
    /// 16 unsigned bytes as floats.
    unsafe fn from_u8(at: *const u8) -> Self::F;
    /// 16 signed bytes as floats.
    unsafe fn from_i8(at: *const i8) -> Self::F;

    /// One value in all lanes.
    unsafe fn splat(v: f32) -> Self::F;
    /// Loads 16 f32.
    unsafe fn load(at: *const f32) -> Self::F;
    /// Stores 16 f32.
    unsafe fn store(at: *mut f32, v: Self::F);
    /// Loads 16 f16 and widens them.
    unsafe fn load_f16(at: *const u16) -> Self::F;
    /// a + b.
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    /// a − b.
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    /// a·b.
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    /// a / b.
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// The larger; b where either is NaN, or any of the two.
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    /// The smaller.
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    /// a·b + c, fused where the set can.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// c − a·b, fused where the set can.
    unsafe fn fnma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// |a|.
    unsafe fn abs(a: Self::F) -> Self::F;
    /// `a` with the sign of `sign`, `a` being positive.
    unsafe fn copysign(a: Self::F, sign: Self::F) -> Self::F;
    /// Rounds to the nearest integer, ties to even; |a| < 2^22.
    unsafe fn round(a: Self::F) -> Self::F;
    /// a·2^n for whole n of −126..=127.
    unsafe fn scale2(a: Self::F, n: Self::F) -> Self::F;
    /// Rounds to integers (ties to even) of −128..=127 and stores 16 bytes. NaN stores anything.
    unsafe fn store_i8(at: *mut i8, v: Self::F);

    /// Asks for a cache line that will soon be read. Any address will do.
    #[inline(always)]
    unsafe fn prefetch(_at: *const u16) {}

    /// Sum of all lanes, as a tree: lanes 8 apart, 4 apart, 2 apart, 1 apart.
    #[inline(always)]
    unsafe fn sum(v: Self::F) -> f32 {
        let mut lanes = [0f32; LANES];
        // SAFETY: the array holds 16 f32; the features are the caller's obligation.
        unsafe { Self::store(lanes.as_mut_ptr(), v) };
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
            width /= 2;
        }
        lanes[0]
    }

    /// The largest lane.
    #[inline(always)]
    unsafe fn largest(v: Self::F) -> f32 {
        let mut lanes = [0f32; LANES];
        // SAFETY: the array holds 16 f32; the features are the caller's obligation.
        unsafe { Self::store(lanes.as_mut_ptr(), v) };
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                lanes[i] = if lanes[i] > lanes[i + width] { lanes[i] } else { lanes[i + width] };
            }
            width /= 2;
        }
        lanes[0]
    }
}

/// An instruction set by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InstructionSet {
    /// Plain Rust.
    Scalar,
    /// WebAssembly's 128-bit SIMD, where the module was built with it.
    WasmSimd128,
    /// The same with the relaxed dot product.
    WasmRelaxedSimd,
    /// 64-bit ARM; with the dot-product instructions where the processor has them.
    Neon,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX2 with the 256-bit integer dot product.
    AvxVnni,
    /// AVX-512 with the integer dot product.
    Avx512Vnni,
}

impl InstructionSet {
    /// The name used in descriptions and messages.
    pub const fn name(self) -> &'static str {
        match self {
            InstructionSet::Scalar => "scalar",
            InstructionSet::WasmSimd128 => "wasm simd128",
            InstructionSet::WasmRelaxedSimd => "wasm relaxed-simd",
            InstructionSet::Neon => "NEON",
            InstructionSet::Avx2 => "AVX2",
            InstructionSet::AvxVnni => "AVX-VNNI",
            InstructionSet::Avx512Vnni => "AVX-512 VNNI",
        }
    }

    /// Every set that this processor (or this wasm build) can run, slowest first. Never empty.
    pub fn available() -> Vec<InstructionSet> {
        #[allow(unused_mut, reason = "a wasm build without SIMD adds nothing")]
        let mut sets = vec![InstructionSet::Scalar];
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        sets.push(InstructionSet::WasmSimd128);
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128", target_feature = "relaxed-simd"))]
        sets.push(InstructionSet::WasmRelaxedSimd);
        #[cfg(target_arch = "aarch64")]
        sets.push(InstructionSet::Neon);
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
            if avx2 {
                sets.push(InstructionSet::Avx2);
            }
            if avx2 && is_x86_feature_detected!("avxvnni") {
                sets.push(InstructionSet::AvxVnni);
            }
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vnni");
            if avx2 && avx512 {
                sets.push(InstructionSet::Avx512Vnni);
            }
        }
        sets
    }

    /// The kernels compiled for this set.
    pub(super) fn kernels(self) -> Result<&'static Kernels> {
        if !InstructionSet::available().contains(&self) {
            let message =
                format!("this processor cannot run {} kernels; leave the instruction set unset to take the best it can", self.name());
            return Err(Error::new(ErrorCode::Device, message));
        }
        Ok(match self {
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            InstructionSet::WasmSimd128 => &wasm::KERNELS,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128", target_feature = "relaxed-simd"))]
            InstructionSet::WasmRelaxedSimd => &wasm::RELAXED_KERNELS,
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon => neon::kernels(),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => &avx2::KERNELS,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::AvxVnni => &avx2::VNNI_KERNELS,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Vnni => &avx512::KERNELS,
            _ => &scalar::KERNELS,
        })
    }
}

/// One instruction set's kernels. All are unsafe to call: the processor must have the set's features (kept by
/// [`InstructionSet::kernels`]), and the arguments' pointers must be valid and their outputs not written by another worker.
pub(super) struct Kernels {
    /// Products of panels `first..last` with all rows, by [`crate::Format`] as an index.
    pub(super) linear: [unsafe fn(&LinearArgs, usize, usize); 6],
    /// Normalises one row.
    pub(super) norm: unsafe fn(&rows::NormArgs),
    /// Quantises one row.
    pub(super) quantise: unsafe fn(&rows::QuantiseArgs),
    /// Gates or activates a piece of one row.
    pub(super) activate: unsafe fn(&rows::ActivateArgs),
    /// Caps a piece of one row.
    pub(super) cap: unsafe fn(&rows::CapArgs),
    /// Attends for a tile of queries over one KV head, keys and values being f16.
    pub(super) attend: unsafe fn(&attention::AttendArgs),
    /// The same, keys and values being 8-bit codes.
    pub(super) attend_int8: unsafe fn(&attention::AttendArgs),
    /// Quantises a key or a value.
    pub(super) quantise_head: unsafe fn(&attention::HeadArgs) -> half::f16,
}

/// Compiles every kernel for one set, with its features on.
macro_rules! kernels {
    ($vis:vis $name:ident, $isa:ty $(, $features:literal)?) => {
        $vis static $name: $crate::backend::cpu::isa::Kernels = {
            use $crate::backend::cpu::{attention, matmul, rows};

            macro_rules! linear {
                ($function:ident, $format:ty) => {
                    $(#[target_feature(enable = $features)])?
                    unsafe fn $function(args: &matmul::LinearArgs, first: usize, last: usize) {
                        // SAFETY: forwarded.
                        unsafe { matmul::linear::<$isa, $format>(args, first, last) }
                    }
                };
            }
            linear!(linear_f32, matmul::F32);
            linear!(linear_f16, matmul::F16);
            linear!(linear_q4_0, matmul::Q4_0);
            linear!(linear_q8_0, matmul::Q8_0);
            linear!(linear_q4_k, matmul::Q4K);
            linear!(linear_q6_k, matmul::Q6K);
            $(#[target_feature(enable = $features)])?
            unsafe fn norm(args: &rows::NormArgs) {
                // SAFETY: forwarded.
                unsafe { rows::norm::<$isa>(args) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn quantise(args: &rows::QuantiseArgs) {
                // SAFETY: forwarded.
                unsafe { rows::quantise::<$isa>(args) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn activate(args: &rows::ActivateArgs) {
                // SAFETY: forwarded.
                unsafe { rows::activate::<$isa>(args) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn cap(args: &rows::CapArgs) {
                // SAFETY: forwarded.
                unsafe { rows::cap::<$isa>(args) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn attend(args: &attention::AttendArgs) {
                // SAFETY: forwarded.
                unsafe { attention::attend::<$isa, attention::F16>(args) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn attend_int8(args: &attention::AttendArgs) {
                // SAFETY: forwarded.
                unsafe { attention::attend::<$isa, attention::Int8>(args) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn quantise_head(args: &attention::HeadArgs) -> half::f16 {
                // SAFETY: forwarded.
                unsafe { attention::quantise_head::<$isa>(args) }
            }
            $crate::backend::cpu::isa::Kernels {
                linear: [linear_f32, linear_f16, linear_q4_0, linear_q8_0, linear_q4_k, linear_q6_k],
                norm,
                quantise,
                activate,
                cap,
                attend,
                attend_int8,
                quantise_head,
            }
        };
    };
}
pub(super) use kernels;
