//! Damage to bytes: what broken disks, cut downloads and hostile authors do.

use firecrest_tests::random::Random;

/// Numbers at which parsers go wrong.
const EDGES: [u64; 16] =
    [0, 1, 2, 3, 0x7f, 0xff, 0x7fff, 0xffff, 1 << 20, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 32, i64::MAX as u64, 1 << 63, u64::MAX];

/// Damages `bytes` once, mostly within the first `head` of them.
pub(crate) fn damage(bytes: &mut Vec<u8>, head: usize, random: &mut Random) {
    if bytes.is_empty() {
        bytes.push(random.bits() as u8);
        return;
    }
    let bound = if random.one_in(8) { bytes.len() } else { head.clamp(1, bytes.len()) };
    let at = random.below(bound);
    match random.below(8) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.bits() as u8,
        2 => bytes.truncate(at),
        3 => number(bytes, at, 4, random),
        4 => number(bytes, at, 8, random),
        5 => {
            let count = 1 + random.below(16.min(bytes.len() - at));
            bytes.drain(at..at + count);
        }
        6 => {
            let count = 1 + random.below(32.min(bytes.len() - at));
            let again = bytes[at..at + count].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, again);
        }
        _ => {
            let count = 1 + random.below(32.min(bytes.len() - at));
            let from = random.below(bytes.len() - count + 1);
            bytes.copy_within(from..from + count, at);
        }
    }
}

/// Overwrites a little-endian number, by an edge or by a step from what stood there.
fn number(bytes: &mut [u8], at: usize, width: usize, random: &mut Random) {
    let width = width.min(bytes.len() - at);
    let field = &mut bytes[at..at + width];
    let mut old = [0; 8];
    old[..width].copy_from_slice(field);
    let old = u64::from_le_bytes(old);
    let new = match random.below(4) {
        0 => old.wrapping_add(1),
        1 => old.wrapping_sub(1),
        _ => random.pick(&EDGES).wrapping_sub(random.below(2) as u64),
    };
    field.copy_from_slice(&new.to_le_bytes()[..width]);
}

/// Damages text between 0 and 4 times by exchanging, dropping, doubling or inserting what JSON is made of.
pub(crate) fn damage_json(text: &mut String, random: &mut Random) {
    const PIECES: [&str; 32] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "null",
        "true",
        "-1",
        "0",
        "1",
        "1e999",
        "4294967296",
        "18446744073709551616",
        "0.5",
        "\"\"",
        "[]",
        "{}",
        "[[[[",
        "{\"a\":",
        "\"\\u0000\"",
        "\"\\ud800\"",
        " ",
        "NaN",
        "\"F16\"",
        "\"shape\":[",
        "-0",
        "1e-40",
        "é",
        "3.5e38",
    ];
    for _ in 0..random.below(5) {
        let places: Vec<usize> = (0..=text.len()).filter(|&i| text.is_char_boundary(i)).collect();
        let at = *random.pick(&places);
        // A run of digits or letters is one piece, and so is every other character.
        let word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let rest = &text[at..];
        let piece = rest.find(|c| !word(c)).unwrap_or(rest.len()).max(rest.chars().next().map_or(0, char::len_utf8));
        match random.below(5) {
            0 => text.replace_range(at..at + piece, random.pick::<&str>(&PIECES)),
            1 => text.replace_range(at..at + piece, ""),
            2 => {
                let again = text[at..at + piece].to_owned();
                text.insert_str(at, &again);
            }
            3 => text.insert_str(at, random.pick::<&str>(&PIECES)),
            _ => {
                let again = text[at..].chars().take(random.below(64)).collect::<String>();
                text.insert_str(*random.pick(&places), &again);
            }
        }
    }
}
