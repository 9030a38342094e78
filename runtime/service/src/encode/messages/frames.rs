//! Server-sent events, byte by byte.

use serde::Serialize;

/// What a byte of a JSON string becomes: 0 itself, `u` an escape by number, [`WIDE`] perhaps the beginning of a line break, else `\` and this.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[b'\t' as usize] = b't';
    table[0x08] = b'b';
    table[0x0c] = b'f';
    table[0xc2] = WIDE;
    table[0xe2] = WIDE;
    table
};
const WIDE: u8 = 1;

/// Characters that some readers of lines, though not those of the standard, take for a line's end: U+0085, U+2028, U+2029.
const BREAKS: [(&[u8], &[u8]); 3] = [(b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029")];

/// Writes a text as it stands between the quotes of a JSON string, in one line whoever splits it.
pub(super) fn escape(text: &str, out: &mut Vec<u8>) {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    let mut rest = text.as_bytes();
    out.reserve(rest.len());
    while let Some(at) = rest.iter().position(|byte| ESCAPES[usize::from(*byte)] != 0) {
        let (clean, special) = rest.split_at(at);
        out.extend_from_slice(clean);
        let Some((&byte, behind)) = special.split_first() else { return };
        rest = behind;
        match ESCAPES[usize::from(byte)] {
            b'u' => out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
            WIDE => match BREAKS.iter().find(|(bytes, _)| special.starts_with(bytes)) {
                Some((bytes, escape)) => {
                    out.extend_from_slice(escape);
                    rest = special.get(bytes.len()..).unwrap_or_default();
                }
                None => out.push(byte),
            },
            short => out.extend_from_slice(&[b'\\', short]),
        }
    }
    out.extend_from_slice(rest);
}

/// Writes an event of this name around its data.
pub(super) fn frame(name: &str, out: &mut Vec<u8>, data: impl FnOnce(&mut Vec<u8>)) {
    begin(name, out);
    data(out);
    out.extend_from_slice(b"\n\n");
}

/// The first line of an event, and of the second what stands before its data.
pub(super) fn begin(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
}

/// Writes a value, in one line whoever splits it. For what is said once in a while: a copy is made.
pub(super) fn value(value: &impl Serialize, out: &mut Vec<u8>) {
    // Types of the contract always have a JSON form: their keys are strings, and they hold no numbers but whole ones and JSON's own.
    let Ok(text) = serde_json::to_vec(value) else { return out.extend_from_slice(b"null") };
    let mut rest = text.as_slice();
    // Beyond ASCII there is nothing in JSON but the insides of strings: there, and only there, these bytes can stand.
    while let Some(at) = rest.iter().position(|byte| ESCAPES[usize::from(*byte)] == WIDE) {
        let (clean, special) = rest.split_at(at);
        out.extend_from_slice(clean);
        let (written, read) = match BREAKS.iter().find(|(bytes, _)| special.starts_with(bytes)) {
            Some((bytes, escape)) => (*escape, bytes.len()),
            None => (special.get(..1).unwrap_or_default(), 1),
        };
        out.extend_from_slice(written);
        rest = special.get(read..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn line_breaks_of_every_reader_are_escaped() {
        let mut out = Vec::new();
        escape("a\u{85}b\u{2028}c\u{2029}d\u{2027}\u{a9}\n\r\u{0b}\u{0c}\"\\\u{1}", &mut out);
        assert_eq!(String::from_utf8_lossy(&out), "a\\u0085b\\u2028c\\u2029d\u{2027}\u{a9}\\n\\r\\u000b\\f\\\"\\\\\\u0001");
        let mut out = Vec::new();
        value(&"a\u{85}b\u{2028}c\u{2029}d\u{2027}\u{a9}", &mut out);
        assert_eq!(String::from_utf8_lossy(&out), "\"a\\u0085b\\u2028c\\u2029d\u{2027}\u{a9}\"");
    }

    proptest! {
        #[test]
        fn both_ways_of_writing_mean_the_same(text in "(\\PC|[\u{0}-\u{20}\u{7f}-\u{a0}\u{2020}-\u{2030}\"\\\\])*") {
            let mut out = vec![b'"'];
            escape(&text, &mut out);
            out.push(b'"');
            prop_assert_eq!(serde_json::from_slice::<String>(&out).ok(), Some(text.clone()));
            let mut out = Vec::new();
            value(&text, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).ok(), Some(text));
        }
    }
}
