//! What may be said: rules, their decision, and the gate that nothing passes unjudged.
//!
//! A text is [`normalise`]d and searched by [`rules`]; a [`classifier`], where there is one, scores it; both become a [`decision`]. [`judge`] does
//! so with whole texts, above all with what is asked, and [`gate`] with answers as they come.

pub mod classifier;
pub mod decision;
pub mod gate;
mod json;
pub mod judge;
pub mod normalise;
pub mod rules;
