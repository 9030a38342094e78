//! What becomes of each field of a request.

/// A field of a request and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Where it stands in the body: `tools.function.strict`, without indexes of lists.
    pub path: &'static str,
    /// What becomes of it.
    pub verdict: Verdict,
    /// What a caller should know.
    pub note: &'static str,
}

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is served here.
    Native,
    /// Only a backend of the same dialect serves it.
    Forward,
    /// No backend serves it.
    Refuse,
    /// It is dropped where the service is lenient: the answer is right without it.
    Hint,
}
