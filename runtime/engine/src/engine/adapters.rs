//! LoRA adapters that an engine holds: loaded beside the model, chosen by each request.

use super::Engine;
use crate::backend::AdapterId;
use crate::error::{Error, ErrorCode, Result};
use crate::file::AdapterFile;

/// What an engine says of an adapter that it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterInfo {
    /// What requests call it.
    pub id: AdapterId,
    /// The name of its first file.
    pub name: String,
    /// What its deltas are multiplied by, beside its own scale.
    pub strength: f32,
    /// Matrices that it adapts.
    pub adapted: usize,
    /// The largest rank among them.
    pub rank: usize,
    /// Bytes of its values, as f32; a backend may pad them.
    pub bytes: u64,
}

/// The adapters held, and the next id: none is used twice, so that no prefix of one is ever taken for another's.
#[derive(Debug, Default)]
pub(super) struct Adapters {
    held: Vec<AdapterInfo>,
    next: u32,
}

impl Adapters {
    /// Refuses an adapter that is not held.
    pub(super) fn check(&self, adapter: Option<AdapterId>) -> Result<()> {
        match adapter.filter(|id| self.held.iter().all(|held| held.id != *id)) {
            None => Ok(()),
            Some(id) => {
                Err(Error::new(ErrorCode::UnknownAdapter, format!("no adapter with the id {} is loaded (Engine::load_adapter)", id.0)))
            }
        }
    }
}

impl Engine {
    /// Loads a LoRA adapter beside the model, for requests to name ([`super::Request::adapter`]). Its deltas are multiplied by `strength`
    /// (1: as it was trained). Any number may be held, and loaded while sequences run.
    ///
    /// # Errors
    /// An adapter that does not fit the model, damaged values, or a backend without the memory: by the name of the tensor. Nothing has changed
    /// then.
    pub async fn load_adapter(&mut self, file: &AdapterFile, strength: f32) -> Result<AdapterId> {
        let weights = self.model.read_adapter(file, strength).await?;
        let id = AdapterId(self.adapters.next);
        let next = id.0.checked_add(1).ok_or_else(|| Error::internal("every adapter id was used"))?;
        // Used up whatever comes of it: a future that is dropped may have left it with the backend.
        self.adapters.next = next;
        self.backend.load_adapter(id, &weights).await?;
        let info = AdapterInfo {
            id,
            name: weights.name.clone(),
            strength,
            adapted: weights.parts.len(),
            rank: file.ranks().1,
            bytes: weights.bytes(),
        };
        self.adapters.held.push(info);
        Ok(id)
    }

    /// Lets go of an adapter. Its id is never used again.
    ///
    /// # Errors
    /// An adapter that is not loaded, or one that requests under way were made with: let them end, or cancel them.
    pub fn unload_adapter(&mut self, id: AdapterId) -> Result<()> {
        self.adapters.check(Some(id))?;
        let users = self.schedule.users(id);
        if users > 0 {
            return Err(Error::request(format!("the adapter {} computes {users} requests that have not ended; cancel them first", id.0)));
        }
        self.backend.unload_adapter(id)?;
        self.adapters.held.retain(|held| held.id != id);
        Ok(())
    }

    /// The adapters held, in the order they were loaded.
    pub fn adapters(&self) -> &[AdapterInfo] {
        &self.adapters.held
    }
}
