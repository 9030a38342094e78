//! Dispatches with everything they read, made from a few sizes.

use super::{AttendCase, Random, RopeCase, SampleCase, setting};
use crate::params::*;
use crate::planes::{Layout, Planes, repack};
use crate::{Format, Kernel, KvFormat, Variant};
use bytemuck::{bytes_of, cast_slice};
use half::f16;

/// One dispatch: a variant, its overrides, its grid, and what every binding holds before it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is odd about it, for messages.
    pub what: String,
    /// The pipeline.
    pub variant: &'static Variant,
    /// Overrides to set.
    pub overrides: Vec<(&'static str, f64)>,
    /// Workgroups.
    pub grid: [u32; 3],
    /// Contents by binding; 0 is the uniform. Where two bindings are one buffer (`weights`, `words`) both hold it.
    pub buffers: Vec<Vec<u32>>,
}

impl Case {
    /// The format of a variant that reads weights.
    ///
    /// # Panics
    /// For a variant that reads none.
    pub(super) fn format(&self) -> Format {
        self.variant.format.expect("the row of a kernel that reads weights names a format")
    }

    /// How the variant stores keys and values; f16 where it touches none.
    pub(super) fn kv(&self) -> KvFormat {
        self.variant.kv.unwrap_or_default()
    }

    /// The same dispatch by another size of the same rung: what must give the same bits.
    pub fn by(&self, variant: &'static Variant) -> Case {
        let mut case = Case { variant, ..self.clone() };
        case.grid = grid(&case);
        case
    }

    /// The same dispatch over `rows` rows from `first_row` only.
    pub fn rows(&self, first_row: u32, rows: u32) -> Case {
        let mut case = self.clone();
        let at = match case.variant.kernel {
            Kernel::Matvec | Kernel::Matmul | Kernel::LoraShrink | Kernel::LoraExpand => 2,
            Kernel::Embed | Kernel::Norm | Kernel::Sample => 1,
            Kernel::RopeWrite => 5,
            Kernel::AttendSplit | Kernel::AttendReduce | Kernel::AttendPrompt => 6,
        };
        // `rows` stands before `first_row` in every uniform.
        case.buffers[0][at] = rows;
        case.buffers[0][at + 1] = first_row;
        case.grid = grid(&case);
        case
    }
}

/// The grid that [`Kernel`] states.
pub(super) fn grid(case: &Case) -> [u32; 3] {
    let p = &case.buffers[0];
    let v = case.variant;
    let gated = setting(&case.overrides, "EPILOGUE") == epilogue::GATED;
    match v.kernel {
        Kernel::Embed => [p[0].div_ceil(CHUNK).div_ceil(64), p[1], 1],
        Kernel::Norm | Kernel::Sample => [p[1], 1, 1],
        Kernel::Matvec => [p[1].div_ceil(v.outputs() >> u32::from(gated)), 1, p[2].div_ceil(v.rows())],
        Kernel::Matmul => [p[1].div_ceil(v.outputs() >> u32::from(gated)), p[2].div_ceil(v.rows()), 1],
        Kernel::LoraShrink => [p[8].div_ceil(4), p[7], p[2]],
        Kernel::LoraExpand => [p[1].div_ceil(64), 1, p[2]],
        Kernel::RopeWrite => [p[0] + 2 * p[1], p[5], 1],
        Kernel::AttendSplit => [p[1] * (p[0] / p[1]).div_ceil(v.group()), p[12], p[6]],
        Kernel::AttendReduce | Kernel::AttendPrompt => [p[0], p[6], 1],
    }
}

pub(super) fn words<T: bytemuck::NoUninit>(values: &[T]) -> Vec<u32> {
    let mut words: Vec<u32> =
        cast_slice::<T, u8>(values).chunks(4).map(|c| c.iter().rev().fold(0, |w, b| w << 8 | u32::from(*b))).collect();
    words.resize(words.len().next_multiple_of(4).max(16), 0);
    words
}

pub(super) fn uniform<T: bytemuck::NoUninit>(params: &T) -> Vec<u32> {
    cast_slice::<u8, [u8; 4]>(bytes_of(params)).iter().map(|b| u32::from_le_bytes(*b)).collect()
}

/// What an unused binding holds.
fn unused() -> Vec<u32> {
    vec![0; 16]
}

/// Rows of `width` random floats, `stride` apart, the rest zero.
fn rows_of(random: &mut Random, rows: u32, width: u32, stride: u32) -> Vec<f32> {
    (0..rows * stride).map(|i| if i % stride < width { random.value() } else { 0.0 }).collect()
}

/// Random GGML blocks whose values stay near ±1, as planes.
fn weights(random: &mut Random, format: Format, rows: u32, columns: u32) -> (Layout, Vec<u32>) {
    let (rows, columns) = (rows as usize, columns as usize);
    let layout = Layout::new(format, rows, columns);
    let mut blocks = Vec::new();
    let half = |random: &mut Random, scale: f32| f16::from_f32(random.value() * scale).to_le_bytes();
    for _ in 0..rows * columns / format.block_len() {
        let codes = |random: &mut Random, n: usize| (0..n).map(|_| random.bits() as u8).collect::<Vec<u8>>();
        match format {
            Format::F32 => blocks.extend(random.value().to_le_bytes()),
            Format::F16 => blocks.extend(half(random, 1.0)),
            Format::Q4_0 => {
                blocks.extend(half(random, 0.12));
                blocks.extend(codes(random, 16));
            }
            Format::Q8_0 => {
                blocks.extend(half(random, 0.008));
                blocks.extend(codes(random, 32));
            }
            Format::Q4K => {
                blocks.extend(half(random, 0.002));
                blocks.extend(half(random, 0.01));
                blocks.extend(codes(random, 140));
            }
            Format::Q6K => {
                blocks.extend(codes(random, 208));
                blocks.extend(half(random, 0.0003));
            }
        }
    }
    let mut planes = Planes::default();
    repack(format, columns, &blocks, &mut planes);
    let mut bytes = vec![0u8; layout.bytes];
    for (plane, part) in layout.planes.iter().zip(&planes.bytes) {
        bytes[plane.offset..][..part.len()].copy_from_slice(part);
    }
    (layout, words(&bytes))
}

/// A case of `embed`.
#[derive(Clone, Copy, Debug)]
pub struct EmbedCase {
    /// Values in a table row.
    pub columns: u32,
    /// First id of the piece.
    pub first_id: u32,
    /// Ids of the piece; rows' ids go past both its ends.
    pub ids: u32,
    /// Batch rows.
    pub rows: u32,
    /// First batch row.
    pub first_row: u32,
    /// [`embed_source`].
    pub source: u32,
    /// Whether it adds.
    pub accumulate: bool,
    /// Multiplies values.
    pub scale: f32,
}

impl EmbedCase {
    /// The dispatch.
    pub fn case(&self, variant: &'static Variant) -> Case {
        let mut random = Random::new(1);
        let format = variant.format.expect("an embed row names a format");
        let (layout, table) = weights(&mut random, format, self.ids, self.columns);
        let total = self.first_row + self.rows;
        let stride = self.columns.next_multiple_of(4) + 4;
        let id = |random: &mut Random| self.first_id.saturating_sub(2) + random.below(self.ids + 4);
        let slots: Vec<u32> = (0..8).map(|_| id(&mut random)).collect();
        let rows: Vec<RowInfo> = (0..total)
            .map(|r| RowInfo {
                token: if r % 3 == 1 { TOKEN_IN_SLOT | random.below(8) } else { id(&mut random) },
                position: id(&mut random),
                segment: id(&mut random),
                ..RowInfo::default()
            })
            .collect();
        let params = EmbedParams {
            columns: self.columns,
            rows: self.rows,
            first_row: self.first_row,
            source: self.source,
            first_id: self.first_id,
            ids: self.ids,
            accumulate: self.accumulate.into(),
            x_stride: stride,
            planes: layout.offsets(),
            scale: self.scale,
            pad: [0; 3],
        };
        let x = random.values((total * stride) as usize);
        let buffers = vec![uniform(&params), words(&rows), words(&slots), table.clone(), table, words(&x)];
        let mut case = Case { what: format!("{self:?}"), variant, overrides: vec![], grid: [0; 3], buffers };
        case.grid = grid(&case);
        case
    }
}

/// A case of `norm`.
#[derive(Clone, Copy, Debug)]
pub struct NormCase {
    /// Values in a row.
    pub columns: u32,
    /// Rows.
    pub rows: u32,
    /// First row.
    pub first_row: u32,
    /// Whether input rows are named by `indices`.
    pub gather: bool,
    /// [`norm_kind`].
    pub kind: u32,
    /// [`norm_join`].
    pub join: u32,
}

impl NormCase {
    /// The dispatch.
    pub fn case(&self, variant: &'static Variant) -> Case {
        let mut random = Random::new(2);
        let total = self.first_row + self.rows;
        let (from_rows, stride, out_stride) = (total + 3, self.columns.next_multiple_of(4) + 4, self.columns + 3);
        let params = NormParams {
            columns: self.columns,
            rows: self.rows,
            first_row: self.first_row,
            gather: self.gather.into(),
            input_stride: stride,
            output_stride: out_stride,
            eps: 1e-5,
            pad: 0,
        };
        // A mean that a layer norm must see, and what pads a row that no norm may see.
        let input: Vec<f32> = random.values((from_rows * stride) as usize).iter().map(|v| v + 0.5).collect();
        let gain = random.values(self.columns as usize);
        let bias = random.values(self.columns as usize);
        let indices: Vec<u32> = (0..total).map(|_| random.below(from_rows)).collect();
        let output = random.values((total * out_stride) as usize);
        let buffers = vec![uniform(&params), words(&input), words(&gain), words(&bias), words(&indices), words(&output)];
        let overrides = vec![("KIND", f64::from(self.kind)), ("JOIN", f64::from(self.join))];
        let mut case = Case { what: format!("{self:?}"), variant, overrides, grid: [0; 3], buffers };
        case.grid = grid(&case);
        case
    }
}

/// A case of `matvec` or `matmul`.
#[derive(Clone, Copy, Debug)]
pub struct MatrixCase {
    /// K.
    pub columns: u32,
    /// Columns of Y.
    pub outputs: u32,
    /// Batch rows.
    pub rows: u32,
    /// First batch row.
    pub first_row: u32,
    /// Whether x rows are named by `indices`.
    pub gather: bool,
    /// [`prologue`]; matmul has none.
    pub prologue: u32,
    /// [`epilogue`].
    pub epilogue: u32,
    /// [`activation`].
    pub activation: u32,
    /// Whether there is a bias.
    pub bias: bool,
    /// c, or 0.
    pub softcap: f32,
    /// Whether every second row has a delta.
    pub delta: bool,
}

impl MatrixCase {
    /// The plain product of these sizes.
    pub fn product(columns: u32, outputs: u32, rows: u32) -> MatrixCase {
        MatrixCase {
            columns,
            outputs,
            rows,
            first_row: 0,
            gather: false,
            prologue: 0,
            epilogue: 0,
            activation: 0,
            bias: false,
            softcap: 0.0,
            delta: false,
        }
    }

    /// The dispatch.
    pub fn case(&self, variant: &'static Variant) -> Case {
        let mut random = Random::new(3);
        let format = variant.format.expect("a matrix row names a format");
        let is_matvec = variant.kernel == Kernel::Matvec;
        let all_outputs = if self.epilogue == epilogue::GATED { 2 * self.outputs } else { self.outputs };
        let (layout, table) = weights(&mut random, format, all_outputs, self.columns);
        let total = self.first_row + self.rows;
        let (from_rows, x_stride) = (total + 2, self.columns.next_multiple_of(4) + 4);
        let (y_offset, y_stride) = (3, self.outputs + 7);
        let params = MatrixParams {
            columns: self.columns,
            outputs: self.outputs,
            rows: self.rows,
            first_row: self.first_row,
            x_stride,
            y_stride,
            y_offset,
            gather: self.gather.into(),
            planes: layout.offsets(),
            eps: 1e-5,
            softcap: self.softcap,
            delta_stride: if self.delta { DELTA_HEAD + y_offset + all_outputs + 1 } else { 0 },
            pad: 0,
        };
        let x = rows_of(&mut random, from_rows, self.columns, x_stride);
        let gain: Vec<f32> = random.values(self.columns as usize).iter().map(|v| v + 1.0).collect();
        let bias = random.values((y_offset + all_outputs) as usize);
        let indices: Vec<u32> = (0..total).map(|_| random.below(from_rows)).collect();
        let y = random.values((total * y_stride) as usize);
        let mut delta = random.values((total * params.delta_stride) as usize);
        for (row, delta) in delta.chunks_exact_mut(params.delta_stride.max(1) as usize).enumerate() {
            // A row that has none must not see what stands behind.
            delta[0] = (row % 2) as f32;
            if row % 2 == 0 {
                delta[1..].fill(f32::NAN);
            }
        }
        let mut buffers = vec![uniform(&params), table.clone(), table, words(&x)];
        if is_matvec {
            buffers.push(if self.prologue == prologue::NONE { unused() } else { words(&gain) });
        }
        buffers.push(if self.bias { words(&bias) } else { unused() });
        buffers.push(if self.gather { words(&indices) } else { unused() });
        buffers.push(if self.delta { words(&delta) } else { unused() });
        buffers.push(words(&y));
        let mut overrides = vec![
            ("EPILOGUE", f64::from(self.epilogue)),
            ("ACTIVATION", f64::from(self.activation)),
            ("HAS_BIAS", f64::from(u8::from(self.bias))),
            ("HAS_DELTA", f64::from(u8::from(self.delta))),
        ];
        if is_matvec {
            overrides.push(("PROLOGUE", f64::from(self.prologue)));
        }
        let mut case = Case { what: format!("{self:?}"), variant, overrides, grid: [0; 3], buffers };
        case.grid = grid(&case);
        case
    }
}

/// A case of `lora_shrink` and `lora_expand`. Rows have no adapter, the first, the second, … in turns.
#[derive(Clone, Copy, Debug)]
pub struct LoraCase {
    /// K.
    pub columns: u32,
    /// Outputs of each part of the linear; those of 0 are not there.
    pub parts: [u32; 3],
    /// By adapter, the rank of each part; 0 where it has none.
    pub ranks: &'static [[u32; 3]],
    /// Rows.
    pub rows: u32,
    /// First row.
    pub first_row: u32,
    /// Whether rows are named by `indices`.
    pub gather: bool,
    /// Whether x is by batch row; only with `gather` does it matter.
    pub gather_x: bool,
    /// [`prologue`] of shrink.
    pub prologue: u32,
}

impl LoraCase {
    /// The dispatch.
    pub fn case(&self, variant: &'static Variant) -> Case {
        let mut random = Random::new(6);
        let parts = self.parts.iter().filter(|&&rows| rows > 0).count() as u32;
        let outputs: u32 = self.parts.iter().sum();
        let largest = self.ranks.iter().flatten().copied().max().unwrap_or(0);
        let total = self.first_row + self.rows;
        let batch_rows = total + 2;
        let params = LoraParams {
            columns: self.columns,
            outputs,
            rows: self.rows,
            first_row: self.first_row,
            x_stride: self.columns.next_multiple_of(4) + 4,
            low_stride: parts * largest + 3,
            delta_stride: DELTA_HEAD + outputs + 1,
            parts,
            ranks: largest,
            gather: self.gather.into(),
            gather_x: self.gather_x.into(),
            eps: 1e-5,
        };
        let (mut weights, mut table) = (Vec::new(), Vec::new());
        for ranks in self.ranks {
            let mut first_row = 0;
            for (&rank, &rows) in ranks.iter().zip(&self.parts).take(parts as usize) {
                let a = weights.len() as u32 / 4;
                weights.extend(rows_of(&mut random, rank, self.columns, self.columns.next_multiple_of(4)));
                let b = weights.len() as u32;
                weights.extend(random.values((rank * rows) as usize));
                weights.resize(weights.len().next_multiple_of(4), f32::NAN);
                table.push(LoraEntry { a, b, rank, first_row, rows, pad: [0; 3] });
                first_row += rows;
            }
        }
        let rows: Vec<RowInfo> =
            (0..batch_rows).map(|r| RowInfo { adapter: r % (self.ranks.len() as u32 + 1), ..RowInfo::default() }).collect();
        // NaN pads rows of x: what is not a column must not be multiplied.
        let x: Vec<f32> =
            (0..batch_rows * params.x_stride).map(|i| if i % params.x_stride < self.columns { random.value() } else { f32::NAN }).collect();
        let gain: Vec<f32> = random.values(self.columns as usize).iter().map(|v| v + 1.0).collect();
        let indices: Vec<u32> = (0..total).map(|_| random.below(batch_rows)).collect();
        let indices = if self.gather { words(&indices) } else { unused() };
        let low = random.values((total * params.low_stride) as usize);
        let delta = random.values((total * params.delta_stride) as usize);
        let mut buffers = vec![uniform(&params), words(&rows), words(&table), words(&weights)];
        let mut overrides = Vec::new();
        if variant.kernel == Kernel::LoraShrink {
            buffers.extend([words(&x), words(&gain), indices, words(&low)]);
            overrides.push(("PROLOGUE", f64::from(self.prologue)));
        } else {
            buffers.extend([words(&low), indices, words(&delta)]);
        }
        let mut case = Case { what: format!("{self:?}"), variant, overrides, grid: [0; 3], buffers };
        case.grid = grid(&case);
        case
    }
}

/// Few small cases that tell whether a device runs this variant right: what a load-time self-check runs.
pub fn check_cases(variant: &'static Variant) -> Vec<Case> {
    match variant.kernel {
        Kernel::Embed => {
            let case = EmbedCase { columns: 512, first_id: 3, ids: 9, rows: 4, first_row: 1, source: 0, accumulate: false, scale: 1.5 };
            vec![case.case(variant)]
        }
        Kernel::Norm => {
            let case = NormCase { columns: 300, rows: 2, first_row: 0, gather: false, kind: norm_kind::RMS, join: norm_join::STORE };
            vec![
                case.case(variant),
                NormCase { kind: norm_kind::LAYER, join: norm_join::ADD_THEN_NORM, ..case }.case(variant),
                NormCase { join: norm_join::NORM_THEN_ADD, ..case }.case(variant),
            ]
        }
        Kernel::Matvec => {
            let case = MatrixCase { prologue: prologue::RMS, ..MatrixCase::product(768, 40, variant.rows()) };
            vec![
                case.case(variant),
                MatrixCase { epilogue: epilogue::GATED, ..case }.case(variant),
                MatrixCase { prologue: prologue::NONE, epilogue: epilogue::ADD, ..case }.case(variant),
            ]
        }
        Kernel::Matmul => {
            let case = MatrixCase::product(768, 70, variant.rows() + 3);
            vec![case.case(variant), MatrixCase { epilogue: epilogue::GATED, ..case }.case(variant)]
        }
        Kernel::LoraShrink | Kernel::LoraExpand => {
            let case = LoraCase {
                columns: 300,
                parts: [40, 20, 20],
                ranks: &[[8, 0, 8], [5, 16, 3]],
                rows: 4,
                first_row: 1,
                gather: false,
                gather_x: false,
                prologue: prologue::RMS,
            };
            vec![case.case(variant)]
        }
        Kernel::RopeWrite => {
            let case = RopeCase {
                heads: 2,
                kv_heads: 1,
                head_dim: 64,
                rotated: 64,
                pairs: rope_pairs::HALVES,
                qk_norm: true,
                rows: 3,
                first_row: 0,
                position: 1000,
                magnitude: 1.0,
            };
            vec![case.case(variant), RopeCase { pairs: rope_pairs::ADJACENT, qk_norm: false, ..case }.case(variant)]
        }
        Kernel::Sample => {
            let case = SampleCase { adjustments: 9, in_flight: 3, ..SampleCase::plain(700, 2) };
            let filters = DrawInfo { top_k: 90, top_p: 0.9, typical_p: 0.95, min_p: 0.01, temperature: 1.5, ..case.draw };
            vec![
                case.case(variant),
                SampleCase { draw: filters, allowed: 0.6, ties: true, ..case }.case(variant),
                SampleCase { draw: DrawInfo { temperature: 0.0, ..case.draw }, ..case }.case(variant),
            ]
        }
        Kernel::AttendSplit | Kernel::AttendReduce | Kernel::AttendPrompt => {
            let heads = 2 * variant.group();
            let case = AttendCase {
                heads,
                kv_heads: 2,
                head_dim: 64.min(variant.head_dim()),
                window: 0,
                causal: true,
                softcap: 0.0,
                lengths: [150, 20],
                rows: [3, 2],
            };
            vec![case.case(variant), AttendCase { window: 40, softcap: 5.0, head_dim: variant.head_dim(), ..case }.case(variant)]
        }
    }
}
