//! Byte sources of a browser: a `Blob` (a dropped file, a response, an entry of a cache) read by range, or bytes that stay in
//! JavaScript's memory. Neither brings the whole model into wasm's.

use firecrest_weights::{ByteSource, LocalFuture, SourceError, check_range};
use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::Blob;

/// What JavaScript says of an error.
pub(crate) fn said(error: &JsValue) -> String {
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => String::from(error.message()),
        None => format!("{error:?}"),
    }
}

/// A `Blob`, read slice by slice.
struct BlobSource {
    name: String,
    blob: Blob,
}

impl ByteSource for BlobSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        // A blob's size is a whole number that f64 holds exactly.
        self.blob.size() as u64
    }

    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> LocalFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            check_range(self, offset, out.len())?;
            let failed = |error: JsValue| SourceError::Io { name: self.name.clone(), message: said(&error) };
            let end = offset + out.len() as u64;
            let slice = self.blob.slice_with_f64_and_f64(offset as f64, end as f64).map_err(failed)?;
            let buffer: ArrayBuffer = JsFuture::from(slice.array_buffer()).await.map_err(failed)?.unchecked_into();
            let bytes = Uint8Array::new(&buffer);
            if bytes.length() as usize != out.len() {
                let message = format!("bytes {offset}..{end} came back as {} bytes; the file may have changed", bytes.length());
                return Err(SourceError::Io { name: self.name.clone(), message });
            }
            bytes.copy_to(out);
            Ok(())
        })
    }
}

/// Bytes in JavaScript's memory.
struct ArraySource {
    name: String,
    bytes: Uint8Array,
}

impl ByteSource for ArraySource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        u64::from(self.bytes.length())
    }

    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> LocalFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            check_range(self, offset, out.len())?;
            // The range lies within the array, whose length is a u32.
            let begin = offset as u32;
            self.bytes.subarray(begin, begin + out.len() as u32).copy_to(out);
            Ok(())
        })
    }
}

/// A source over a `Blob` or a `Uint8Array`, called `name` in messages. `None` for anything else.
pub(crate) fn source(name: String, value: JsValue) -> Option<Box<dyn ByteSource>> {
    match value.dyn_into::<Blob>() {
        Ok(blob) => Some(Box::new(BlobSource { name, blob })),
        Err(value) => Some(Box::new(ArraySource { name, bytes: value.dyn_into::<Uint8Array>().ok()? })),
    }
}
