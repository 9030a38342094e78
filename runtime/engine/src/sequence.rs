//! One request's life: its tokens, phase and stop rules.
