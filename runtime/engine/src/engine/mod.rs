//! The engine: submit, cancel, step.
