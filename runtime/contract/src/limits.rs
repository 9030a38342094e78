//! What lists of a request may hold, in every dialect. Each entry costs something at every token, or in every answer.

/// Texts that may end an answer. OpenAI allows 4; each costs an automaton's step a byte.
pub const STOPS: usize = 64;
/// Bytes of one of them. Each of `n` answers watches for all of them.
pub const STOP_BYTES: usize = 1024;
/// Tools. OpenAI allows 128.
pub const TOOLS: usize = 1024;
/// Tokens with a bias. OpenAI allows 300.
pub const BIASES: usize = 1024;
