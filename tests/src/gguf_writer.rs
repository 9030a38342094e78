//! Writes GGUF files: whole valid ones for tests to run, and slightly wrong ones for tests to refuse.

use firecrest_engine::quant::{Format, GgmlType, quantise};

/// A GGUF file in the making. Values keep the order they are added in.
///
/// ```
/// use firecrest_engine::quant::GgmlType;
/// use firecrest_tests::GgufWriter;
/// let bytes = GgufWriter::new()
///     .str("general.architecture", "llama")
///     .u32("llama.block_count", 1)
///     .tensor("token_embd.weight", &[2, 4], GgmlType::F32, vec![0; 32])
///     .finish();
/// assert_eq!(&bytes[..4], b"GGUF");
/// ```
#[derive(Clone, Default)]
pub struct GgufWriter {
    version: Option<u32>,
    alignment: Option<u32>,
    entries: Vec<u8>,
    entry_count: u64,
    tensors: Vec<Tensor>,
}

#[derive(Clone)]
struct Tensor {
    name: String,
    /// Outermost first.
    shape: Vec<usize>,
    id: u32,
    bytes: Vec<u8>,
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

impl GgufWriter {
    /// An empty version 3 file.
    pub fn new() -> GgufWriter {
        GgufWriter::default()
    }

    /// Another version number.
    pub fn version(mut self, version: u32) -> Self {
        self.version = Some(version);
        self
    }

    /// Another alignment than 32, written as `general.alignment` too.
    pub fn alignment(mut self, alignment: u32) -> Self {
        self.alignment = Some(alignment);
        self.u32("general.alignment", alignment)
    }

    /// An entry of any type: `value_type` is GGUF's number, `value` its bytes.
    pub fn raw(mut self, key: &str, value_type: u32, value: &[u8]) -> Self {
        string(&mut self.entries, key);
        self.entries.extend_from_slice(&value_type.to_le_bytes());
        self.entries.extend_from_slice(value);
        self.entry_count += 1;
        self
    }

    /// A u32.
    pub fn u32(self, key: &str, value: u32) -> Self {
        self.raw(key, 4, &value.to_le_bytes())
    }

    /// A float32.
    pub fn f32(self, key: &str, value: f32) -> Self {
        self.raw(key, 6, &value.to_le_bytes())
    }

    /// A bool.
    pub fn bool(self, key: &str, value: bool) -> Self {
        self.raw(key, 7, &[u8::from(value)])
    }

    /// A string.
    pub fn str(self, key: &str, value: &str) -> Self {
        let mut bytes = Vec::new();
        string(&mut bytes, value);
        self.raw(key, 8, &bytes)
    }

    fn array(self, key: &str, element_type: u32, count: usize, elements: &[u8]) -> Self {
        let mut bytes = element_type.to_le_bytes().to_vec();
        bytes.extend_from_slice(&(count as u64).to_le_bytes());
        bytes.extend_from_slice(elements);
        self.raw(key, 9, &bytes)
    }

    /// An array of u32.
    pub fn u32s(self, key: &str, values: &[u32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.array(key, 4, values.len(), &bytes)
    }

    /// An array of i32.
    pub fn i32s(self, key: &str, values: &[i32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.array(key, 5, values.len(), &bytes)
    }

    /// An array of float32.
    pub fn f32s(self, key: &str, values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.array(key, 6, values.len(), &bytes)
    }

    /// An array of bools.
    pub fn bools(self, key: &str, values: &[bool]) -> Self {
        let bytes: Vec<u8> = values.iter().map(|&v| u8::from(v)).collect();
        self.array(key, 7, values.len(), &bytes)
    }

    /// An array of strings.
    pub fn strings<S: AsRef<str>>(self, key: &str, values: &[S]) -> Self {
        let mut bytes = Vec::new();
        values.iter().for_each(|v| string(&mut bytes, v.as_ref()));
        self.array(key, 8, values.len(), &bytes)
    }

    /// A tensor: shape outermost first (`[rows, columns]` for a matrix), blocks as they stand in the file.
    pub fn tensor(self, name: &str, shape: &[usize], ty: GgmlType, bytes: Vec<u8>) -> Self {
        let id = ty.id().unwrap_or_else(|| panic!("{ty} has no ggml id"));
        self.tensor_of_id(name, shape, id, bytes)
    }

    /// A tensor of any type number.
    pub fn tensor_of_id(mut self, name: &str, shape: &[usize], id: u32, bytes: Vec<u8>) -> Self {
        self.tensors.push(Tensor { name: name.into(), shape: shape.into(), id, bytes });
        self
    }

    /// A tensor from float32 values, encoded as `format`.
    pub fn tensor_f32(self, name: &str, shape: &[usize], format: Format, values: &[f32]) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}: values for its shape");
        let mut bytes = Vec::new();
        quantise(format, values, &mut bytes);
        self.tensor(name, shape, GgmlType::from(format), bytes)
    }

    /// Changes the values of a float32 tensor that was added.
    ///
    /// # Panics
    /// Where there is no such tensor, or it is of another type.
    pub fn change_f32(mut self, name: &str, change: impl FnOnce(&mut [f32])) -> Self {
        let found = self.tensors.iter_mut().find(|t| t.name == name).unwrap_or_else(|| panic!("no tensor is called {name}"));
        assert_eq!(Some(found.id), GgmlType::F32.id(), "{name} is no float32 tensor");
        let mut values: Vec<f32> = found.bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        change(&mut values);
        found.bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self
    }

    /// The file's bytes.
    pub fn finish(self) -> Vec<u8> {
        // A file may claim an alignment of 0, to be refused for it.
        let alignment = self.alignment.unwrap_or(32).max(1) as usize;
        let mut out = b"GGUF".to_vec();
        out.extend_from_slice(&self.version.unwrap_or(3).to_le_bytes());
        out.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.entry_count.to_le_bytes());
        out.extend_from_slice(&self.entries);
        let mut offset = 0;
        for tensor in &self.tensors {
            string(&mut out, &tensor.name);
            out.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
            for &extent in tensor.shape.iter().rev() {
                out.extend_from_slice(&(extent as u64).to_le_bytes());
            }
            out.extend_from_slice(&tensor.id.to_le_bytes());
            out.extend_from_slice(&(offset as u64).to_le_bytes());
            offset += tensor.bytes.len().next_multiple_of(alignment);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(alignment), 0);
            out.extend_from_slice(&tensor.bytes);
        }
        out.resize(out.len().next_multiple_of(alignment), 0);
        out
    }
}
