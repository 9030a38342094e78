//! Writes safetensors files for tests.

/// A safetensors file in the making.
#[derive(Clone, Default)]
pub struct SafetensorsWriter {
    header: serde_json::Map<String, serde_json::Value>,
    data: Vec<u8>,
}

impl SafetensorsWriter {
    /// An empty file.
    pub fn new() -> SafetensorsWriter {
        SafetensorsWriter::default()
    }

    /// A tensor of any `dtype`: shape outermost first, bytes as they stand in the file.
    pub fn tensor(mut self, name: &str, shape: &[usize], dtype: &str, bytes: &[u8]) -> Self {
        let begin = self.data.len();
        self.data.extend_from_slice(bytes);
        let fields = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, self.data.len()]});
        self.header.insert(name.to_owned(), fields);
        self
    }

    /// A tensor of float32.
    pub fn f32s(self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(name, shape, "F32", &bytes)
    }

    /// The file's bytes.
    pub fn finish(self) -> Vec<u8> {
        let header = serde_json::Value::Object(self.header).to_string();
        let mut out = (header.len() as u64).to_le_bytes().to_vec();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(&self.data);
        out
    }
}
