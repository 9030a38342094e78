//! GGUF, versions 2 and 3: `"GGUF" version tensor-count entry-count entries tensor-infos padding data`, little-endian.

use firecrest_weights::ByteSource;

use super::head::{Head, quoted};
use super::metadata::{DEEPEST, Entry, MOST_ENTRIES, Metadata, ValueType};
use super::tensor::{MOST_TENSORS, TensorInfo};
use crate::error::{Error, Result};
use crate::quant::GgmlType;

/// Dimensions of a tensor, at most: ggml's own bound.
const MOST_DIMENSIONS: u32 = 4;
/// Bytes of a key, at most: the specification's bound.
const LONGEST_KEY: u64 = 65_535;
/// Bytes of a tensor's name, at most. ggml stops at 63.
const LONGEST_NAME: u64 = 255;
/// Where tensor data starts and tensors align to, unless `general.alignment` says otherwise.
const ALIGNMENT: u32 = 32;
/// The greatest alignment that is believed.
const MOST_ALIGNMENT: u32 = 1 << 16;

/// One GGUF file's head.
pub(super) struct Gguf {
    pub(super) metadata: Metadata,
    /// In file order; offsets from the start of the file.
    pub(super) tensors: Vec<TensorInfo>,
}

/// Whether these first bytes are a GGUF file's.
pub(super) fn is_gguf(start: &[u8]) -> bool {
    start.starts_with(b"GGUF")
}

/// Reads and checks the head of a GGUF file. `index` is the source's number in its model.
pub(super) async fn read(source: &dyn ByteSource, index: u32) -> Result<Gguf> {
    let mut head = Head::new(source);
    if !is_gguf(head.take(4, "the magic number").await?) {
        return Err(head.malformed("not a GGUF file: it does not begin with `GGUF`"));
    }
    match head.u32("the version").await? {
        2 | 3 => {}
        1 => return Err(unsupported(source, "GGUF version 1 is not read; convert the model again with a current tool")),
        version if version & 0xffff == 0 => {
            return Err(unsupported(source, "a big-endian GGUF file is not read; convert it for little-endian machines"));
        }
        version => return Err(unsupported(source, format_args!("GGUF version {version} is not known; versions 2 and 3 are read"))),
    }
    let tensor_count = head.u64("the tensor count").await?;
    let entry_count = head.u64("the metadata count").await?;
    if tensor_count > MOST_TENSORS {
        return Err(head.malformed(format_args!("the header claims {tensor_count} tensors; at most {MOST_TENSORS} are read")));
    }
    if entry_count > MOST_ENTRIES {
        return Err(head.malformed(format_args!("the header claims {entry_count} metadata entries; at most {MOST_ENTRIES} are read")));
    }
    let mut entries = Vec::new();
    for _ in 0..entry_count {
        entries.push(entry(&mut head).await?);
    }
    let metadata_end = head.position();
    let mut tensors = Vec::new();
    for _ in 0..tensor_count {
        tensors.push(tensor(&mut head, source, index).await?);
    }
    let head_end = head.position() as u64;
    let metadata = Metadata::new(source.name(), head.into_bytes(metadata_end), entries)?;
    let alignment = metadata.u32("general.alignment")?.unwrap_or(ALIGNMENT);
    if !alignment.is_power_of_two() || alignment > MOST_ALIGNMENT {
        let message = format!("{}: general.alignment is {alignment}, not a power of two up to {MOST_ALIGNMENT}", source.name());
        return Err(Error::malformed(message));
    }
    let alignment = u64::from(alignment);
    let data = head_end.next_multiple_of(alignment);
    for tensor in &mut tensors {
        place(tensor, source, data, alignment)?;
    }
    Ok(Gguf { metadata, tensors })
}

fn unsupported(source: &dyn ByteSource, message: impl std::fmt::Display) -> Error {
    Error::unsupported(format!("{}: {message}", source.name()))
}

async fn entry(head: &mut Head<'_>) -> Result<Entry> {
    let key_len = head.name(LONGEST_KEY, "a metadata key").await?.len();
    let key = head.position() - key_len;
    let id = head.u32("a metadata value's type").await?;
    let value = head.position();
    let shown = |head: &Head<'_>| quoted(&String::from_utf8_lossy(&head.since(key)[..key_len]));
    let Some(ty) = ValueType::from_id(id) else {
        let key = shown(head);
        return Err(head.malformed(format_args!("the metadata value of {key} has the unknown type {id}")));
    };
    if let Err(error) = skip(head, ty).await {
        return Err(Error::new(error.code(), format!("{} (in the metadata value of {})", error.message(), shown(head))));
    }
    if ty == ValueType::Bool && head.since(value)[0] > 1 {
        let (key, byte) = (shown(head), head.since(value)[0]);
        return Err(head.malformed(format_args!("the metadata value of {key} is a bool of byte {byte}; 0 and 1 are the two there are")));
    }
    // A head is shorter than 2³² bytes.
    Ok(Entry { key: key as u32, key_len: key_len as u32, value: value as u32, ty })
}

/// Walks over one value, however deep. Every step takes bytes that are there, so the work is bounded by the file.
async fn skip(head: &mut Head<'_>, ty: ValueType) -> Result<()> {
    // Arrays of arrays that are still open: how many elements of each are left.
    let mut open = [0u64; DEEPEST];
    let mut depth = 0;
    let mut next = ty;
    loop {
        match next {
            ValueType::Str => {
                let len = head.u64("a string's length").await?;
                head.take(len, "a string").await?;
            }
            ValueType::Array => {
                let id = head.u32("an array's element type").await?;
                let count = head.u64("an array's length").await?;
                match ValueType::from_id(id) {
                    None => return Err(head.malformed(format_args!("an array has the unknown element type {id}"))),
                    Some(ValueType::Array) => {
                        if depth == DEEPEST {
                            return Err(head.malformed(format_args!("arrays are nested deeper than {DEEPEST}")));
                        }
                        open[depth] = count;
                        depth += 1;
                    }
                    Some(ValueType::Str) => {
                        for _ in 0..count {
                            let len = head.u64("a string's length").await?;
                            head.take(len, "a string").await?;
                        }
                    }
                    Some(element) => {
                        let width = element.width().unwrap_or(1) as u64;
                        head.take(count.saturating_mul(width), "an array").await?;
                    }
                }
            }
            scalar => {
                head.take(scalar.width().unwrap_or(0) as u64, "a value").await?;
            }
        }
        while depth > 0 && open[depth - 1] == 0 {
            depth -= 1;
        }
        if depth == 0 {
            return Ok(());
        }
        open[depth - 1] -= 1;
        next = ValueType::Array;
    }
}

async fn tensor(head: &mut Head<'_>, source: &dyn ByteSource, index: u32) -> Result<TensorInfo> {
    let name = head.name(LONGEST_NAME, "a tensor's name").await?.to_owned();
    let dimensions = head.u32("a tensor's dimension count").await?;
    if dimensions > MOST_DIMENSIONS {
        let name = quoted(&name);
        return Err(head.malformed(format_args!("tensor {name} claims {dimensions} dimensions; at most {MOST_DIMENSIONS} are known")));
    }
    let mut shape = Vec::with_capacity(dimensions as usize);
    for _ in 0..dimensions {
        let extent = head.u64("a tensor's extent").await?;
        let Ok(extent) = usize::try_from(extent) else {
            let name = quoted(&name);
            return Err(head.malformed(format_args!("tensor {name} has an extent of {extent}")));
        };
        shape.push(extent);
    }
    // GGUF counts extents from the innermost; here the outermost comes first.
    shape.reverse();
    let id = head.u32("a tensor's type").await?;
    let offset = head.u64("a tensor's offset").await?;
    let Some(ty) = GgmlType::from_id(id) else {
        let name = quoted(&name);
        return Err(match GgmlType::withdrawn(id) {
            Some(old) => unsupported(source, format_args!("tensor {name} has the withdrawn type {old} ({id}); convert the model again")),
            None => unsupported(source, format_args!("tensor {name} has the unknown type {id}; this model needs a newer Firecrest")),
        });
    };
    Ok(TensorInfo::new(name, ty, shape, index, offset))
}

/// Turns an offset into the data section into one into the file, and checks that the tensor lies there.
fn place(tensor: &mut TensorInfo, source: &dyn ByteSource, data: u64, alignment: u64) -> Result<()> {
    if !tensor.offset.is_multiple_of(alignment) {
        let message = format!(
            "{}: tensor {} starts at offset {}, which is not a multiple of the alignment {alignment}",
            source.name(),
            quoted(&tensor.name),
            tensor.offset
        );
        return Err(Error::malformed(message));
    }
    tensor.offset = data.saturating_add(tensor.offset);
    tensor.check(source)
}
