//! Which part of the API a request is for, and which dialect it speaks.

use firecrest_contract::ask::{Dialect, Version};
use firecrest_contract::error::{ApiError, ErrorKind, shown};
use http::{HeaderMap, Method, header};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Messages,
    CountTokens,
    Models,
    Model(String),
    Chat,
    Responses,
    Completions,
    Embeddings,
    Moderations,
    Moderate,
    RateLimits,
    /// Into memory, or out of it.
    Admin {
        model: String,
        load: bool,
    },
}

/// A route that there is, or why there is none.
pub(crate) struct Routed {
    pub(crate) route: Result<Route, ApiError>,
    pub(crate) dialect: Result<Dialect, ApiError>,
    /// The methods that the path takes, where another came.
    pub(crate) allow: Option<&'static str>,
}

impl Route {
    /// For logs and metrics.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Route::Messages => "messages",
            Route::CountTokens => "count_tokens",
            Route::Models => "models",
            Route::Model(_) => "model",
            Route::Chat => "chat_completions",
            Route::Responses => "responses",
            Route::Completions => "completions",
            Route::Embeddings => "embeddings",
            Route::Moderations => "moderations",
            Route::Moderate => "moderate",
            Route::RateLimits => "rate_limits",
            Route::Admin { .. } => "admin",
        }
    }
}

/// Finds the route, and the dialect in which even an error is told.
pub(crate) fn route(method: &Method, path: &str, headers: &HeaderMap) -> Routed {
    let found = find(path);
    let dialect = dialect(found.as_ref().map(|(_, route)| route), headers);
    match found {
        None => {
            let error = ApiError::new(ErrorKind::NotFound, format!("there is nothing at {}", shown(path)));
            Routed { route: Err(error), dialect, allow: None }
        }
        Some((wanted, _)) if !takes(&wanted, method) => {
            let message = format!("{} takes {wanted}, not {}", shown(path), shown(method.as_str()));
            let error = ApiError::new(ErrorKind::InvalidRequest, message).code("method_not_allowed");
            Routed { route: Err(error), dialect, allow: Some(if wanted == Method::GET { "GET,HEAD" } else { "POST" }) }
        }
        Some((_, route)) => Routed { route: Ok(route), dialect, allow: None },
    }
}

/// Whether a path that takes one method takes another. What can be got can be asked for without its body (RFC 9110, 9.3.2).
fn takes(wanted: &Method, method: &Method) -> bool {
    method == wanted || (*wanted == Method::GET && *method == Method::HEAD)
}

/// The dialect that a request is answered in, whatever becomes of it.
pub(crate) fn dialect_of(path: &str, headers: &HeaderMap) -> Result<Dialect, ApiError> {
    dialect(find(path).as_ref().map(|(_, route)| route), headers)
}

fn find(path: &str) -> Option<(Method, Route)> {
    let path = path.strip_suffix('/').unwrap_or(path);
    Some(match path {
        "/v1/messages" => (Method::POST, Route::Messages),
        "/v1/messages/count_tokens" => (Method::POST, Route::CountTokens),
        "/v1/models" => (Method::GET, Route::Models),
        "/v1/chat/completions" => (Method::POST, Route::Chat),
        "/v1/responses" => (Method::POST, Route::Responses),
        "/v1/completions" => (Method::POST, Route::Completions),
        "/v1/embeddings" => (Method::POST, Route::Embeddings),
        "/v1/moderations" => (Method::POST, Route::Moderations),
        "/v1/moderate" => (Method::POST, Route::Moderate),
        "/v1/organizations/rate_limits" => (Method::GET, Route::RateLimits),
        _ => return parts(path),
    })
}

/// Paths with a name in them. A model's name may hold slashes.
fn parts(path: &str) -> Option<(Method, Route)> {
    if let Some(model) = path.strip_prefix("/v1/models/") {
        return Some((Method::GET, Route::Model(decoded(model)?)));
    }
    let (model, verb) = path.strip_prefix("/admin/models/")?.rsplit_once('/')?;
    let load = match verb {
        "load" => true,
        "unload" => false,
        _ => return None,
    };
    Some((Method::POST, Route::Admin { model: decoded(model)?, load }))
}

/// A path's segment with its `%` codes read.
pub(crate) fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        bytes.push((digit(rest.next())? * 16 + digit(rest.next())?) as u8);
    }
    String::from_utf8(bytes).ok().filter(|name| !name.is_empty())
}

/// By path; on paths that both share, or neither has, by headers that only one sends.
fn dialect(route: Option<&Route>, headers: &HeaderMap) -> Result<Dialect, ApiError> {
    let messages = match route {
        Some(Route::Messages | Route::CountTokens | Route::RateLimits) => true,
        Some(Route::Models | Route::Model(_) | Route::Admin { .. }) | None => {
            ["anthropic-version", "anthropic-beta", "x-api-key"].iter().any(|name| headers.contains_key(*name))
        }
        Some(_) => false,
    };
    if !messages {
        return Ok(Dialect::OpenAi);
    }
    let version = headers.get("anthropic-version").map(|value| value.to_str().unwrap_or("?"));
    Version::from_header(version).map(Dialect::Messages)
}

/// The key that a caller shows, in either way.
pub(crate) fn presented(headers: &HeaderMap) -> Option<&str> {
    let key = headers.get("x-api-key").and_then(|key| key.to_str().ok());
    key.or_else(|| {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: Method, path: &str) -> Result<Route, ErrorKind> {
        route(&method, path, &HeaderMap::new()).route.map_err(|error| error.kind)
    }

    #[test]
    fn paths() {
        assert_eq!(found(Method::POST, "/v1/messages"), Ok(Route::Messages));
        assert_eq!(found(Method::POST, "/v1/messages/"), Ok(Route::Messages));
        assert_eq!(found(Method::GET, "/v1/messages"), Err(ErrorKind::InvalidRequest));
        assert_eq!(found(Method::GET, "/v1/models/a%2Fb"), Ok(Route::Model("a/b".into())));
        assert_eq!(found(Method::GET, "/v1/models/a/b"), Ok(Route::Model("a/b".into())));
        assert_eq!(found(Method::GET, "/v1/models/%f"), Err(ErrorKind::NotFound));
        assert_eq!(found(Method::GET, "/v1/models/%ff"), Err(ErrorKind::NotFound));
        assert_eq!(found(Method::POST, "/admin/models/m/unload"), Ok(Route::Admin { model: "m".into(), load: false }));
        assert_eq!(found(Method::POST, "/admin/models/m/eat"), Err(ErrorKind::NotFound));
        assert_eq!(found(Method::GET, ""), Err(ErrorKind::NotFound));
        assert_eq!(found(Method::HEAD, "/v1/models/m"), Ok(Route::Model("m".into())));
        assert_eq!(found(Method::HEAD, "/v1/organizations/rate_limits"), Ok(Route::RateLimits));
        let allowed = |method, path: &str| route(&method, path, &HeaderMap::new()).allow;
        assert_eq!(allowed(Method::PUT, "/v1/models/m"), Some("GET,HEAD"));
        assert_eq!((allowed(Method::HEAD, "/v1/messages"), allowed(Method::HEAD, "/v1/models")), (Some("POST"), None));
    }

    #[test]
    fn dialects() {
        let mut headers = HeaderMap::new();
        assert_eq!(route(&Method::GET, "/v1/models", &headers).dialect, Ok(Dialect::OpenAi));
        headers.insert("x-api-key", "k".parse().expect("a value"));
        assert_eq!(route(&Method::GET, "/v1/models", &headers).dialect, Ok(Dialect::Messages(Version::June2023)));
        assert_eq!(dialect_of("/admin/models/m/load", &headers), Ok(Dialect::Messages(Version::June2023)));
        assert_eq!(dialect_of("/v1/nobody", &headers), Ok(Dialect::Messages(Version::June2023)));
        assert_eq!(dialect_of("/v1/messages/nobody", &HeaderMap::new()), Ok(Dialect::OpenAi));
        headers.insert("anthropic-version", "2026-10-21".parse().expect("a value"));
        assert_eq!(route(&Method::POST, "/v1/messages", &headers).dialect, Ok(Dialect::Messages(Version::October2026)));
        assert_eq!(route(&Method::POST, "/v1/responses", &headers).dialect, Ok(Dialect::OpenAi));
        headers.insert("anthropic-version", "2020-01-01".parse().expect("a value"));
        assert!(route(&Method::POST, "/v1/messages", &headers).dialect.is_err());
    }

    #[test]
    fn keys() {
        let mut headers = HeaderMap::new();
        assert_eq!(presented(&headers), None);
        headers.insert("authorization", "bearer  abc".parse().expect("a value"));
        assert_eq!(presented(&headers), Some("abc"));
        headers.insert("authorization", "Basic abc".parse().expect("a value"));
        assert_eq!(presented(&headers), None);
        headers.insert("x-api-key", "k".parse().expect("a value"));
        assert_eq!(presented(&headers), Some("k"));
    }
}
