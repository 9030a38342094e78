//! Matrix products: rows of activations times a weight matrix in panels.
//!
//! A tile is up to six rows × up to two panels. Whatever the tile, one (row, output) sees the same arithmetic: per block of
//! 32 inputs one exact integer sum, turned to f32 and added to a single running sum in order of the blocks. So a row's
//! results don't depend on what else is in the batch, nor on how panels are dealt to workers.
#![allow(clippy::needless_range_loop, reason = "several register arrays go by one index, and iterators over them are less plain")]
#![allow(unsafe_op_in_unsafe_fn, reason = "each function's obligations are stated on it and passed down")]

use std::array::from_fn;

use super::isa::{Isa, LANES};
use super::layout::{BLOCK, Layout, PANEL, code_bytes};
use super::math;
use crate::Format;

/// What kernels need to know of 32 quantised inputs beside their codes.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockScale {
    /// Value of a code step.
    pub(super) scale: f32,
    /// scale · Σ codes, what minima are multiplied by.
    pub(super) sum: f32,
    /// −8·Σ codes: where the sums of Q4_0 start, whose codes stand for code − 8.
    pub(super) start_q4: i32,
    /// −128·Σ codes, for Q8_0.
    pub(super) start_q8: i32,
    /// −32·Σ codes, for each half of the block, for Q6_K.
    pub(super) start_q6: [i32; 2],
}

/// Where a row's inputs are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs {
    /// Quantised: `[rows][columns]`.
    pub(super) codes: *const i8,
    /// `[rows][columns / 32]`.
    pub(super) scales: *const BlockScale,
    /// As floats: `[rows][columns]`. Null where only quantised matrices read them, as are the above for float matrices.
    pub(super) floats: *const f32,
}

/// One matrix product for all rows.
#[derive(Debug)]
pub(super) struct LinearArgs {
    /// The matrix.
    pub(super) layout: Layout,
    /// Its first panel.
    pub(super) weights: *const u8,
    /// Rows of activations.
    pub(super) rows: usize,
    /// The activations.
    pub(super) inputs: Inputs,
    /// Output of row 0 and the matrix's row 0.
    pub(super) out: *mut f32,
    /// f32 from one row of the output to the next.
    pub(super) out_stride: usize,
    /// Added to every row, `[layout.rows]`, or null.
    pub(super) bias: *const f32,
    /// Whether the product is added to what `out` holds.
    pub(super) accumulate: bool,
    /// c·tanh(y / c), or 0 for none.
    pub(super) softcap: f32,
}

/// A storage format's part of the tile kernel.
pub(super) trait Weights {
    /// Its name elsewhere.
    const FORMAT: Format;

    /// Sums of `M` rows × `N` panels over all inputs.
    ///
    /// # Safety
    /// The processor has `S`'s features; `panels` are whole panels of `layout`, `inputs` whole rows of its columns.
    unsafe fn tile<S: Isa, const M: usize, const N: usize>(layout: &Layout, panels: [*const u8; N], inputs: [Inputs; M]) -> [[S::F; N]; M];
}

/// Rows that share the pass over a worker's panels: their activations stay in the second-level cache meanwhile.
const ROWS_PER_PASS: usize = 128;

/// Computes outputs of panels `first..last` for all rows.
///
/// # Safety
/// The processor has `S`'s features. `args` describes valid memory: `layout.bytes()` at `weights`, `rows` rows of inputs as the
/// format reads them, `rows` rows of outputs that no one else writes in the columns of these panels.
#[inline(always)]
pub(super) unsafe fn linear<S: Isa, W: Weights>(args: &LinearArgs, first: usize, last: usize) {
    let mut pass = 0;
    while pass < args.rows {
        let end = (pass + ROWS_PER_PASS).min(args.rows);
        let mut panel = first;
        if S::PANELS == 2 {
            while panel + 2 <= last {
                rows::<S, W, 2>(args, panel, pass, end);
                panel += 2;
            }
        }
        while panel < last {
            rows::<S, W, 1>(args, panel, pass, end);
            panel += 1;
        }
        pass = end;
    }
}

/// All rows `row..end` with `N` panels.
///
/// # Safety
/// As [`linear`].
#[inline(always)]
unsafe fn rows<S: Isa, W: Weights, const N: usize>(args: &LinearArgs, panel: usize, mut row: usize, end: usize) {
    if S::TILE == 6 {
        while row + 6 <= end {
            tile::<S, W, 6, N>(args, panel, row);
            row += 6;
        }
    }
    while row + 4 <= end {
        tile::<S, W, 4, N>(args, panel, row);
        row += 4;
    }
    if row + 2 <= end {
        tile::<S, W, 2, N>(args, panel, row);
        row += 2;
    }
    if row < end {
        tile::<S, W, 1, N>(args, panel, row);
    }
}

/// `M` rows with `N` panels, and what happens to the product.
///
/// # Safety
/// As [`linear`].
#[inline(always)]
unsafe fn tile<S: Isa, W: Weights, const M: usize, const N: usize>(args: &LinearArgs, panel: usize, row: usize) {
    let layout = &args.layout;
    let blocks = layout.columns / BLOCK;
    let panels: [*const u8; N] = from_fn(|n| args.weights.add((panel + n) * layout.panel_bytes));
    let inputs: [Inputs; M] = from_fn(|m| Inputs {
        codes: args.inputs.codes.wrapping_add((row + m) * layout.columns),
        scales: args.inputs.scales.wrapping_add((row + m) * blocks),
        floats: args.inputs.floats.wrapping_add((row + m) * layout.columns),
    });
    let sums = W::tile::<S, M, N>(layout, panels, inputs);
    for m in 0..M {
        for n in 0..N {
            let column = (panel + n) * PANEL;
            let out = args.out.add((row + m) * args.out_stride + column);
            let columns = (layout.rows - column).min(LANES);
            let bias = if args.bias.is_null() { args.bias } else { args.bias.add(column) };
            finish::<S>(args, sums[m][n], out, bias, columns);
        }
    }
}

/// Bias, softcap and store of up to 16 outputs.
///
/// # Safety
/// As [`linear`]; `out` and a `bias` that isn't null hold `columns` values.
#[inline(always)]
unsafe fn finish<S: Isa>(args: &LinearArgs, mut y: S::F, out: *mut f32, bias: *const f32, columns: usize) {
    if columns < LANES {
        // The same arithmetic over a copy, so that nothing outside the row is touched.
        let (mut copy, mut bias_copy) = ([0f32; LANES], [0f32; LANES]);
        std::ptr::copy_nonoverlapping(out, copy.as_mut_ptr(), columns);
        if !bias.is_null() {
            std::ptr::copy_nonoverlapping(bias, bias_copy.as_mut_ptr(), columns);
        }
        let bias = if bias.is_null() { bias } else { bias_copy.as_ptr() };
        finish::<S>(args, y, copy.as_mut_ptr(), bias, LANES);
        std::ptr::copy_nonoverlapping(copy.as_ptr(), out, columns);
        return;
    }
    if !bias.is_null() {
        y = S::add(y, S::load(bias));
    }
    if args.softcap != 0.0 {
        y = math::softcap::<S>(y, args.softcap);
    }
    if args.accumulate {
        y = S::add(S::load(out), y);
    }
    S::store(out, y);
}

/// Values as they are: `[column][16] f32`.
pub(super) struct F32;
/// `[column][16] f16`.
pub(super) struct F16;
/// Codes − 8, one scale.
pub(super) struct Q4_0;
/// Codes − 128, one scale.
pub(super) struct Q8_0;
/// Codes, a scale and a minimum.
pub(super) struct Q4K;
/// Codes − 32, two scales.
pub(super) struct Q6K;

/// How float formats are read.
trait Floats {
    /// Bytes of one input's 16 values.
    const STEP: usize;
    unsafe fn values<S: Isa>(at: *const u8) -> S::F;
}

impl Floats for F32 {
    const STEP: usize = 64;
    #[inline(always)]
    unsafe fn values<S: Isa>(at: *const u8) -> S::F {
        S::load(at.cast())
    }
}

impl Floats for F16 {
    const STEP: usize = 32;
    #[inline(always)]
    unsafe fn values<S: Isa>(at: *const u8) -> S::F {
        S::load_f16(at.cast())
    }
}

/// The tile of float formats: one running sum an output, inputs in order.
///
/// # Safety
/// As [`Weights::tile`].
#[inline(always)]
unsafe fn float_tile<S: Isa, W: Floats, const M: usize, const N: usize>(
    layout: &Layout,
    panels: [*const u8; N],
    inputs: [Inputs; M],
) -> [[S::F; N]; M] {
    let mut sums = [[S::splat(0.0); N]; M];
    for k in 0..layout.columns {
        let mut w = [S::splat(0.0); N];
        for n in 0..N {
            w[n] = W::values::<S>(panels[n].add(k * W::STEP));
        }
        for m in 0..M {
            let x = S::splat(*inputs[m].floats.add(k));
            for n in 0..N {
                sums[m][n] = S::fma(w[n], x, sums[m][n]);
            }
        }
    }
    sums
}

/// How quantised formats are read.
trait Codes {
    /// Whether codes pass 127.
    const WIDE: bool;
    /// Whether each half of a block has a sum of its own.
    const HALVES: bool;
    /// Whether minima are taken off.
    const MINIMA: bool;
    /// Lines `j` and `j + 4` of the block of codes at `at`; `j` is a constant after inlining.
    unsafe fn lines<S: Isa>(at: *const u8, j: usize) -> (S::W, S::W);
    /// Where the integer sum (of the given half) starts.
    unsafe fn start(x: *const BlockScale, half: usize) -> *const i32;
    /// The 16 rows' scales of block `b`: of the block or its first half, of its second half, and minima, as far as there are.
    unsafe fn scales<S: Isa>(layout: &Layout, panel: *const u8, b: usize) -> [S::F; 3];
}

const ZERO: i32 = 0;

/// The upper and lower halves of a line of bytes.
#[inline(always)]
unsafe fn halves<S: Isa>(at: *const u8) -> (S::W, S::W) {
    let bytes = S::codes(at);
    (S::low4(bytes), S::high4(bytes))
}

impl Codes for Q4_0 {
    const WIDE: bool = false;
    const HALVES: bool = false;
    const MINIMA: bool = false;
    #[inline(always)]
    unsafe fn lines<S: Isa>(at: *const u8, j: usize) -> (S::W, S::W) {
        halves::<S>(at.add(64 * j))
    }
    #[inline(always)]
    unsafe fn start(x: *const BlockScale, _half: usize) -> *const i32 {
        &raw const (*x).start_q4
    }
    #[inline(always)]
    unsafe fn scales<S: Isa>(layout: &Layout, panel: *const u8, b: usize) -> [S::F; 3] {
        [S::load_f16(panel.add(layout.scales + b * 32).cast()); 3]
    }
}

impl Codes for Q8_0 {
    const WIDE: bool = true;
    const HALVES: bool = false;
    const MINIMA: bool = false;
    #[inline(always)]
    unsafe fn lines<S: Isa>(at: *const u8, j: usize) -> (S::W, S::W) {
        (S::codes(at.add(64 * j)), S::codes(at.add(64 * (j + 4))))
    }
    #[inline(always)]
    unsafe fn start(x: *const BlockScale, _half: usize) -> *const i32 {
        &raw const (*x).start_q8
    }
    #[inline(always)]
    unsafe fn scales<S: Isa>(layout: &Layout, panel: *const u8, b: usize) -> [S::F; 3] {
        [S::load_f16(panel.add(layout.scales + b * 32).cast()); 3]
    }
}

impl Codes for Q4K {
    const WIDE: bool = false;
    const HALVES: bool = false;
    const MINIMA: bool = true;
    #[inline(always)]
    unsafe fn lines<S: Isa>(at: *const u8, j: usize) -> (S::W, S::W) {
        halves::<S>(at.add(64 * j))
    }
    #[inline(always)]
    unsafe fn start(_x: *const BlockScale, _half: usize) -> *const i32 {
        &ZERO
    }
    #[inline(always)]
    unsafe fn scales<S: Isa>(layout: &Layout, panel: *const u8, b: usize) -> [S::F; 3] {
        let whole = panel.add(layout.super_scales + b / 8 * 64).cast::<u16>();
        let of_block = panel.add(layout.scales + b * 32);
        let scale = S::mul(S::load_f16(whole), S::from_u8(of_block));
        let minimum = S::mul(S::load_f16(whole.add(16)), S::from_u8(of_block.add(16)));
        [scale, scale, minimum]
    }
}

impl Codes for Q6K {
    const WIDE: bool = false;
    const HALVES: bool = true;
    const MINIMA: bool = false;
    #[inline(always)]
    unsafe fn lines<S: Isa>(at: *const u8, j: usize) -> (S::W, S::W) {
        let (low, high) = halves::<S>(at.add(64 * j));
        (S::with_high2(low, S::codes(at.add(256)), j), S::with_high2(high, S::codes(at.add(320)), j))
    }
    #[inline(always)]
    unsafe fn start(x: *const BlockScale, half: usize) -> *const i32 {
        (&raw const (*x).start_q6).cast::<i32>().add(half)
    }
    #[inline(always)]
    unsafe fn scales<S: Isa>(layout: &Layout, panel: *const u8, b: usize) -> [S::F; 3] {
        let d = S::load_f16(panel.add(layout.super_scales + b / 8 * 32).cast());
        let of_block = panel.add(layout.scales + b * 32).cast::<i8>();
        let scale = S::mul(d, S::from_i8(of_block));
        [scale, S::mul(d, S::from_i8(of_block.add(16))), scale]
    }
}

/// The tile of quantised formats.
///
/// # Safety
/// As [`Weights::tile`].
#[inline(always)]
unsafe fn code_tile<S: Isa, W: Weights + Codes, const M: usize, const N: usize>(
    layout: &Layout,
    panels: [*const u8; N],
    inputs: [Inputs; M],
) -> [[S::F; N]; M] {
    let mut sums = [[S::splat(0.0); N]; M];
    for b in 0..layout.columns / BLOCK {
        let mut codes = [std::ptr::null(); N];
        for n in 0..N {
            codes[n] = panels[n].add(b * code_bytes(W::FORMAT));
        }
        // One sum an output, or one for each half of the block.
        let mut low = [[S::acc(&ZERO); N]; M];
        let mut high = low;
        for m in 0..M {
            let x = inputs[m].scales.add(b);
            let from_zero = W::WIDE && !S::DOT8_UNSIGNED;
            low[m] = [S::acc(if from_zero { &ZERO } else { W::start(x, 0) }); N];
            if W::HALVES {
                high[m] = [S::acc(W::start(x, 1)); N];
            }
        }
        // Written out, so that j is a constant.
        dot_lines::<S, W, M, N>(0, codes, b, &inputs, &mut low, &mut high);
        dot_lines::<S, W, M, N>(1, codes, b, &inputs, &mut low, &mut high);
        dot_lines::<S, W, M, N>(2, codes, b, &inputs, &mut low, &mut high);
        dot_lines::<S, W, M, N>(3, codes, b, &inputs, &mut low, &mut high);
        let mut scales = [[S::splat(0.0); 3]; N];
        for n in 0..N {
            scales[n] = W::scales::<S>(layout, panels[n], b);
        }
        for m in 0..M {
            let x = inputs[m].scales.add(b);
            let (scale, sum) = (S::splat((*x).scale), S::splat((*x).sum));
            for n in 0..N {
                let [first, second, minima] = scales[n];
                let y = &mut sums[m][n];
                if W::HALVES {
                    let both = S::fma(S::sums(high[m][n]), second, S::mul(S::sums(low[m][n]), first));
                    *y = S::fma(both, scale, *y);
                } else {
                    *y = S::fma(S::sums(low[m][n]), S::mul(first, scale), *y);
                }
                if W::MINIMA {
                    *y = S::fnma(minima, sum, *y);
                }
            }
        }
    }
    sums
}

/// Adds lines `j` and `j + 4` of block `b`.
///
/// # Safety
/// As [`Weights::tile`].
#[inline(always)]
unsafe fn dot_lines<S: Isa, W: Codes, const M: usize, const N: usize>(
    j: usize,
    codes: [*const u8; N],
    b: usize,
    inputs: &[Inputs; M],
    low: &mut [[S::Acc; N]; M],
    high: &mut [[S::Acc; N]; M],
) {
    let mut lines = [W::lines::<S>(codes[0], j); N];
    for n in 1..N {
        lines[n] = W::lines::<S>(codes[n], j);
    }
    for m in 0..M {
        let x = inputs[m].codes.add(b * BLOCK + 4 * j);
        let (x_low, x_high) = (S::inputs(x), S::inputs(x.add(16)));
        for n in 0..N {
            if W::WIDE {
                low[m][n] = S::dot8(S::dot8(low[m][n], lines[n].0, x_low), lines[n].1, x_high);
            } else if W::HALVES {
                low[m][n] = S::dot(low[m][n], lines[n].0, x_low);
                high[m][n] = S::dot(high[m][n], lines[n].1, x_high);
            } else {
                low[m][n] = S::dot(S::dot(low[m][n], lines[n].0, x_low), lines[n].1, x_high);
            }
        }
    }
}

/// Gives a format its tile.
macro_rules! weights {
    ($format:ident, $tile:ident) => {
        impl Weights for $format {
            const FORMAT: Format = Format::$format;
            #[inline(always)]
            unsafe fn tile<S: Isa, const M: usize, const N: usize>(
                layout: &Layout,
                panels: [*const u8; N],
                inputs: [Inputs; M],
            ) -> [[S::F; N]; M] {
                $tile::<S, $format, M, N>(layout, panels, inputs)
            }
        }
    };
}
weights!(F32, float_tile);
weights!(F16, float_tile);
weights!(Q4_0, code_tile);
weights!(Q8_0, code_tile);
weights!(Q4K, code_tile);
weights!(Q6K, code_tile);
