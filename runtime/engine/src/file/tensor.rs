//! Tensors: what a file says of them, and their rows as a stream.

use firecrest_weights::ByteSource;

use super::ModelFile;
use super::head::quoted;
use crate::error::{Error, ErrorCode, Result};
use crate::quant::{Format, GgmlType, dequantise, first_non_finite, quantise, requantise};

/// The most tensors a file may have. The deepest dense models have some 1,500.
pub(super) const MOST_TENSORS: u64 = 8_192;

/// Bytes that are converted at a time, so that a conversion needs little beside its result.
const STRIP: usize = 256 << 10;

/// What is done to values as they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transform {
    /// Nothing.
    None,
    /// v + 1. Gemma's norms in safetensors hold g − 1.
    AddOne,
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, by GGUF's conventions.
    pub name: String,
    /// How its values are stored.
    pub ty: GgmlType,
    /// Extents, outermost first; the last is the length of a row. Empty for a single value.
    pub shape: Vec<usize>,
    /// Number of the source that holds it.
    pub(super) source: u32,
    /// Where it starts in that source.
    pub(super) offset: u64,
    pub(super) transform: Transform,
}

impl TensorInfo {
    pub(super) fn new(name: String, ty: GgmlType, shape: Vec<usize>, source: u32, offset: u64) -> TensorInfo {
        TensorInfo { name, ty, shape, source, offset, transform: Transform::None }
    }

    /// Values in a row.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows, over all outer dimensions: 1 for a vector.
    pub fn rows(&self) -> usize {
        // `check` has shown that the product of all extents does not overflow, which an extent of 0 could hide from it: saturate.
        self.shape.iter().rev().skip(1).fold(1, |n, &extent| n.saturating_mul(extent))
    }

    /// Values in all.
    pub fn elements(&self) -> usize {
        self.rows().saturating_mul(self.columns())
    }

    /// Bytes in the file.
    pub fn bytes(&self) -> u64 {
        self.elements() as u64 / self.ty.block_len() as u64 * self.ty.block_bytes() as u64
    }

    /// Checks that shape and type agree, that the size is no absurdity, and that the tensor lies within its source.
    pub(super) fn check(&self, source: &dyn ByteSource) -> Result<()> {
        let malformed = |message: String| Error::malformed(format!("{}: tensor {} {message}", source.name(), quoted(&self.name)));
        if !self.columns().is_multiple_of(self.ty.block_len()) {
            let (columns, block) = (self.columns(), self.ty.block_len());
            return Err(malformed(format!("has rows of {columns} values, not whole {} blocks of {block}", self.ty)));
        }
        let product = self.shape.iter().try_fold(1u64, |n, &extent| n.checked_mul(extent as u64));
        let bytes = product
            .filter(|&n| usize::try_from(n).is_ok())
            .and_then(|n| (n / self.ty.block_len() as u64).checked_mul(self.ty.block_bytes() as u64));
        let end = bytes.and_then(|n| self.offset.checked_add(n));
        match end {
            None => Err(malformed(format!("has the impossible shape {:?}", self.shape))),
            Some(end) if end > source.len() => Err(malformed(format!(
                "should lie at bytes {}..{end}, but the file ends at {}; it is cut short or its header is wrong",
                self.offset,
                source.len()
            ))),
            Some(_) => Ok(()),
        }
    }
}

/// Tensors by name.
pub(super) struct Tensors {
    /// In file order.
    pub(super) list: Vec<TensorInfo>,
    /// Indices into `list`, by name.
    by_name: Vec<u32>,
}

impl Tensors {
    /// Refuses two tensors of one name, and two that share bytes.
    pub(super) fn new(list: Vec<TensorInfo>, sources: &[Box<dyn ByteSource>]) -> Result<Tensors> {
        let origin = |t: &TensorInfo| sources.get(t.source as usize).map_or("", |s| s.name());
        let mut order: Vec<u32> = (0..list.len() as u32).collect();
        let at = |i: u32| &list[i as usize];
        order.sort_unstable_by_key(|&i| (at(i).source, at(i).offset, at(i).bytes()));
        for pair in order.windows(2) {
            let (a, b) = (at(pair[0]), at(pair[1]));
            if a.source == b.source && b.bytes() > 0 && a.offset + a.bytes() > b.offset {
                let message = format!("{}: tensors {} and {} overlap at byte {}", origin(a), quoted(&a.name), quoted(&b.name), b.offset);
                return Err(Error::malformed(message));
            }
        }
        order.sort_unstable_by_key(|&i| at(i).name.as_str());
        if let Some(pair) = order.windows(2).find(|pair| at(pair[0]).name == at(pair[1]).name) {
            let t = at(pair[1]);
            return Err(Error::malformed(format!("{}: there are two tensors named {}", origin(t), quoted(&t.name))));
        }
        Ok(Tensors { list, by_name: order })
    }

    pub(super) fn get(&self, name: &str) -> Option<&TensorInfo> {
        let found = self.by_name.binary_search_by_key(&name, |&i| self.list[i as usize].name.as_str()).ok()?;
        Some(&self.list[self.by_name[found] as usize])
    }
}

impl ModelFile {
    /// Replaces `out` with rows `first_row..first_row + rows` of a tensor as blocks of `format`.
    ///
    /// Blocks that already are `format` come as they stand in the file; others are decoded and encoded anew, a strip at a time.
    /// Beside `out` little is held, so a caller bounds memory by asking for few rows.
    ///
    /// # Errors
    /// `Unsupported` where the type cannot be decoded, or rows are not whole blocks of `format`; `Malformed` where a scale or a
    /// value is NaN or infinite, which would poison every row it meets; `Source` where reading fails. All name the tensor.
    pub async fn read_rows(&self, tensor: &TensorInfo, first_row: usize, rows: usize, format: Format, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let (ty, columns) = (tensor.ty, tensor.columns());
        self.check_readable(tensor)?;
        if first_row.checked_add(rows).is_none_or(|end| end > tensor.rows()) {
            let message = format!("rows {first_row}.. + {rows} of tensor {}, which has {}", quoted(&tensor.name), tensor.rows());
            return Err(Error::request(message));
        }
        if !columns.is_multiple_of(format.block_len()) {
            let message = format!(
                "{}: tensor {} has rows of {columns} values, which are not whole {format} blocks of {}",
                self.origin(tensor),
                quoted(&tensor.name),
                format.block_len()
            );
            return Err(Error::unsupported(message));
        }
        let row_bytes = ty.row_bytes(columns);
        if ty.is_format(format) && tensor.transform == Transform::None {
            out.resize(rows * row_bytes, 0);
            return self.read_blocks(tensor, first_row, out).await;
        }
        let strip_rows = (STRIP / row_bytes).clamp(1, rows.max(1));
        let mut blocks = Vec::new();
        let mut values = Vec::new();
        out.reserve_exact(rows * format.row_bytes(columns));
        let mut row = first_row;
        while row < first_row + rows {
            let count = strip_rows.min(first_row + rows - row);
            blocks.resize(count * row_bytes, 0);
            self.read_blocks(tensor, row, &mut blocks).await?;
            values.resize(count * columns, 0.0);
            dequantise(ty, &blocks, &mut values);
            tensor.transform.apply(&mut values);
            let start = out.len();
            match tensor.transform {
                Transform::None => requantise(ty, &blocks, &values, format, out),
                _ => quantise(format, &values, out),
            }
            if let Some(block) = first_non_finite(format.into(), &out[start..]) {
                let at = row + block * format.block_len() / columns;
                return Err(self.non_finite(tensor, at, format_args!("does not fit {format}")));
            }
            row += count;
        }
        Ok(())
    }

    /// All values of a tensor as float32: for vectors, and whatever else is small.
    pub async fn read_f32(&self, tensor: &TensorInfo) -> Result<Vec<f32>> {
        self.check_readable(tensor)?;
        let rows = tensor.rows();
        let row_bytes = tensor.ty.row_bytes(tensor.columns());
        let strip_rows = (STRIP / row_bytes).clamp(1, rows.max(1));
        let mut values = vec![0.0; tensor.elements()];
        let mut blocks = Vec::new();
        for (strip, out) in values.chunks_mut(strip_rows * tensor.columns()).enumerate() {
            let first_row = strip * strip_rows;
            blocks.resize(out.len() / tensor.columns() * row_bytes, 0);
            self.read_blocks(tensor, first_row, &mut blocks).await?;
            dequantise(tensor.ty, &blocks, out);
            tensor.transform.apply(out);
        }
        Ok(values)
    }

    /// Fails, naming the tensor, where its type cannot be decoded or it holds nothing.
    pub fn check_readable(&self, tensor: &TensorInfo) -> Result<()> {
        if tensor.elements() == 0 {
            let (origin, name) = (self.origin(tensor), quoted(&tensor.name));
            return Err(Error::malformed(format!("{origin}: tensor {name} is empty: its shape is {:?}", tensor.shape)));
        }
        if tensor.ty.is_supported() {
            return Ok(());
        }
        let message = format!(
            "{}: tensor {} is stored as {}, which Firecrest does not decode; it reads {}",
            self.origin(tensor),
            quoted(&tensor.name),
            tensor.ty,
            GgmlType::SUPPORTED.map(GgmlType::name).join(", ")
        );
        Err(Error::unsupported(message))
    }

    /// Fills `out` with whole rows from `first_row`, undecoded, and checks their scales.
    async fn read_blocks(&self, tensor: &TensorInfo, first_row: usize, out: &mut [u8]) -> Result<()> {
        let row_bytes = tensor.ty.row_bytes(tensor.columns());
        let source = self.sources.get(tensor.source as usize).ok_or_else(|| {
            // Only a `TensorInfo` of another file leads here.
            Error::internal(format!("tensor {} is not of this model", quoted(&tensor.name)))
        })?;
        let offset = tensor.offset + first_row as u64 * row_bytes as u64;
        source.read(offset, out).await.map_err(|e| {
            let message = format!("tensor {}: {e}", quoted(&tensor.name));
            Error::new(ErrorCode::Source, message).with_source(e)
        })?;
        match first_non_finite(tensor.ty, out) {
            None => Ok(()),
            Some(block) => {
                let row = first_row + block * tensor.ty.block_bytes() / row_bytes;
                Err(self.non_finite(tensor, row, format_args!("is NaN or infinite")))
            }
        }
    }

    fn non_finite(&self, tensor: &TensorInfo, row: usize, what: std::fmt::Arguments<'_>) -> Error {
        let (origin, name) = (self.origin(tensor), quoted(&tensor.name));
        let holds = if tensor.ty.block_len() == 1 { "value" } else { "block scale" };
        Error::malformed(format!("{origin}: tensor {name}, row {row}: a {holds} {what}; the file is damaged or was converted wrongly"))
    }

    fn origin(&self, tensor: &TensorInfo) -> &str {
        self.sources.get(tensor.source as usize).map_or("", |s| s.name())
    }
}

impl Transform {
    fn apply(self, values: &mut [f32]) {
        match self {
            Transform::None => {}
            Transform::AddOne => values.iter_mut().for_each(|v| *v += 1.0),
        }
    }
}
