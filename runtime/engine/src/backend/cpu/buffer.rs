//! Memory that kernels share: aligned, zeroed, and written in disjoint pieces by several workers.

use crate::error::{Error, ErrorCode, Result};

/// Bytes of a cache line, the unit of alignment.
pub(super) const LINE: usize = 64;

/// Bytes that start on a cache line, also where there are none, and are zero until written.
pub(super) struct AlignedBytes {
    memory: Vec<u8>,
    /// Where in `memory` the first whole cache line starts.
    start: usize,
    len: usize,
}

impl Default for AlignedBytes {
    /// No bytes. They start on a cache line all the same: whoever reads them as wider values finds none of those.
    fn default() -> AlignedBytes {
        let memory = vec![0; LINE];
        let start = memory.as_ptr().align_offset(LINE);
        AlignedBytes { memory, start, len: 0 }
    }
}

impl AlignedBytes {
    /// `len` zeros; `what` names them where memory runs out.
    pub(super) fn zeroed(len: usize, what: &str) -> Result<AlignedBytes> {
        let refused = || Error::new(ErrorCode::Memory, format!("{what} needs {len} bytes, which this process cannot have"));
        let padded = len.checked_add(LINE).ok_or_else(refused)?;
        // `vec![0; n]` asks the system for zero pages, which take no memory until they are touched, but it ends the process
        // where there are none; so the same is asked for and given back first.
        Vec::<u8>::new().try_reserve_exact(padded).map_err(|_| refused())?;
        let memory = vec![0; padded];
        let start = memory.as_ptr().align_offset(LINE);
        Ok(AlignedBytes { memory, start, len })
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..][..self.len]
    }

    /// All bytes, to write.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.len]
    }

    /// Where they start, for kernels to read through.
    pub(super) fn as_ptr(&self) -> *const u8 {
        self.bytes().as_ptr()
    }

    /// Where they start, for kernels to write through.
    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes_mut().as_mut_ptr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_start_on_a_line_however_few_there_are() {
        let zeroed = |len| AlignedBytes::zeroed(len, "a test").expect("memory");
        for mut bytes in [AlignedBytes::default(), zeroed(0), zeroed(1), zeroed(200)] {
            assert!(bytes.as_ptr().addr().is_multiple_of(LINE) && bytes.as_mut_ptr().addr().is_multiple_of(LINE));
        }
        assert_eq!(bytemuck::cast_slice::<u8, f32>(AlignedBytes::default().bytes()), [0f32; 0]);
    }
}
