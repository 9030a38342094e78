//! Where bytes of weights come from.
//!
//! A [`ByteSource`] is asynchronous and ranged, so that weights stream from a file, a server or a browser's storage into
//! backend buffers without the whole model ever standing in one heap. Futures carry no `Send` bound: a browser runs them
//! in place.

use std::future::Future;
use std::pin::Pin;

mod memory;
#[cfg(not(target_family = "wasm"))]
pub mod native;

pub use memory::MemorySource;

/// A boxed future that lives as long as what it borrows.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Bytes that can be read by range.
pub trait ByteSource {
    /// What messages call this source: a file name, a URL without secrets.
    fn name(&self) -> &str;

    /// Total length in bytes.
    fn len(&self) -> u64;

    /// Whether the source holds no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` from `offset`. A range that passes the end is an error, never a short read.
    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> LocalFuture<'a, Result<(), SourceError>>;
}

/// Why bytes could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The range asked for passes the end of the source.
    #[error("{name}: bytes {offset}..{end} were asked for, but it has only {len}; the file is cut short or its header is wrong")]
    OutOfRange {
        /// The source.
        name: String,
        /// First byte asked for.
        offset: u64,
        /// One past the last byte asked for.
        end: u64,
        /// Length of the source.
        len: u64,
    },
    /// The operating system, network or browser refused.
    #[error("{name}: {message}")]
    Io {
        /// The source.
        name: String,
        /// What was said.
        message: String,
    },
}

/// Refuses a range that passes the end of `source`.
pub fn check_range(source: &(impl ByteSource + ?Sized), offset: u64, len: usize) -> Result<(), SourceError> {
    let end = offset.saturating_add(len as u64);
    if end > source.len() {
        return Err(SourceError::OutOfRange { name: source.name().to_owned(), offset, end, len: source.len() });
    }
    Ok(())
}
