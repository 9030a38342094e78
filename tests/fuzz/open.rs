//! What every case must keep to, whatever the files are.

use std::cell::Cell;
use std::rc::Rc;

use firecrest_engine::ErrorCode;
use firecrest_engine::file::{ModelFile, TensorInfo};
use firecrest_weights::{ByteSource, LocalFuture, MemorySource, SourceError};

use crate::allocator;

/// What may be held beside twice the bytes read.
const SLACK: usize = 1 << 20;

/// What tensors may take that stand in a configuration as a few numbers: one of half the widest head.
const COMPUTED: u64 = 16 << 10;

/// A source that counts the bytes asked of it.
struct Counted {
    inner: MemorySource,
    read: Rc<Cell<u64>>,
    calls: Rc<Cell<u64>>,
}

impl ByteSource for Counted {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> LocalFuture<'a, Result<(), SourceError>> {
        self.read.set(self.read.get() + out.len() as u64);
        self.calls.set(self.calls.get() + 1);
        self.inner.read(offset, out)
    }
}

/// Opens the files, reads everything in them if they open, and checks every promise. Returns whether they opened, or the error.
///
/// # Panics
/// Where a promise is broken.
pub(crate) fn open_and_read(files: Vec<(String, Vec<u8>)>) -> Result<(), String> {
    let (read, calls) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let total: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let count = files.len() as u64;
    let source = |(name, bytes): (String, Vec<u8>)| -> Box<dyn ByteSource> {
        Box::new(Counted { inner: MemorySource::new(name, bytes), read: read.clone(), calls: calls.clone() })
    };
    let sources: Vec<Box<dyn ByteSource>> = files.into_iter().map(source).collect();
    let (opened, peak) = allocator::peak(|| pollster::block_on(ModelFile::open(sources)));
    let bytes_read = read.get() as usize;
    assert!(peak <= 2 * bytes_read + SLACK, "{peak} bytes were held for {bytes_read} bytes read");
    // Work is bounded by the files: each is sniffed once, and read through twice at most.
    assert!(bytes_read <= 3 * total + 64 && calls.get() <= 8 * count + 8 + 2 * total as u64 / (64 << 10), "{bytes_read} of {total}");
    match opened {
        Ok(file) => {
            read_everything(&file, total);
            Ok(())
        }
        Err(error) => {
            check_error(&error);
            Err(error.message().to_owned())
        }
    }
}

fn check_error(error: &firecrest_engine::Error) {
    assert!(error.code() != ErrorCode::Internal, "an internal error: {error}");
    assert!(!error.message().is_empty() && error.message().len() < 4096, "no message for a person: {error}");
    assert!(!error.message().chars().any(|c| c.is_control()), "a message with control characters: {error:?}");
}

fn read_everything(file: &ModelFile, total: usize) {
    for (key, value) in file.metadata.iter() {
        let shown = value.to_string();
        assert!(shown.len() < 8192, "{key} shown in {} bytes", shown.len());
        let m = &file.metadata;
        let errors = [
            m.u32(key).err(),
            m.f32(key).err(),
            m.bool(key).err(),
            m.str(key).err(),
            m.strings(key).err(),
            m.f32s(key).err(),
            m.i32s(key).err(),
            m.u32s(key).err(),
            m.bools(key).err(),
        ];
        // An empty array answers to the five accessors of arrays, and nothing to more.
        assert!(errors.iter().filter(|e| e.is_none()).count() <= 5, "{key} answers to too many types");
        errors.iter().flatten().for_each(check_error);
    }
    if let Err(error) = file.chat_template() {
        check_error(&error);
    }
    let mut values = 0;
    for tensor in file.tensors() {
        assert_eq!(file.tensor(&tensor.name), Some(tensor));
        assert!(tensor.bytes() <= total as u64 + COMPUTED, "{} of {} bytes", tensor.name, tensor.bytes());
        if let Err(error) = read_tensor(file, tensor) {
            check_error(&error);
        } else {
            values += tensor.elements();
        }
    }
    // No stored value takes less than two bits.
    assert!(values <= 4 * total + COMPUTED as usize, "{values} values from {total} bytes");
}

fn read_tensor(file: &ModelFile, tensor: &TensorInfo) -> firecrest_engine::Result<()> {
    let all = pollster::block_on(file.read_f32(tensor))?;
    assert_eq!(all.len(), tensor.elements());
    assert!(all.iter().all(|v| v.is_finite()), "{} gives a value that is not finite", tensor.name);
    let Some(format) = tensor.ty.kernel_format() else { panic!("{} decoded without a kernel format", tensor.ty) };
    let mut blocks = Vec::new();
    let half = tensor.rows() / 2;
    pollster::block_on(file.read_rows(tensor, half, tensor.rows() - half, format, &mut blocks))?;
    assert_eq!(blocks.len(), (tensor.rows() - half) * format.row_bytes(tensor.columns()));
    Ok(())
}
