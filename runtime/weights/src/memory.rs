//! Bytes that are already in memory.

use std::sync::Arc;

use crate::{ByteSource, LocalFuture, SourceError, check_range};

/// A source over bytes in memory: an embedded model, a test, a file a user dropped on a page. Clones share the bytes.
#[derive(Clone)]
pub struct MemorySource {
    name: String,
    bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
}

impl MemorySource {
    /// A source named `name` over `bytes` (`Vec<u8>`, `&'static [u8]`, …), which are not copied.
    pub fn new(name: impl Into<String>, bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> MemorySource {
        MemorySource { name: name.into(), bytes: Arc::new(bytes) }
    }

    fn bytes(&self) -> &[u8] {
        (*self.bytes).as_ref()
    }
}

impl ByteSource for MemorySource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.bytes().len() as u64
    }

    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> LocalFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            check_range(self, offset, out.len())?;
            // The range lies within memory, so the offset fits a usize.
            let start = offset as usize;
            out.copy_from_slice(&self.bytes()[start..start + out.len()]);
            Ok(())
        })
    }
}
