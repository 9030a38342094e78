//! The published table of request fields: what is done with each by a backend of this machine.
//!
//! Rows stand beside the types that they speak of ([`crate::messages::FIELDS`]); tests compare them with the schemas, so that no field is without a
//! row and no row without a field.

/// What a local backend does with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Does what it says.
    Native,
    /// Not known here, and kept as it came: only a backend of the same dialect can be asked for it.
    Forward,
    /// Known, and can't be done here: refused with its path. A backend of the same dialect may be asked for it.
    Refuse,
    /// The answer is right without it: refused where the service is strict, dropped and listed in `firecrest-ignored-fields` where it is lenient.
    Hint,
}

impl Verdict {
    /// As the published table says it.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Native => "native",
            Verdict::Forward => "forward",
            Verdict::Refuse => "refuse",
            Verdict::Hint => "hint",
        }
    }
}

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Where in a body: names joined by dots, `*` for every item of a list, `{text}` behind what may be of several types and is
    /// `text`, `{*}` where it is none that is known. What stands in several places has its rows at the first.
    pub path: &'static str,
    /// What is done with it.
    pub verdict: Verdict,
    /// What a caller should know about that. Empty where the verdict says all.
    pub note: &'static str,
}

/// A row of a table, short enough to be one line of it.
pub const fn field(path: &'static str, verdict: Verdict, note: &'static str) -> Field {
    Field { path, verdict, note }
}
