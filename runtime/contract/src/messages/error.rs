//! The envelope of an error.

use serde::{Deserialize, Serialize};

use crate::error::{ApiError, ErrorKind};

/// What a body holds instead of an answer, and what an `error` event of a stream holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ErrorBody {
    /// `error`.
    pub r#type: ErrorTag,
    /// What went wrong.
    pub error: ErrorObject,
    /// The request that failed, as its `request-id` header says.
    #[serde(default)]
    pub request_id: Option<String>,
}

/// The `type` of an error's envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorTag {
    /// The only one.
    Error,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ErrorObject {
    /// `invalid_request_error` and the like; an upstream may know others.
    pub r#type: String,
    /// For a person.
    pub message: String,
    /// For a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<ErrorDetails>,
}

/// What a program can tell errors of one kind apart by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ErrorDetails {
    /// A code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// With `thread_unsupported_request`: what of the request can't be had together with a thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsupported: Option<Vec<String>>,
}

impl ErrorBody {
    /// An error in its envelope. `request_id` is `None` where no request was made of what came.
    pub fn new(error: &ApiError, request_id: Option<&str>) -> ErrorBody {
        let details = error.code.map(|code| ErrorDetails {
            error_code: Some(code.to_owned()),
            unsupported: (!error.unsupported.is_empty()).then(|| error.unsupported.clone()),
        });
        ErrorBody {
            r#type: ErrorTag::Error,
            error: ErrorObject { r#type: error.kind.name().to_owned(), message: error.message.clone(), details },
            request_id: request_id.map(str::to_owned),
        }
    }

    /// What another service of this dialect said. Its status decides where its `type` is not known, and what is neither is [`ErrorKind::Api`]. Codes
    /// are not taken over: they speak of that service's own threads and accounts.
    pub fn to_error(&self, status: Option<u16>) -> ApiError {
        let kind = ErrorKind::ALL.into_iter().find(|kind| kind.name() == self.error.r#type);
        ApiError::new(kind.unwrap_or_else(|| by_status(status)), self.error.message.clone())
    }
}

/// Reads what another service of this dialect said with an error's status. What is not an envelope becomes an error of that status without
/// its text: a proxy's page of HTML is nobody's message.
pub fn parse_error(body: &[u8], status: u16) -> ApiError {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => body.to_error(Some(status)),
        Err(_) => {
            ApiError::new(by_status(Some(status)), format!("the upstream answered with status {status} and no error that can be read"))
        }
    }
}

fn by_status(status: Option<u16>) -> ErrorKind {
    status.and_then(|status| ErrorKind::ALL.into_iter().find(|kind| kind.status() == status)).unwrap_or(match status {
        Some(400..=499) => ErrorKind::InvalidRequest,
        _ => ErrorKind::Api,
    })
}
