//! Picking the next token.
