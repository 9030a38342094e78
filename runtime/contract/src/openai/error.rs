//! The envelope of errors.

use serde::{Deserialize, Serialize};

use crate::error::{ApiError, BUDGET_SPENT, ErrorKind};
use crate::path::{Path, Segment};

/// An error's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "OpenAiErrorBody"))]
pub struct ErrorBody {
    /// What is wrong.
    pub error: ErrorObject,
}

/// What is wrong. Every member is always there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "OpenAiErrorObject"))]
pub struct ErrorObject {
    /// For people.
    pub message: String,
    /// What kind.
    pub r#type: String,
    /// Which parameter: `messages[0].content`.
    pub param: Option<String>,
    /// For programs.
    pub code: Option<String>,
}

impl From<&ApiError> for ErrorBody {
    fn from(error: &ApiError) -> ErrorBody {
        ErrorBody {
            error: ErrorObject {
                message: error.message.clone(),
                r#type: error.kind.openai_name().to_owned(),
                param: error.path.as_ref().map(param),
                code: code(error).map(str::to_owned),
            },
        }
    }
}

/// `error.code`: the error's own, by the name that clients of this dialect know, else what they know for its kind.
pub fn code(error: &ApiError) -> Option<&'static str> {
    let own = match error.code {
        Some(BUDGET_SPENT) => Some("insufficient_quota"),
        own => own,
    };
    own.or(match error.kind {
        ErrorKind::Authentication => Some("invalid_api_key"),
        ErrorKind::RateLimit => Some("rate_limit_exceeded"),
        ErrorKind::InvalidRequest
        | ErrorKind::Permission
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::TooLarge
        | ErrorKind::Api
        | ErrorKind::Timeout
        | ErrorKind::Overloaded => None,
    })
}

/// A path with its indexes in brackets: `messages.0.content` becomes `messages[0].content`.
pub fn param(path: &Path) -> String {
    let mut param = String::with_capacity(path.len() + 2);
    for segment in path.segments() {
        match segment {
            Segment::Index(index) => {
                param.push('[');
                param.push_str(&index.to_string());
                param.push(']');
            }
            Segment::Key(key) => {
                if !param.is_empty() {
                    param.push('.');
                }
                param.push_str(key);
            }
        }
    }
    param
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets() {
        let brackets = |path: &str| param(&path.into());
        assert_eq!(brackets("messages.0.content.12.text"), "messages[0].content[12].text");
        assert_eq!(brackets("stop.3"), "stop[3]");
        assert_eq!(brackets("model"), "model");
        assert_eq!(brackets(""), "");
        assert_eq!(param(&Path::from("logit_bias").key("5")), "logit_bias.5");
    }

    #[test]
    fn the_envelope() {
        let body = ErrorBody::from(&ApiError::invalid("messages.0.role", "no such role"));
        assert_eq!(
            serde_json::to_string(&body).expect("JSON"),
            r#"{"error":{"message":"messages.0.role: no such role","type":"invalid_request_error","param":"messages[0].role","code":null}}"#
        );
        let limited = ErrorBody::from(&ApiError::new(ErrorKind::RateLimit, "slower"));
        assert_eq!((limited.error.code.as_deref(), limited.error.param), (Some("rate_limit_exceeded"), None));
        let spent = ErrorBody::from(&ApiError::new(ErrorKind::RateLimit, "tomorrow").code(BUDGET_SPENT));
        assert_eq!((spent.error.code.as_deref(), spent.error.r#type.as_str()), (Some("insufficient_quota"), "rate_limit_error"));
    }
}
