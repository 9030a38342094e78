//! The engine's one public error: a stable code and a sentence a person can act on.

use std::fmt;

/// What kind of thing went wrong. The names are stable and cross process and worker borders as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Bytes could not be read.
    Source,
    /// A model, tokenizer or template file is malformed.
    Malformed,
    /// A file is well formed but asks for something Firecrest does not have.
    Unsupported,
    /// A chat template failed or ran past its limits.
    Template,
    /// A request cannot be carried out as asked.
    Request,
    /// A request names an adapter that is not loaded.
    UnknownAdapter,
    /// The device or its driver failed, was lost, or lacks something.
    Device,
    /// Not enough memory, or pages.
    Memory,
    /// A broken invariant of ours: please report it.
    Internal,
}

impl ErrorCode {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            ErrorCode::Source => "source",
            ErrorCode::Malformed => "malformed",
            ErrorCode::Unsupported => "unsupported",
            ErrorCode::Template => "template",
            ErrorCode::Request => "request",
            ErrorCode::UnknownAdapter => "unknown_adapter",
            ErrorCode::Device => "device",
            ErrorCode::Memory => "memory",
            ErrorCode::Internal => "internal",
        }
    }
}

/// An error with a code, a message that names what is wrong, where and what to do, and perhaps a cause.
#[derive(Debug)]
pub struct Error {
    code: ErrorCode,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error from its parts.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), source: None }
    }

    /// A malformed file.
    pub fn malformed(message: impl Into<String>) -> Error {
        Error::new(ErrorCode::Malformed, message)
    }

    /// Something Firecrest does not have.
    pub fn unsupported(message: impl Into<String>) -> Error {
        Error::new(ErrorCode::Unsupported, message)
    }

    /// A request that cannot be carried out as asked.
    pub fn request(message: impl Into<String>) -> Error {
        Error::new(ErrorCode::Request, message)
    }

    /// A broken invariant.
    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(ErrorCode::Internal, message)
    }

    /// The same error with the thing that caused it.
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        self.source = Some(Box::new(source));
        self
    }

    /// The stable code.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// The message without the code.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| s.as_ref() as _)
    }
}

impl From<firecrest_weights::SourceError> for Error {
    fn from(e: firecrest_weights::SourceError) -> Error {
        Error::new(ErrorCode::Source, e.to_string())
    }
}
