//! One request's life: its tokens, phase and stop rules.

/// Names a sequence. Ids rise with the order of submission and are never used twice by one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);
