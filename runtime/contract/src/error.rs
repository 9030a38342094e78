//! What goes wrong, once for all dialects.

use std::fmt;

use crate::path::Path;

/// A caller's text as it may stand in a path or a message: short, on one line.
pub fn plain(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A caller's word, to be shown: cut, and without what a terminal or a log could take for more than text.
pub fn shown(word: &str) -> String {
    let mut shown: String = word.chars().take(64).flat_map(char::escape_debug).collect();
    if word.chars().nth(64).is_some() {
        shown.push('…');
    }
    shown
}

/// The kinds of errors that a caller tells apart. Each has one status and one name per dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// 400. The request is wrong, or asks for what no permitted backend can do.
    InvalidRequest,
    /// 401. No key, or one that is not known.
    Authentication,
    /// 403. The key may not do this.
    Permission,
    /// 404. No such model, message, route.
    NotFound,
    /// 409. Two requests contradict each other.
    Conflict,
    /// 413. The body is larger than the cap.
    TooLarge,
    /// 429. The caller's own limit.
    RateLimit,
    /// 500. Ours.
    Api,
    /// 504. It took too long.
    Timeout,
    /// 529. We have too much to do.
    Overloaded,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [ErrorKind; 10] = [
        ErrorKind::InvalidRequest,
        ErrorKind::Authentication,
        ErrorKind::Permission,
        ErrorKind::NotFound,
        ErrorKind::Conflict,
        ErrorKind::TooLarge,
        ErrorKind::RateLimit,
        ErrorKind::Api,
        ErrorKind::Timeout,
        ErrorKind::Overloaded,
    ];

    /// The HTTP status. OpenAI's dialect knows no 529, but its clients retry every status from 500 on.
    pub const fn status(self) -> u16 {
        match self {
            ErrorKind::InvalidRequest => 400,
            ErrorKind::Authentication => 401,
            ErrorKind::Permission => 403,
            ErrorKind::NotFound => 404,
            ErrorKind::Conflict => 409,
            ErrorKind::TooLarge => 413,
            ErrorKind::RateLimit => 429,
            ErrorKind::Api => 500,
            ErrorKind::Timeout => 504,
            ErrorKind::Overloaded => 529,
        }
    }

    /// `error.type` in the Messages dialect.
    pub const fn name(self) -> &'static str {
        match self {
            ErrorKind::InvalidRequest => "invalid_request_error",
            ErrorKind::Authentication => "authentication_error",
            ErrorKind::Permission => "permission_error",
            ErrorKind::NotFound => "not_found_error",
            ErrorKind::Conflict => "conflict_error",
            ErrorKind::TooLarge => "request_too_large",
            ErrorKind::RateLimit => "rate_limit_error",
            ErrorKind::Api => "api_error",
            ErrorKind::Timeout => "timeout_error",
            ErrorKind::Overloaded => "overloaded_error",
        }
    }

    /// `error.type` in OpenAI's dialect.
    pub const fn openai_name(self) -> &'static str {
        match self {
            ErrorKind::InvalidRequest | ErrorKind::NotFound | ErrorKind::TooLarge | ErrorKind::Conflict => "invalid_request_error",
            ErrorKind::Authentication => "authentication_error",
            ErrorKind::Permission => "permission_error",
            ErrorKind::RateLimit => "rate_limit_error",
            ErrorKind::Api | ErrorKind::Timeout => "server_error",
            ErrorKind::Overloaded => "overloaded_error",
        }
    }
}

/// The code of a budget that has no room for a request, as clients of the Messages dialect know it. Those of OpenAI's know another
/// ([`crate::openai::error::code`]).
pub const BUDGET_SPENT: &str = "enforced_spend_limit_reached";

/// The code of a prompt that is longer than its model's context, as OpenAI's clients know it: programs shorten their conversations by it.
pub const CONTEXT_LENGTH_EXCEEDED: &str = "context_length_exceeded";

/// The code of a model that failed again and again, and is tried again after a while.
pub const MODEL_UNAVAILABLE: &str = "model_unavailable";

/// The code of a store of keys and limits that does not answer, or is not believed: nobody knows who may go on until it is mended.
pub const STORE_UNAVAILABLE: &str = "store_unavailable";

/// An error as a caller sees it, before a dialect gives it its envelope.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// What kind.
    pub kind: ErrorKind,
    /// What is wrong, where, and what to do. Never holds text of another caller, nor a secret.
    pub message: String,
    /// The leaf of the body that is wrong, dotted: `messages.0.content`.
    pub path: Option<Path>,
    /// A code that programs look at: `error.details.error_code`, and `error.code` in OpenAI's dialect.
    pub code: Option<&'static str>,
    /// With [`ApiError::code`] `thread_unsupported_request`: what of the request is not supported.
    pub unsupported: Vec<String>,
    /// When it may be worth trying again, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// Whether a client should try again by itself (`x-should-retry`). `None`: as its status says.
    pub should_retry: Option<bool>,
}

impl ApiError {
    /// An error of a kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> ApiError {
        ApiError {
            kind,
            message: message.into(),
            path: None,
            code: None,
            unsupported: Vec::new(),
            retry_after_ms: None,
            should_retry: None,
        }
    }

    /// A request that is wrong at a leaf of its body. The message is led by the path.
    pub fn invalid(path: impl Into<Path>, message: impl fmt::Display) -> ApiError {
        let path = path.into();
        ApiError::new(ErrorKind::InvalidRequest, format!("{path}: {message}")).at(path)
    }

    /// The HTTP status: its kind's, or the narrower one that its code stands for.
    pub fn status(&self) -> u16 {
        match self.code {
            Some("method_not_allowed") => 405,
            Some("request_timeout") => 408,
            Some("server_busy") => 503,
            Some(MODEL_UNAVAILABLE | STORE_UNAVAILABLE) => 503,
            _ => self.kind.status(),
        }
    }

    /// At this leaf of the body.
    pub fn at(mut self, path: impl Into<Path>) -> ApiError {
        self.path = Some(path.into());
        self
    }

    /// With this code.
    pub fn code(mut self, code: &'static str) -> ApiError {
        self.code = Some(code);
        self
    }

    /// To be tried again so much later.
    pub fn retry_after_ms(mut self, milliseconds: u64) -> ApiError {
        self.retry_after_ms = Some(milliseconds);
        self
    }

    /// A client shall, or shall not, try again by itself.
    pub fn should_retry(mut self, should: bool) -> ApiError {
        self.should_retry = Some(should);
        self
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.message)
    }
}

impl std::error::Error for ApiError {}
