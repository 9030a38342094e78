//! What a pattern cannot say of its match.

mod keys;
mod numbers;

use serde::Deserialize;

use crate::safety::normalise::normalised;

/// A check of a match's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Validator {
    /// The digits have Luhn's check digit (ISO/IEC 7812-1), and are not all the same.
    Luhn,
    /// A payment card's number: as `luhn`. Grouped as cards print it, it stands by itself; else
    /// near one of the rule's words.
    Card,
    /// An IBAN: its country's length, and check digits (ISO 13616: 97 divides what is left, less one).
    Iban,
    /// A telephone number: after a plus a country's code and a length that numbers have there, else as the North American plan has them.
    Phone,
    /// An e-mail address: what stands for its top domain is no kind of file or of unit.
    Address,
    /// It needs one of the rule's words near.
    Near,
    /// What the match ends with looks drawn, not written: letters and digits, of at least three bits each by their own frequencies, and no digest that is
    /// called a token.
    Random,
    /// What the match ends with looks drawn, however it is spaced, and is no placeholder.
    Key,
    /// The same of a key of capitals and digits.
    CapitalKey,
    /// The same, with letters and digits, of a line of base64.
    Base64,
}

/// Whether a match is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    No,
    /// Near one of the rule's words.
    Near,
    Yes,
}

impl From<bool> for Stands {
    fn from(stands: bool) -> Stands {
        if stands { Stands::Yes } else { Stands::No }
    }
}

/// All that is asked of a pattern's match.
#[derive(Clone, Debug, Default)]
pub(super) struct Check {
    validator: Option<Validator>,
    /// Normalised texts that it must not contain.
    except: Vec<String>,
    /// Texts of which it must begin with one, capitals as they are. None: with any.
    begins: Vec<String>,
}

impl Check {
    pub(super) fn new(validator: Option<Validator>, except: &[String], begins: &[String]) -> Check {
        let except = except.iter().map(|text| normalised(text)).filter(|text| !text.is_empty()).collect();
        Check { validator, except, begins: begins.to_vec() }
    }

    /// Whether a match stands; `written` gives its normalised text, capitals as they were.
    pub(super) fn judge(&self, written: impl FnOnce() -> Vec<u8>) -> Stands {
        if self.validator.is_none() && self.except.is_empty() && self.begins.is_empty() {
            return Stands::Yes;
        }
        let written = written();
        if !self.begins.is_empty() && !self.begins.iter().any(|begin| written.starts_with(begin.as_bytes())) {
            return Stands::No;
        }
        let text = written.to_ascii_lowercase();
        let contains = |text: &[u8], part: &str| text.windows(part.len()).any(|window| window == part.as_bytes());
        let close: Vec<u8> = text.iter().copied().filter(u8::is_ascii_alphanumeric).collect();
        if self.except.iter().any(|except| contains(&text, except) || contains(&close, except)) {
            return Stands::No;
        }
        self.validator.map_or(Stands::Yes, |validator| validator.judge(&text, &written))
    }
}

impl Validator {
    /// Of a match in small letters, and as it was written.
    fn judge(self, text: &[u8], written: &[u8]) -> Stands {
        match self {
            Validator::Luhn => numbers::luhn(text).into(),
            Validator::Card => numbers::card(text),
            Validator::Iban => numbers::iban(text).into(),
            Validator::Phone => numbers::phone(text).into(),
            Validator::Address => keys::address(text).into(),
            Validator::Near => Stands::Near,
            Validator::Random => keys::random(text).into(),
            Validator::Key => keys::key(written).into(),
            Validator::CapitalKey => keys::capital_key(written).into(),
            Validator::Base64 => keys::base64(written).into(),
        }
    }
}
