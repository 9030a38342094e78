//! GGUF models in one file or in parts.
//!
//! The first part has all the metadata; each has its own tensors and says by `split.no`, `split.count` and
//! `split.tensors.count` which part of what it is.

use firecrest_weights::ByteSource;

use super::gguf::{self, Gguf};
use super::metadata::Metadata;
use super::tensor::{MOST_TENSORS, TensorInfo};
use crate::error::{Error, Result};

/// Reads the head of every source and joins them: the first part's metadata, everyone's tensors in order of parts.
pub(super) async fn read(sources: &[Box<dyn ByteSource>]) -> Result<(Metadata, Vec<TensorInfo>)> {
    let mut parts: Vec<Option<Gguf>> = sources.iter().map(|_| None).collect();
    for (index, source) in sources.iter().enumerate() {
        let part = gguf::read(&**source, index as u32).await?;
        let malformed = |message: String| Error::malformed(format!("{}: {message}", source.name()));
        let count = part.metadata.u32("split.count")?.unwrap_or(1);
        if count as usize != sources.len() {
            return Err(malformed(match (count, sources.len()) {
                (0 | 1, given) => format!("this is a whole model, but was given with {} other files", given - 1),
                (count, given) => format!("this is one of {count} parts, but {given} were given; all parts must be there"),
            }));
        }
        let number = if count > 1 { part.metadata.require_u32("split.no")? } else { 0 };
        let Some(place) = parts.get_mut(number as usize) else {
            return Err(malformed(format!("split.no is {number}, but there are only {count} parts")));
        };
        if place.is_some() {
            return Err(malformed(format!("part {number} was given twice")));
        }
        *place = Some(part);
    }
    // As many parts as places, none of them twice: every place is taken.
    let mut parts = parts.into_iter().flatten();
    let Some(Gguf { metadata, mut tensors }) = parts.next() else { return Err(Error::request("no part was given")) };
    for part in parts {
        if (tensors.len() + part.tensors.len()) as u64 > MOST_TENSORS {
            return Err(Error::malformed(format!("{}: all parts together have more than {MOST_TENSORS} tensors", metadata.origin())));
        }
        tensors.extend(part.tensors);
    }
    match metadata.u32("split.tensors.count")? {
        Some(claimed) if claimed as usize != tensors.len() && sources.len() > 1 => {
            let message = format!("{}: split.tensors.count is {claimed}, but all parts together have {}", metadata.origin(), tensors.len());
            Err(Error::malformed(message))
        }
        _ => Ok((metadata, tensors)),
    }
}
