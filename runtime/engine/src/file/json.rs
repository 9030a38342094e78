//! A look over JSON before it is parsed.
//!
//! The parser gathers escaped strings, and the nesting of what it skips, in a buffer that grows by doubling. Bounding both
//! beforehand keeps what it holds small beside the text itself.

use crate::error::{Error, Result};

/// The longest string: more than any name or chat template in use.
const LONGEST_STRING: usize = 128 << 10;
/// The deepest nesting.
const DEEPEST: usize = 64;

/// Refuses text with very long strings or very deep nesting. Whether it is JSON is for the parser to say.
pub(super) fn check(origin: &str, text: &[u8]) -> Result<()> {
    let refuse = |what: String, at: usize| Err(Error::malformed(format!("{origin}: {what} at byte {at}")));
    let mut depth = 0usize;
    // Where the string that is open began.
    let mut open = None;
    let mut escaped = false;
    for (at, &byte) in text.iter().enumerate() {
        match open {
            Some(start) => {
                if escaped {
                    escaped = false;
                } else if byte == b'\\' {
                    escaped = true;
                } else if byte == b'"' {
                    open = None;
                }
                if at - start > LONGEST_STRING {
                    return refuse(format!("a string longer than {LONGEST_STRING} bytes"), start);
                }
            }
            None => match byte {
                b'"' => open = Some(at),
                b'[' | b'{' => {
                    depth += 1;
                    if depth > DEEPEST {
                        return refuse(format!("nesting deeper than {DEEPEST}"), at);
                    }
                }
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            },
        }
    }
    Ok(())
}

/// The parser's complaint. It may quote what it met, however long; that is cut.
pub(super) fn wrong(origin: &str, error: &serde_json::Error) -> Error {
    const SHOWN: usize = 400;
    let mut message = error.to_string();
    if let Some((cut, _)) = message.char_indices().nth(SHOWN) {
        message.truncate(cut);
        message.push('…');
    }
    Error::malformed(format!("{origin}: {message}"))
}
