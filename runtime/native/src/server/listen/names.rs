//! Who may call: by which names of this server, and from which pages.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use firecrest_contract::error::{ApiError, ErrorKind, shown};
use http::{HeaderName, HeaderValue, Method, Request, header};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::super::config::Config;
use super::Shared;
use super::forward::refuse;

/// Refuses names and pages that we don't know: a page may point a name of its own at this machine, and would then be this server's origin.
pub(super) async fn known_names(State(shared): State<Shared>, request: Request<Body>, next: axum::middleware::Next) -> Response {
    if shared.config.listen.ip().is_loopback() {
        let host =
            request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).or(request.uri().authority().map(|a| a.as_str()));
        let name = host.map(without_port).unwrap_or_default();
        if !is_loopback_name(name) && !shared.config.hosts.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            let message = format!("this server is not called `{}`; add the name to `hosts` if it is", shown(name));
            return refuse(&request, &ApiError::new(ErrorKind::Permission, message));
        }
    }
    if let Some(origin) = request.headers().get(header::ORIGIN)
        && !origin_allowed(&shared.config, origin)
    {
        let message = "pages of this origin may not call this server; add it to `origins` if they should";
        return refuse(&request, &ApiError::new(ErrorKind::Permission, message));
    }
    next.run(request).await
}

fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(host, |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

fn is_loopback_name(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn origin_allowed(config: &Config, origin: &HeaderValue) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let own = |rest: &str| is_loopback_name(without_port(rest));
    config.origins.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(origin))
        || origin.strip_prefix("http://").or(origin.strip_prefix("https://")).is_some_and(own)
}

pub(super) fn cors(config: &Arc<Config>) -> CorsLayer {
    let known = Arc::clone(config);
    const EXPOSED: [&str; 25] = [
        "request-id",
        "x-request-id",
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
        "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
        "anthropic-ratelimit-input-tokens-limit",
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-reset",
        "anthropic-ratelimit-output-tokens-limit",
        "anthropic-ratelimit-output-tokens-remaining",
        "anthropic-ratelimit-output-tokens-reset",
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
        "firecrest-ignored-fields",
        "firecrest-model",
    ];
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| origin_allowed(&known, origin)))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED.map(HeaderName::from_static))
        .max_age(Duration::from_secs(600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine() {
        for name in ["localhost", "LOCALHOST:8484", "127.0.0.1", "127.9.9.9:1", "[::1]:8484", "[::1]"] {
            assert!(is_loopback_name(without_port(name)), "{name}");
        }
        for name in ["", "example.org", "localhost.example.org:80", "10.0.0.1", "[::2]:1", "127.0.0.1.nip.io"] {
            assert!(!is_loopback_name(without_port(name)), "{name}");
        }
    }

    #[test]
    fn pages_that_may_call() {
        let config = Config { origins: vec!["https://app.example".to_owned()], ..Config::default() };
        let allowed = |origin: &'static str| origin_allowed(&config, &HeaderValue::from_static(origin));
        assert!(allowed("https://app.example") && allowed("http://localhost:5173") && allowed("http://[::1]:1"));
        assert!(!allowed("https://app.example.evil") && !allowed("null") && !allowed("http://localhost.evil") && !allowed("file://"));
    }
}
