//! Pure decisions: time, state and randomness are arguments, and nothing here waits, reads or writes.
//!
//! [`limits`] says whether a caller may go on, [`lanes`] who goes first, [`breaker`] whether an upstream is worth asking, [`routing`] which backend
//! serves, and [`safety`] what may be said.

pub mod breaker;
pub mod lanes;
pub mod limits;
pub mod routing;
pub mod safety;
