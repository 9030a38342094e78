//! What may be said: rules, their decision, and the gate that nothing passes unjudged.

pub mod gate;
pub mod normalise;
