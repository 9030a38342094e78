//! Weights given both to the interpreter and to a backend, for tests that compare the two.

use firecrest_engine::backend::{Backend, MatrixId, MatrixSpec, VectorId};
use firecrest_engine::kv::{KvFormat, KvGroup};
use firecrest_engine::quant::{GgmlType, dequantise};
use firecrest_engine::{Format, Result};
use half::f16;

use crate::interpreter::{Inputs, Interpreter, KvPrecision, Matrix};
use crate::random::Random;

/// The GGML type that holds a kernel format's blocks.
pub fn ggml_type(format: Format) -> GgmlType {
    match format {
        Format::F32 => GgmlType::F32,
        Format::F16 => GgmlType::F16,
        Format::Q4_0 => GgmlType::Q4_0,
        Format::Q8_0 => GgmlType::Q8_0,
        Format::Q4K => GgmlType::Q4K,
        Format::Q6K => GgmlType::Q6K,
    }
}

/// Random blocks that use every code a format has, with values of some 1/√columns.
pub fn random_blocks(format: Format, rows: usize, columns: usize, random: &mut Random) -> Vec<u8> {
    let size = 1.5 / (columns as f32).sqrt();
    let half = |size: f32, random: &mut Random| f16::from_f32(size * (0.5 + 0.5 * random.value().abs())).to_le_bytes();
    let count = rows * columns / format.block_len();
    let mut blocks = Vec::with_capacity(count * format.block_bytes());
    for _ in 0..count {
        let bytes = blocks.len()..blocks.len() + format.block_bytes();
        match format {
            Format::F32 => blocks.extend((random.value() * size).to_le_bytes()),
            Format::F16 => blocks.extend(f16::from_f32(random.value() * size).to_le_bytes()),
            _ => blocks.extend(bytes.clone().map(|_| (random.bits() >> 50) as u8)),
        }
        let block = &mut blocks[bytes];
        match format {
            Format::F32 | Format::F16 => {}
            Format::Q4_0 => block[..2].copy_from_slice(&half(size / 8.0, random)),
            Format::Q8_0 => block[..2].copy_from_slice(&half(size / 128.0, random)),
            Format::Q4K => {
                block[..2].copy_from_slice(&half(size / 512.0, random));
                block[2..4].copy_from_slice(&half(size / 64.0, random));
            }
            Format::Q6K => block[208..].copy_from_slice(&half(size / 4096.0, random)),
        }
    }
    blocks
}

/// Weights, and what they mean.
#[derive(Default)]
pub struct World {
    matrices: Vec<(MatrixSpec, Vec<u8>, Vec<f32>)>,
    vectors: Vec<Vec<f32>>,
    groups: Vec<KvGroup>,
}

impl World {
    /// Adds a random matrix.
    pub fn matrix(&mut self, format: Format, rows: usize, columns: usize, random: &mut Random) -> MatrixId {
        self.blocks(format, rows, columns, random_blocks(format, rows, columns, random))
    }

    /// Adds a matrix of given blocks.
    pub fn blocks(&mut self, format: Format, rows: usize, columns: usize, blocks: Vec<u8>) -> MatrixId {
        let mut values = vec![0.0; rows * columns];
        dequantise(ggml_type(format), &blocks, &mut values);
        let name = format!("{format}.{}", self.matrices.len());
        self.matrices.push((MatrixSpec { name, rows, columns, format }, blocks, values));
        MatrixId(self.matrices.len() as u32 - 1)
    }

    /// Adds a vector.
    pub fn vector(&mut self, values: Vec<f32>) -> VectorId {
        self.vectors.push(values);
        VectorId(self.vectors.len() as u32 - 1)
    }

    /// Sets the KV cache's groups.
    pub fn kv(&mut self, groups: Vec<KvGroup>) {
        self.groups = groups;
    }

    /// How its caches store keys and values; f16 where it has none.
    pub fn kv_format(&self) -> KvFormat {
        self.groups.first().map_or(KvFormat::F16, |group| group.format)
    }

    /// What a matrix was made of, and what it means.
    pub fn matrix_of(&self, id: MatrixId) -> (&MatrixSpec, &[u8], &[f32]) {
        let (spec, blocks, values) = &self.matrices[id.0 as usize];
        (spec, blocks, values)
    }

    /// An interpreter that holds all of it.
    pub fn interpreter(&self, kv: KvPrecision, inputs: Inputs) -> Interpreter {
        let mut interpreter = Interpreter::new(kv, inputs);
        for (i, (spec, _, values)) in self.matrices.iter().enumerate() {
            let matrix = Matrix { format: spec.format, rows: spec.rows, columns: spec.columns, values: values.clone() };
            interpreter.set_matrix(MatrixId(i as u32), matrix);
        }
        for (i, values) in self.vectors.iter().enumerate() {
            interpreter.set_vector(VectorId(i as u32), values);
        }
        interpreter.allocate_kv(&self.groups);
        interpreter
    }

    /// Gives all of it to a backend that has nothing yet: rows in pieces, the later pieces first.
    pub fn upload(&self, backend: &mut Backend) -> Result<()> {
        for (i, (spec, blocks, _)) in self.matrices.iter().enumerate() {
            assert_eq!(backend.matrix(spec)?, MatrixId(i as u32), "ids count up from 0");
            let piece = (spec.rows / 3).max(1);
            let row_bytes = spec.format.row_bytes(spec.columns);
            for (index, rows) in blocks.chunks(piece * row_bytes).enumerate().rev() {
                backend.write_rows(MatrixId(i as u32), index * piece, rows)?;
            }
        }
        for (i, values) in self.vectors.iter().enumerate() {
            assert_eq!(backend.vector(&format!("vector.{i}"), values)?, VectorId(i as u32), "ids count up from 0");
        }
        backend.allocate_kv(&self.groups)
    }
}
