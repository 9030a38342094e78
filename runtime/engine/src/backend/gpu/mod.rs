//! The WGSL backend on wgpu. The only room that says `wgpu::`.

use crate::backend::{Description, MatrixId, MatrixSpec, MemoryUse, VectorId};
use crate::batch::{Batch, BatchShape, Slot};
use crate::error::{Error, Result};
use crate::kv::KvGroup;
use crate::model::plan::Plan;

/// The GPU backend.
pub struct GpuBackend {}

#[allow(missing_docs, unused_variables, reason = "being built")]
impl GpuBackend {
    pub fn matrix(&mut self, spec: &MatrixSpec) -> Result<MatrixId> {
        Err(Error::internal("being built"))
    }
    pub fn write_rows(&mut self, matrix: MatrixId, first_row: usize, blocks: &[u8]) -> Result<()> {
        Err(Error::internal("being built"))
    }
    pub fn vector(&mut self, name: &str, values: &[f32]) -> Result<VectorId> {
        Err(Error::internal("being built"))
    }
    pub fn allocate_kv(&mut self, groups: &[KvGroup]) -> Result<()> {
        Err(Error::internal("being built"))
    }
    pub fn write_slot(&mut self, slot: Slot, token: u32) -> Result<()> {
        Err(Error::internal("being built"))
    }
    pub async fn run(&mut self, plan: &Plan, batch: &Batch) -> Result<()> {
        Err(Error::internal("being built"))
    }
    pub async fn read_outputs(&mut self, out: &mut Vec<f32>) -> Result<()> {
        Err(Error::internal("being built"))
    }
    pub fn program_text(&mut self, plan: &Plan, shape: &BatchShape) -> Result<String> {
        Err(Error::internal("being built"))
    }
    pub fn memory(&self) -> MemoryUse {
        MemoryUse::default()
    }
    pub fn describe(&self) -> Description {
        Description { backend: "gpu", adapter: String::new(), rung: String::new() }
    }
}
