//! The vocabulary: what each id is called, what kind of token it is, and which bytes it stands for.

use crate::error::{Error, Result};

/// What kind of token an id is (GGUF's `tokenizer.ggml.token_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    Normal,
    /// Stands for what the vocabulary cannot write.
    Unknown,
    /// Steers the model and is not text (`<s>`, `<|im_end|>`).
    Control,
    /// Text that is always one token, found before anything else is.
    UserDefined,
    /// A hole in the vocabulary.
    Unused,
    /// One byte.
    Byte,
}

impl TokenKind {
    /// The kind that a GGUF file writes as `id`; what it does not define is a hole.
    pub(super) fn from_gguf(id: i32) -> TokenKind {
        match id {
            1 => TokenKind::Normal,
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            6 => TokenKind::Byte,
            _ => TokenKind::Unused,
        }
    }
}

/// How a token's name is turned into the bytes it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Each character is a byte, in GPT-2's alphabet.
    ByteLevel,
    /// "▁" is a space and `<0xNN>` a byte (SentencePiece).
    Escaped,
    /// "##" continues a word, anything else begins one (WordPiece).
    Words,
    /// The name is the text.
    Plain,
}

/// Byte strings end to end in one allocation: a vocabulary of 262,144 tokens is two allocations, not half a million.
#[derive(Debug, Default)]
struct Strings {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Strings {
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        let end = u32::try_from(self.bytes.len()).map_err(|_| Error::malformed("the vocabulary holds more than 4 GiB of text"))?;
        self.ends.push(end);
        Ok(())
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        Some(&self.bytes[start..end])
    }
}

/// Every token by id.
#[derive(Debug)]
pub(super) struct Vocabulary {
    names: Strings,
    pieces: Strings,
    kinds: Vec<TokenKind>,
    /// One space at the very start of a text is the tokeniser's own and not the text's.
    pub(super) strip_first_space: bool,
}

impl Vocabulary {
    pub(super) fn new(strip_first_space: bool) -> Vocabulary {
        Vocabulary { names: Strings::default(), pieces: Strings::default(), kinds: Vec::new(), strip_first_space }
    }

    /// Adds the next id.
    pub(super) fn push(&mut self, name: &str, kind: TokenKind, spelling: Spelling) -> Result<()> {
        self.names.push(name.as_bytes())?;
        self.pieces.push(&piece(name, kind, spelling))?;
        self.kinds.push(kind);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    pub(super) fn name(&self, id: u32) -> Option<&str> {
        // Names are pushed as whole strings.
        self.names.get(id as usize).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The bytes of the text that `id` stands for; they need not be whole characters.
    pub(super) fn piece(&self, id: u32) -> Option<&[u8]> {
        self.pieces.get(id as usize)
    }

    /// Bytes of the longest text that one token stands for.
    pub(super) fn longest_piece(&self) -> usize {
        (0..self.len() as u32).filter_map(|id| Some(self.piece(id)?.len())).max().unwrap_or(0)
    }

    pub(super) fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    pub(super) fn set_kind(&mut self, id: u32, kind: TokenKind) {
        if let Some(slot) = self.kinds.get_mut(id as usize) {
            *slot = kind;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str, TokenKind)> {
        (0..self.len() as u32).filter_map(|id| Some((id, self.name(id)?, self.kind(id)?)))
    }
}

fn piece(name: &str, kind: TokenKind, spelling: Spelling) -> Vec<u8> {
    match kind {
        TokenKind::Unused => return Vec::new(),
        TokenKind::Control | TokenKind::Unknown => return name.as_bytes().to_vec(),
        TokenKind::UserDefined if spelling != Spelling::Words => return name.as_bytes().to_vec(),
        TokenKind::Byte => {
            if let Some(byte) = byte_of(name) {
                return vec![byte];
            }
        }
        TokenKind::Normal | TokenKind::UserDefined => {}
    }
    match spelling {
        Spelling::ByteLevel => {
            // A name with a character outside the alphabet was never made of bytes: it is text.
            let bytes: Option<Vec<u8>> = name.chars().map(byte_of_char).collect();
            bytes.unwrap_or_else(|| name.as_bytes().to_vec())
        }
        Spelling::Escaped => name.replace('▁', " ").into_bytes(),
        Spelling::Words => match name.strip_prefix("##") {
            Some(rest) => rest.as_bytes().to_vec(),
            None => format!(" {name}").into_bytes(),
        },
        Spelling::Plain => name.as_bytes().to_vec(),
    }
}

/// The byte that a name like `<0x0A>` stands for.
pub(super) fn byte_of(name: &str) -> Option<u8> {
    let digits = name.strip_prefix("<0x")?.strip_suffix('>')?;
    let hexadecimal = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    hexadecimal.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// The character that GPT-2's byte alphabet writes for `byte`: itself where it is printable Latin-1, else one from U+0100 on, in
/// the order of the bytes left over.
pub(super) fn char_of_byte(byte: u8) -> char {
    let code = match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => u32::from(byte),
        0x00..=0x20 => 0x100 + u32::from(byte),
        0x7F..=0xA0 => 0x121 + u32::from(byte) - 0x7F,
        0xAD => 0x143,
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn byte_of_char(c: char) -> Option<u8> {
    let code = u32::from(c);
    let byte = match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_alphabet_is_a_bijection() {
        let all: Vec<char> = (0..=255).map(char_of_byte).collect();
        let mut distinct = all.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 256);
        assert!((0..=255).all(|b| byte_of_char(all[b as usize]) == Some(b)));
        // The names everyone knows.
        assert_eq!(char_of_byte(b' '), 'Ġ');
        assert_eq!(char_of_byte(b'\n'), 'Ċ');
    }

    #[test]
    fn bytes_have_names() {
        assert_eq!(byte_of("<0x0A>"), Some(10));
        assert_eq!(byte_of("<0xff>"), Some(255));
        assert_eq!(byte_of("<0x+1>"), None);
        assert_eq!(byte_of("<0x00A>"), None);
    }
}
