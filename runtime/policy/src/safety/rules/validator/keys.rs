//! Text that was drawn, not written.

use std::collections::HashSet;

/// Letters and digits at a key's end that are looked at.
const TAIL: usize = 20;

/// Kinds of files and of units, in which no address ends.
const NO_DOMAINS: [&str; 25] = [
    "png", "jpg", "jpeg", "gif", "svg", "webp", "avif", "ico", "css", "js", "ts", "json", "html", "xml", "pdf", "txt", "mp4", "service",
    "socket", "timer", "target", "slice", "mount", "scope", "path",
];

pub(super) fn address(text: &[u8]) -> bool {
    let domain = text.rsplit(|b| *b == b'.').next().unwrap_or_default();
    !NO_DOMAINS.iter().any(|kind| kind.as_bytes() == domain)
}

pub(super) fn random(text: &[u8]) -> bool {
    let key =
        text.rsplit(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'+' | b'/' | b'.' | b'='))).find(|part| !part.is_empty());
    let key = key.unwrap_or_default();
    // `name=value` without quotes is one part so far.
    let key = key.rsplitn(2, |b| *b == b'=').find(|part| !part.is_empty()).unwrap_or_default();
    if !key.iter().any(u8::is_ascii_digit) || !key.iter().any(u8::is_ascii_alphabetic) {
        return false;
    }
    // A token is a part of a text too, and a page of a list: of that name a digest says nothing.
    if text.starts_with(b"token") && (is_digest(key) || begins_uuid(key)) {
        return false;
    }
    let mut counts = [0u32; 256];
    for byte in key {
        counts[usize::from(*byte)] += 1;
    }
    let length = key.len() as f64;
    let entropy: f64 = counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n) / length).map(|p| -p * p.log2()).sum();
    entropy >= 3.0
}

fn is_digest(key: &[u8]) -> bool {
    matches!(key.len(), 32 | 40 | 56 | 64 | 96 | 128) && key.iter().all(u8::is_ascii_hexdigit)
}

/// Whether it is a UUID, or goes on as one.
fn begins_uuid(key: &[u8]) -> bool {
    let mut lengths = [8, 4, 4, 4, 12].into_iter();
    key.contains(&b'-')
        && key
            .strip_suffix(b"-")
            .unwrap_or(key)
            .split(|b| *b == b'-')
            .all(|part| Some(part.len()) == lengths.next() && part.iter().all(u8::is_ascii_hexdigit))
}

pub(super) fn key(written: &[u8]) -> bool {
    let tail = tail(written, TAIL);
    let close = written.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/' | b'+'));
    let long = || tail.split(|b| !b.is_ascii_alphanumeric()).any(|group| group.len() >= TAIL - 2);
    let odd = close && (tail.iter().any(u8::is_ascii_digit) || rises(tail) > 2 || long());
    (odd || drawn(tail, 2)) && !is_placeholder(tail)
}

/// Words in capitals have digits beside them, not in them.
pub(super) fn capital_key(written: &[u8]) -> bool {
    let tail = tail(written, TAIL);
    tail.iter().any(u8::is_ascii_digit) && drawn(tail, 5) && !is_placeholder(tail)
}

pub(super) fn base64(written: &[u8]) -> bool {
    let tail = tail(written, TAIL);
    written.iter().rev().take(32).any(u8::is_ascii_digit) && !is_placeholder(tail)
}

/// The end of a text that holds so many letters and digits.
fn tail(text: &[u8], count: usize) -> &[u8] {
    let places = text.iter().enumerate().rev().filter(|(_, b)| b.is_ascii_alphanumeric()).map(|(at, _)| at);
    text.get(places.take(count).last().unwrap_or_default()..).unwrap_or_default()
}

/// Whether one in `part` of the letters and digits, at least, stands in groups that nobody writes as words: letters with digits, or capitals after
/// small letters more often than names of programs have them. A text that is spelled out with a gap after each character is one of these.
fn drawn(text: &[u8], part: usize) -> bool {
    let groups: Vec<&[u8]> = text.split(|b| !b.is_ascii_alphanumeric()).filter(|group| !group.is_empty()).collect();
    let spelled = groups.iter().filter(|group| group.len() == 1).count() * 4 >= groups.len() * 3 && groups.len() > 4;
    let all: usize = groups.iter().map(|group| group.len()).sum();
    let odd: usize = groups.iter().filter(|group| is_odd(group)).map(|group| group.len()).sum();
    spelled || odd * part >= all
}

fn is_odd(group: &[u8]) -> bool {
    let mixed = group.len() > 2 && group.iter().any(u8::is_ascii_digit) && group.iter().any(u8::is_ascii_alphabetic);
    mixed || (group.len() > 3 && rises(group) * 4 >= group.len())
}

/// How often a capital follows a small letter.
fn rises(text: &[u8]) -> usize {
    text.windows(2).filter(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase()).count()
}

/// Whether a key is one that stands in manuals: few characters again and again. The alphabet is no such sign: who tries the rules out writes it.
fn is_placeholder(text: &[u8]) -> bool {
    let close: Vec<u8> = text.iter().filter(|b| b.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect();
    let kinds: HashSet<u8> = close.iter().copied().collect();
    kinds.len() * 3 < close.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_or_written() {
        assert!(random(b"api_key = \"a8f5f167f44f4964e6c998dee827110c") && random(b"token=x9k2mq7vz4np8rt1"));
        assert!(!random(b"password = correct-horse-battery") && !random(b"key: 1111111111111111a") && !random(b"secret: "));
        assert!(!random(b"token: d41d8cd98f00b204e9800998ecf8427e") && random(b"access_token: d41d8cd98f00b204e9800998ecf8427e"));
        assert!(!random(b"token: 550e8400-e29b-41d4") && !random(b"token: 550e8400-e29b-41d4-a716-446655440000"));
    }

    #[test]
    fn keys_and_placeholders() {
        for text in [
            "ghp_V8kQ2mZr7TnXw4LbYc1HsJd9GfPe3AaUo6Ri",
            "ghp_V8kQ 2mZr 7TnX w4Lb Yc1H sJd9 GfPe",
            "g h p _ V 8 k Q 2 m Z r 7 T n X w 4 L b Y c",
            "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",
        ] {
            assert!(key(text.as_bytes()), "{text}");
        }
        for text in [
            "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "ghp_ and then 36 characters are drawn at random",
            "sk-ant-your-api-key-goes-here-your-api-key",
            "ghp_000000000000000000000000000000000000",
        ] {
            assert!(!key(text.as_bytes()), "{text}");
        }
        assert!(
            capital_key(b"AKIAQ3EGRTZL5WXH2KMV")
                && capital_key(b"AKIA Q3EG RTZL 5WXH 2KMV")
                && key(b"a k i a q 3 e g r t z l 5 w x h 2 k m v")
        );
        assert!(
            !capital_key(b"ASIA 25 COUNTRIES JOIN")
                && !key(b"asia 2 million people")
                && !capital_key(b"SOUTHEASTASIAINTERNATIONAL")
                && !key(b"AKIAXXXXXXXXXXXXXXXX")
        );
        assert!(
            base64(b"MIIEowIBAAKCAQEAu1SU1LfVLPHCozMx")
                && !base64(b"parsePrivateKeyFromTheServersAns")
                && !base64(b"00000000000000000000000000000000")
        );
    }
}
