//! The native face: library facade.
