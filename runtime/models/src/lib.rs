//! The small models that ship.
//!
//! Weights are GGUF files in this folder, made from nothing by the recipe in `train/`; `CARD.md` says what to expect of them.

/// A GGUF file that tells short stories for children and makes small talk, in simple English: a Llama of four million parameters
/// at Q8_0.
pub const CHAT: &[u8] = include_bytes!("../chat.gguf");

/// What messages and reports call [`CHAT`].
pub const CHAT_NAME: &str = "firecrest-chat";

/// The card of [`CHAT`]: data, size, loss and limits, in Markdown.
pub const CHAT_CARD: &str = include_str!("../CARD.md");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chat_is_a_gguf_of_at_most_six_megabytes() {
        assert_eq!(&CHAT[..4], b"GGUF");
        assert!(CHAT.len() <= 6_000_000, "{} bytes", CHAT.len());
    }
}
