//! GGML types: what blocks mean, bit for bit.
