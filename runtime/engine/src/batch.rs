//! What one step runs: flat rows of (sequence, position, token or slot) over pages of the KV cache.
//!
//! A batch mixes prefill chunks with decode rows of many sequences. Rows of the *prompt* class come first, then rows of
//! the *generated* class; within a class a sequence's rows are adjacent and their positions ascend by one. A row's
//! arithmetic depends on its class and its own sequence only, never on what shares the batch.

use std::sync::Arc;

use firecrest_shaders::params::RING;

use crate::backend::AdapterId;
use crate::kv::PageId;
use crate::sampling::Sampling;

/// Steps that may be in flight at most. A slot keeps the tokens of more positions than that.
pub const MOST_IN_FLIGHT: u32 = 4;

const _: () = assert!(MOST_IN_FLIGHT < RING, "a token is read from its slot until its step is");

/// Where a backend keeps the tokens that it drew last for a sequence, so that a step can be issued before they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// The token a row feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowToken {
    /// An id the host knows.
    Known(u32),
    /// What was drawn for the row's position and lies in this slot.
    Slot(Slot),
}

/// The numeric class of a position: which kernel family, hence which order of arithmetic, computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// The many-rows family.
    Prompt,
    /// The 1–8-row family, looped for more rows.
    Generated,
}

/// One row of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Index into [`Batch::sequences`].
    pub sequence: u32,
    /// Absolute position in the sequence, from 0.
    pub position: u32,
    /// What is embedded.
    pub token: RowToken,
    /// Which kernel family computes it.
    pub class: Class,
    /// Segment id (BERT's token type); 0 elsewhere.
    pub segment: u32,
}

/// What a step knows of one sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceView {
    /// Positions in the cache once this step has written its rows.
    pub length: u32,
    /// Per KV group: page of each block of [`crate::kv::PAGE_LEN`] positions. [`PageId::NONE`] where a window group has let go.
    pub tables: Vec<Vec<PageId>>,
    /// The LoRA adapter its rows are computed with.
    pub adapter: Option<AdapterId>,
}

/// A token to be drawn from a row of logits where the backend draws ([`crate::backend::Backend::draws_tokens`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Draw {
    /// Index into [`Batch::outputs`]. A row is drawn from once: drawing uses it up.
    pub output: u32,
    /// Where the token goes, for a row at the next position to feed.
    pub slot: Slot,
    /// How it is drawn.
    pub sampling: Arc<Sampling>,
    /// Tokens that count as occurrences for penalties, each once, and how often. Empty where nothing is penalised.
    pub occurrences: Vec<(u32, u32)>,
    /// How many of the last positions, the row's own among them, count as well but hold tokens that only the slot knows.
    pub in_flight: u32,
    /// Tokens that may not be drawn, whatever else is said.
    pub refused: Vec<u32>,
    /// It is not drawn with the step but by [`crate::backend::Backend::draw`], once it is known which tokens are allowed.
    pub waits: bool,
}

/// One step's rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Prompt rows first, then generated rows.
    pub rows: Vec<Row>,
    /// The sequences that rows name.
    pub sequences: Vec<SequenceView>,
    /// Rows whose logits (or pooled state) are wanted, ascending indices into [`Batch::rows`].
    pub outputs: Vec<u32>,
    /// Tokens to draw. Those that wait come last.
    pub draws: Vec<Draw>,
    /// Which outputs are read back as they are, before anything is drawn: indices into [`Batch::outputs`]. `None` is all.
    pub values: Option<Vec<u32>>,
}

/// What a program is lowered and cached for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BatchShape {
    /// Rows of the prompt class.
    pub prompt_rows: u32,
    /// Rows of the generated class.
    pub generated_rows: u32,
    /// Rows with outputs.
    pub outputs: u32,
    /// Sequences.
    pub sequences: u32,
    /// The longest sequence after this step, in positions.
    pub longest: u32,
    /// Whether any sequence has an adapter: a step without is the same program as where none is held.
    pub adapted: bool,
}

impl Batch {
    /// How many outputs are read back as they are.
    pub fn values_len(&self) -> usize {
        self.values.as_ref().map_or(self.outputs.len(), Vec::len)
    }

    /// The shape programs are lowered for.
    pub fn shape(&self) -> BatchShape {
        let prompt_rows = self.rows.iter().take_while(|r| r.class == Class::Prompt).count() as u32;
        BatchShape {
            prompt_rows,
            generated_rows: self.rows.len() as u32 - prompt_rows,
            outputs: self.outputs.len() as u32,
            sequences: self.sequences.len() as u32,
            longest: self.sequences.iter().map(|s| s.length).max().unwrap_or(0),
            adapted: self.sequences.iter().any(|s| s.adapter.is_some()),
        }
    }
}
