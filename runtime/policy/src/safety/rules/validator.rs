//! What a pattern cannot say of its match.

use serde::Deserialize;

use crate::safety::normalise::normalised;

/// A check of a match's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Validator {
    /// The digits have Luhn's check digit (ISO/IEC 7812-1), and are not all the same.
    Luhn,
    /// An IBAN's check digits (ISO 13616: 97 divides what is left, less one).
    Iban,
    /// What the match ends with looks drawn, not written: letters and digits, of at least three bits each by their own frequencies.
    Random,
}

/// All that is asked of a pattern's match.
#[derive(Clone, Debug, Default)]
pub(super) struct Check {
    validator: Option<Validator>,
    /// Normalised texts that it must not contain.
    except: Vec<String>,
}

impl Check {
    pub(super) fn new(validator: Option<Validator>, except: &[String]) -> Check {
        Check { validator, except: except.iter().map(|text| normalised(text)).filter(|text| !text.is_empty()).collect() }
    }

    /// Whether a match stands; `text` gives its normalised text.
    pub(super) fn accepts(&self, text: impl FnOnce() -> Vec<u8>) -> bool {
        if self.validator.is_none() && self.except.is_empty() {
            return true;
        }
        let text = text();
        let excepted = |except: &String| text.windows(except.len()).any(|part| part == except.as_bytes());
        !self.except.iter().any(excepted) && self.validator.is_none_or(|validator| validator.accepts(&text))
    }
}

impl Validator {
    fn accepts(self, text: &[u8]) -> bool {
        match self {
            Validator::Luhn => luhn(text),
            Validator::Iban => iban(text),
            Validator::Random => random(text),
        }
    }
}

fn luhn(text: &[u8]) -> bool {
    let digits = || text.iter().filter(|b| b.is_ascii_digit()).map(|b| u32::from(b - b'0'));
    let sum: u32 = digits().rev().enumerate().map(|(place, digit)| if place % 2 == 0 { digit } else { digit / 5 + digit * 2 % 10 }).sum();
    let mut all = digits();
    let first = all.next();
    sum.is_multiple_of(10) && all.any(|digit| Some(digit) != first)
}

fn iban(text: &[u8]) -> bool {
    let code: Vec<u8> = text.iter().copied().filter(u8::is_ascii_alphanumeric).collect();
    let Some((country, account)) = code.split_at_checked(4) else { return false };
    let rest = account.iter().chain(country).fold(0u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        byte => (rest * 100 + u32::from(byte.to_ascii_lowercase() - b'a') + 10) % 97,
    });
    rest == 1
}

fn random(text: &[u8]) -> bool {
    let key =
        text.rsplit(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'+' | b'/' | b'.' | b'='))).find(|part| !part.is_empty());
    let key = key.unwrap_or_default();
    // `name=value` without quotes is one part so far.
    let key = key.rsplitn(2, |b| *b == b'=').find(|part| !part.is_empty()).unwrap_or_default();
    if !key.iter().any(u8::is_ascii_digit) || !key.iter().any(u8::is_ascii_alphabetic) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits() {
        assert!(luhn(b"4111 1111 1111 1111") && luhn(b"378282246310005") && luhn(b"7992 7398 713"));
        assert!(!luhn(b"4111 1111 1111 1112") && !luhn(b"0000 0000 0000 0000") && !luhn(b""));
        assert!(iban(b"gb82 west 1234 5698 7654 32") && iban(b"de89370400440532013000"));
        assert!(!iban(b"gb82 west 1234 5698 7654 33") && !iban(b"de"));
    }

    #[test]
    fn drawn_or_written() {
        assert!(random(b"api_key = \"a8f5f167f44f4964e6c998dee827110c") && random(b"token=x9k2mq7vz4np8rt1"));
        assert!(!random(b"password = correct-horse-battery") && !random(b"key: 1111111111111111a") && !random(b"secret: "));
    }
}
