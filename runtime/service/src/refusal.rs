//! Errors as callers get them: in their dialect's envelope, under the request's id, with the headers that clients act on.

use bytes::Bytes;
use firecrest_contract::ask::{Dialect, Version};
use firecrest_contract::error::ApiError;
use firecrest_contract::{messages, openai};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri, header};

use crate::route;

/// A new request's id: 120 random bits, as letters and digits. `random` fills what it is given with bytes that nobody can guess.
pub fn new_id(random: impl FnOnce(&mut [u8])) -> String {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut bytes = [0; 24];
    random(&mut bytes);
    bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect()
}

/// The dialect in which a request is refused that no [`Service`](crate::service::Service) is to hear of: the one in which the service would answer.
pub fn dialect_of(uri: &Uri, headers: &HeaderMap) -> Dialect {
    // What is wrong with a version is not what such a refusal is about.
    route::dialect_of(uri.path(), headers).unwrap_or(FALLBACK)
}

/// What is spoken to a caller of the Messages API who names a version that there is not.
pub(crate) const FALLBACK: Dialect = Dialect::Messages(Version::June2023);

/// Clients of each dialect look for its own name.
pub(crate) fn id_header(dialect: Dialect) -> HeaderName {
    HeaderName::from_static(match dialect {
        Dialect::Messages(_) => "request-id",
        Dialect::OpenAi => "x-request-id",
    })
}

/// An error in a dialect's envelope.
pub fn envelope(dialect: Dialect, error: &ApiError, id: &str) -> Response<Bytes> {
    let body = match dialect {
        Dialect::Messages(_) => serde_json::to_vec(&messages::ErrorBody::new(error, Some(id))),
        Dialect::OpenAi => serde_json::to_vec(&openai::error::ErrorBody::from(error)),
    };
    let mut response = Response::new(body.unwrap_or_default().into());
    *response.status_mut() = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(id_header(dialect), id);
    }
    if let Some(milliseconds) = error.retry_after_ms {
        headers.insert("retry-after-ms", HeaderValue::from(milliseconds));
        headers.insert(header::RETRY_AFTER, HeaderValue::from(milliseconds.div_ceil(1000)));
    }
    if let Some(should) = error.should_retry {
        headers.insert("x-should-retry", HeaderValue::from_static(if should { "true" } else { "false" }));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use firecrest_contract::error::ErrorKind;
    use serde_json::Value;

    #[test]
    fn what_the_service_never_heard_of_is_refused_in_its_callers_dialect() {
        let error = ApiError::new(ErrorKind::TooLarge, "too much");
        let told = |path: &'static str, version: bool| {
            let mut headers = HeaderMap::new();
            if version {
                headers.insert("anthropic-version", HeaderValue::from_static("1999-01-01"));
            }
            let response = envelope(dialect_of(&Uri::from_static(path), &headers), &error, "id0");
            assert_eq!(
                (response.status().as_u16(), &response.headers()["content-type"]),
                (413, &HeaderValue::from_static("application/json"))
            );
            let body: Value = serde_json::from_slice(response.body()).expect("JSON");
            let messages = body.get("type").is_some();
            assert_eq!(response.headers()[if messages { "request-id" } else { "x-request-id" }], "id0");
            assert!(!messages || body["request_id"] == "id0", "{body}");
            messages
        };
        assert!(told("/v1/messages", false) && told("/v1/models", true) && told("/healthz", true));
        assert!(!told("/v1/chat/completions", true) && !told("/v1/models", false) && !told("/healthz", false));
    }

    #[test]
    fn ids() {
        let id = new_id(|bytes| bytes.copy_from_slice(&std::array::from_fn::<u8, 24, _>(|n| n as u8 * 11)));
        assert_eq!(id, "0bp1cq2dr3es4ft5gv6hw7jx");
    }
}
