//! Text to token ids and back, and chat templates.
//!
//! One tokenizer everywhere: models, normalisers and decoders are those of the `tokenizers` crate, on every target with the same
//! regular expressions. A vocabulary comes from GGUF metadata ([`Tokenizer::from_gguf`]) or from `tokenizer.json`
//! ([`Tokenizer::from_json`]); both end in one [`Tokenizer`].

mod bpe;
mod end_of_generation;
mod gguf;
mod hugging_face;
mod infill;
mod pre_tokenizer;
mod regex;
mod special;
mod stream;
mod template;
mod tokenizer;
mod vocabulary;
mod word_piece;

pub use infill::Infill;
pub use pre_tokenizer::names as pre_tokenizer_names;
pub use stream::TextStream;
pub use template::{ChatTemplate, TemplateLimits, WallTime, raised};
pub use tokenizer::{EncodeOptions, Tokenizer};
pub use vocabulary::TokenKind;
