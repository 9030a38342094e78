//! Arguments of a call that was cut short.

use serde_json::Value;

/// The value of a JSON text, or of as much of it as came: what is incomplete at its end is left out and open brackets are closed, as clients do
/// that read a stream. `None` for what no text could go on from to be JSON.
pub(super) fn complete(text: &str) -> Option<Value> {
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    let (kept, closers) = cut(text.as_bytes());
    let mut closed = text.get(..kept)?.to_owned();
    closed.extend(closers.iter().rev().map(|closer| char::from(*closer)));
    serde_json::from_str(&closed).ok()
}

/// How long the longest beginning is that only needs closing, and what closes it, outermost first. Whether it is JSON is for a parser to say.
fn cut(text: &[u8]) -> (usize, Vec<u8>) {
    let mut open = Vec::new();
    let mut kept = 0;
    let mut kept_open = 0;
    // Whether a string here is a member's name.
    let mut naming = false;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        let whole = match byte {
            b'{' | b'[' => {
                open.push(if byte == b'{' { b'}' } else { b']' });
                naming = byte == b'{';
                true
            }
            b'}' | b']' => {
                if open.pop() != Some(byte) {
                    return (text.len(), Vec::new());
                }
                true
            }
            b',' => {
                naming = open.last() == Some(&b'}');
                false
            }
            b':' => {
                naming = false;
                false
            }
            b'"' => {
                let Some(length) = string(text.get(at..).unwrap_or_default()) else { break };
                at += length;
                !naming
            }
            b' ' | b'\t' | b'\n' | b'\r' => false,
            _ => {
                let rest = text.get(at..).unwrap_or_default();
                let word = rest.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.'));
                let end = at + word.unwrap_or(rest.len());
                let name = text.get(at - 1..end).unwrap_or_default();
                at = end;
                // A number at the very end may have more digits to come; a name may not have more letters.
                word.is_some() || matches!(name, b"true" | b"false" | b"null")
            }
        };
        if whole {
            (kept, kept_open) = (at, open.len());
        }
    }
    open.truncate(kept_open);
    (kept, open)
}

/// How long the rest of a string is, its closing quote included.
fn string(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    let end = text.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    })?;
    Some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_is_incomplete_is_left_out() {
        let cases = [
            (r#"{"a": "x"#, json!({})),
            (r#"{"a""#, json!({})),
            (r#"{"a":"b","c":tru"#, json!({ "a": "b" })),
            (r#"{"a":"b","c":true"#, json!({ "a": "b", "c": true })),
            ("[1, 2", json!([1])),
            ("[1, 2 ", json!([1, 2])),
            ("[1e", json!([])),
            (r#"{"a":[{"b":"\"}"},["#, json!({ "a": [{ "b": "\"}" }, []] })),
            (r#"{"a":[{"b":1},"#, json!({ "a": [{ "b": 1 }] })),
            ("{", json!({})),
        ];
        for (text, value) in cases {
            assert_eq!(complete(text), Some(value), "{text}");
        }
        for text in ["]", "{]", "x", r#"{"a" 3}"#, "[1 2 ", "", "{\"a\": nulx, "] {
            assert_eq!(complete(text), None, "{text}");
        }
        assert_eq!(complete(&"[".repeat(100_000)), None);
    }

    proptest! {
        #[test]
        fn every_beginning_of_an_object_is_one(text in "[a-z\"\\\\{}0-9é]{0,8}", number in any::<f64>(), at in 0..200_usize) {
            let whole = json!({ "a": { "text": text, "n": number }, "b": [text, null, true, [{}], number], "c": {} }).to_string();
            let at = (0..=at.min(whole.len()).max(1)).rev().find(|at| whole.is_char_boundary(*at)).unwrap_or(0).max(1);
            prop_assert!(complete(&whole[..at]).is_some_and(|value| value.is_object()), "{}", &whole[..at]);
        }
    }
}
