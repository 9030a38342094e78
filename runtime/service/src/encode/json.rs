//! JSON written straight into bytes: texts are escaped where they are written, and no value is built.

use std::io::Write;

use firecrest_contract::event::{TokenLogprob, TokenText};

/// What a byte of a text becomes between the quotes of a JSON string: 0 itself, [`NUMBER`] an escape by number, [`WIDE`] perhaps the
/// beginning of a
/// line break beyond ASCII, else `\` and this.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = NUMBER;
        byte += 1;
    }
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[b'\t' as usize] = b't';
    table[0xc2] = WIDE;
    table[0xe2] = WIDE;
    table
};
const NUMBER: u8 = 1;
const WIDE: u8 = 2;

/// Line breaks beyond ASCII: U+0085, U+2028, U+2029. Readers that split text by every line break there is (Python's `splitlines`) would cut
/// a frame there.
const BREAKS: [(&[u8], &[u8]); 3] = [(b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029")];

/// Writes a text as it stands between the quotes of a JSON string.
pub(super) fn escape(text: &str, out: &mut Vec<u8>) {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    let mut rest = text.as_bytes();
    out.reserve(rest.len());
    while let Some(at) = rest.iter().position(|byte| ESCAPES[usize::from(*byte)] != 0) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&byte, behind)) = special.split_first() else { return };
        rest = behind;
        match ESCAPES[usize::from(byte)] {
            NUMBER => out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
            WIDE => match BREAKS.iter().find(|(bytes, _)| special.starts_with(bytes)) {
                Some((bytes, escaped)) => {
                    out.extend_from_slice(escaped);
                    rest = special.get(bytes.len()..).unwrap_or_default();
                }
                None => out.push(byte),
            },
            short => out.extend_from_slice(&[b'\\', short]),
        }
    }
    out.extend_from_slice(rest);
}

/// Writes a text as a JSON string.
pub(super) fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape(text, out);
    out.push(b'"');
}

/// Writes a whole number.
pub(super) fn integer(number: u64, out: &mut Vec<u8>) {
    // Into memory nothing fails.
    let _ = write!(out, "{number}");
}

/// What stands for a logarithm of probability that has no number: of what can't be drawn.
pub(super) const NEVER: f32 = -9999.0;

/// A logarithm of probability as it can be told: finite.
pub(super) fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { NEVER }
}

/// The same number with as few digits as name it: 32-bit 0.1 is told as 0.1.
pub(super) fn short(number: f32) -> f64 {
    let number = finite(number);
    format!("{number:?}").parse().unwrap_or_else(|_| f64::from(number))
}

/// Writes a logarithm of probability, so that reading it gives the same 32-bit number.
pub(super) fn logprob(number: f32, out: &mut Vec<u8>) {
    // `Debug` always has a point or an exponent: what is a float stays one.
    let _ = write!(out, "{:?}", finite(number));
}

fn token(token: &TokenText, logprob_of: f32, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"token\":");
    string(&String::from_utf8_lossy(&token.0), out);
    out.extend_from_slice(b",\"logprob\":");
    logprob(logprob_of, out);
    out.extend_from_slice(b",\"bytes\":[");
    for (index, byte) in token.0.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        integer(u64::from(*byte), out);
    }
    out.push(b']');
}

/// Writes tokens as members of an array, without its brackets.
pub(super) fn logprobs(list: &[TokenLogprob], out: &mut Vec<u8>) {
    for (index, of) in list.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        token(&of.token, of.logprob, out);
        out.extend_from_slice(b",\"top_logprobs\":[");
        for (index, (top, logprob)) in of.top.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            token(top, *logprob, out);
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_reader_sees_a_line_break() {
        let mut out = Vec::new();
        string("a\u{85}b\u{2028}c\u{2029}d\u{2027}\u{a9}\n\r\t\u{0b}\u{0c}\u{1c}\"\\\u{7f}", &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "\"a\\u0085b\\u2028c\\u2029d\u{2027}\u{a9}\\n\\r\\t\\u000b\\u000c\\u001c\\\"\\\\\u{7f}\""
        );
    }

    #[test]
    fn what_can_never_be_drawn() {
        let mut out = Vec::new();
        logprobs(
            &[TokenLogprob { token: TokenText(vec![0xff, b'a']), logprob: f32::NEG_INFINITY, top: vec![(TokenText(Vec::new()), -0.5)] }],
            &mut out,
        );
        assert_eq!(
            String::from_utf8_lossy(&out),
            "{\"token\":\"\u{fffd}a\",\"logprob\":-9999.0,\"bytes\":[255,97],\"top_logprobs\":[{\"token\":\"\",\"logprob\":-0.5,\"bytes\":[]}]}"
        );
    }

    proptest! {
        #[test]
        fn texts_are_read_as_they_were(text in "(\\PC|[\u{0}-\u{20}\u{7f}-\u{a0}\u{2020}-\u{2030}\"\\\\])*") {
            let mut out = Vec::new();
            string(&text, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).ok(), Some(text));
        }

        #[test]
        fn numbers_are_read_as_they_were(number in any::<f32>()) {
            let mut out = Vec::new();
            logprob(number, &mut out);
            prop_assert_eq!(serde_json::from_slice::<f32>(&out).ok(), Some(finite(number)));
        }
    }
}
