//! What keys and tiers may be called.

use std::fmt;

/// Characters of a name at most.
pub const LONGEST_NAME: usize = 128;

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// It has so many characters, and may have [`LONGEST_NAME`].
    Long(usize),
    /// It has this character.
    Character(char),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Long(length) => write!(f, "has {length} characters, and may have {LONGEST_NAME}; shorten it"),
            NameError::Character(c) => {
                write!(f, "has the character U+{:04X}, which breaks the line, turns it, or can't be seen; leave it out", u32::from(*c))
            }
        }
    }
}

impl std::error::Error for NameError {}

/// Whether a key or a tier may have this name: one line, that looks in lists and logs like what it is.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let length = name.chars().count();
    if length > LONGEST_NAME {
        return Err(NameError::Long(length));
    }
    name.chars().find(|c| misleads(*c)).map_or(Ok(()), |c| Err(NameError::Character(c)))
}

/// Control characters, ends of lines, marks of direction, and what nobody sees. Joiners and variants stay: languages and pictures need them.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_line_that_shows_what_it_is() {
        for good in ["", "laptop", "größer, 中文 · (2)", "شبكة", "🦊 \"fox\" \\", "می‌خواهم", "👩‍💻 ❤️", &"x".repeat(128), &"中".repeat(128)]
        {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        assert_eq!(check_name(&"中".repeat(129)), Err(NameError::Long(129)));
        for bad in [
            '\n',
            '\r',
            '\0',
            '\t',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{9b}',
            '\u{200b}',
            '\u{2028}',
            '\u{202e}',
            '\u{2066}',
            '\u{feff}',
            '\u{e0041}',
        ] {
            let why = check_name(&format!("a{bad}b")).expect_err("it misleads");
            assert_eq!(why, NameError::Character(bad));
            assert!(!why.to_string().contains(bad) && why.to_string().contains(&format!("U+{:04X}", u32::from(bad))), "{why}");
        }
    }
}
