//! What the values of a JSON text take in memory, bounded before any of them is made.
//!
//! A text of small values takes a hundred times its bytes once it is read: `{"":0},` is 7 bytes, and its map, its key and its slot in a list are 900. So
//! what they will take is told from the text's structure alone, in one pass that allocates nothing.

use crate::error::{ApiError, ErrorKind};

/// Bytes that values of one body may take in memory, beside their texts: an object for each of 100,000 messages.
const MOST: usize = 128 << 20;

/// Bytes of texts that are read without a look at their structure: even the smallest values of so many take little.
const SMALL: usize = 64 << 10;

/// About the bytes that each takes, with what a list or a map keeps in reserve, and what a union takes that reads a value twice.
const ITEM: usize = 160;
const MEMBER: usize = 160;
const OBJECT: usize = 512;

/// The values of one body. Texts within it that are JSON too count with it.
#[derive(Clone, Debug)]
pub struct Values {
    left: usize,
    /// Bytes that may still be read without a look.
    unseen: usize,
}

impl Default for Values {
    fn default() -> Values {
        Values { left: MOST, unseen: SMALL }
    }
}

impl Values {
    /// Counts the values of a JSON text, which need not be right.
    ///
    /// # Errors
    /// `invalid_request_error` for more of them than there is room for.
    pub fn take(&mut self, json: &[u8]) -> Result<(), ApiError> {
        if let Some(unseen) = self.unseen.checked_sub(json.len()) {
            self.unseen = unseen;
            return Ok(());
        }
        let takes = memory(json);
        match self.left.checked_sub(takes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                let message =
                    "the body has too many values, which would take a hundred times its size in memory; send fewer, or longer ones";
                Err(ApiError::new(ErrorKind::InvalidRequest, message))
            }
        }
    }
}

/// About the bytes that the values of a text take in memory.
fn memory(json: &[u8]) -> usize {
    let (mut takes, mut at) = (0_usize, 0);
    while let Some(byte) = json.get(at) {
        at += 1;
        takes += match byte {
            b'"' => {
                at = end_of_string(json, at);
                continue;
            }
            b',' | b'[' => ITEM,
            b':' => MEMBER,
            b'{' => OBJECT,
            _ => continue,
        };
    }
    takes
}

/// Behind the string that goes on here.
fn end_of_string(json: &[u8], mut at: usize) -> usize {
    while let Some(byte) = json.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_values_take_is_told_from_their_structure() {
        assert_eq!(memory(b""), 0);
        assert_eq!(memory(br#"{"a": [1, 2]}"#), OBJECT + MEMBER + 2 * ITEM);
        assert_eq!(memory(br#""{[,:\\\"{[,:""#), 0, "what stands in a string is none");
        assert_eq!(memory(br#""\\",["#), 2 * ITEM);
        // What is no JSON is read to its end all the same.
        for broken in [&b"\"abc"[..], b"\"abc\\", b"\"abc\\\"", b"}}]]"] {
            assert_eq!(memory(broken), 0);
        }
    }

    #[test]
    fn all_texts_of_a_body_have_one_budget() {
        let mut values = Values::default();
        let objects = |count: usize| format!("[{}]", vec![r#"{"":0}"#; count].join(","));
        let third = objects(MOST / (OBJECT + MEMBER + ITEM) / 3 - 10);
        for _ in 0..3 {
            values.take(third.as_bytes()).expect("room");
        }
        assert!(values.take(third.as_bytes()).expect_err("none").message.contains("too many values"));
        // Many small texts are as much as a large one.
        let mut values = Values::default();
        let small = objects(1000);
        let taken = (0..1000).take_while(|_| values.take(small.as_bytes()).is_ok()).count();
        assert!((100..300).contains(&taken), "{taken}");
        // A long text is one value.
        values.take(format!("\"{}\"", "[{,:".repeat(1 << 20)).as_bytes()).expect("room");
    }
}
