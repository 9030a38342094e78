//! Whole models: every family in every format against llama.cpp and the float64 reference, on whatever backend is present.

#[path = "models/oracle.rs"]
mod oracle;
#[path = "models/refusals.rs"]
mod refusals;
#[path = "models/stories.rs"]
mod stories;
#[path = "models/tiny.rs"]
mod tiny;
