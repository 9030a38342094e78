//! Who may call: by which names of this server, and from which pages.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use firecrest_contract::error::{ApiError, ErrorKind, shown};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::super::config::Config;
use super::Shared;
use super::forward::refuse;

/// Refuses names and pages that we don't know: a page may point a name of its own at this machine, and would then be this server's origin.
pub(super) async fn known_names(State(shared): State<Shared>, request: Request<Body>, next: axum::middleware::Next) -> Response {
    let named = match called(request.version(), request.uri(), request.headers()) {
        Ok(named) => named,
        Err(message) => return refuse(&request, &ApiError::new(ErrorKind::InvalidRequest, message)),
    };
    if shared.config.listen.ip().is_loopback() {
        let known = |name: &str| is_loopback_name(name) || shared.config.hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
        let names = || named.iter().flatten().map(|(name, _)| *name);
        if let Some(name) = names().find(|name| !known(name)) {
            let message = format!("this server is not called `{}`; add the name to `hosts` if it is", shown(name));
            return refuse(&request, &ApiError::new(ErrorKind::Permission, message));
        }
        if names().next().is_none() {
            return refuse(&request, &ApiError::new(ErrorKind::InvalidRequest, NO_HOST));
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

const NO_HOST: &str = "host: the request does not say whom it calls; send a `host` header with this server's name and port";

/// A name, or an address without its brackets, and a port.
type Authority<'a> = (&'a str, Option<u16>);

/// Whom a request calls: by its target and by its `host` header, where they are there.
///
/// # Errors
/// What a server has to refuse by RFC 9112, 3.2, and RFC 9113, 8.3.1, because two programs on the way may read it in two ways: more than one
/// `host`, one that is no name and port, none at all, or one that differs from the target's.
fn called<'a>(version: Version, target: &'a Uri, headers: &'a HeaderMap) -> Result<[Option<Authority<'a>>; 2], String> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (None, _) => None,
        (Some(_), Some(_)) => return Err("host: the request has more than one `host` header; send one".to_owned()),
        (Some(host), None) => {
            let text = String::from_utf8_lossy(host.as_bytes());
            let found = host.to_str().ok().and_then(authority);
            Some(found.ok_or_else(|| format!("host: `{}` is no name with a port, or without one", shown(&text)))?)
        }
    };
    let target = match target.authority() {
        None => None,
        Some(text) => {
            let wrong = || format!("the request's target names `{}`, which is no name with a port, or without one", shown(text.as_str()));
            Some(authority(text.as_str()).ok_or_else(wrong)?)
        }
    };
    match (target, host) {
        // HTTP/1.0 has no such header.
        (None, None) if version >= Version::HTTP_11 => return Err(NO_HOST.to_owned()),
        (Some(_), None) if version == Version::HTTP_11 => return Err(NO_HOST.to_owned()),
        (Some(target), Some(host)) if version >= Version::HTTP_2 && !same(target, host) => {
            return Err("host: the `host` header differs from `:authority`; leave it out".to_owned());
        }
        _ => {}
    }
    Ok([target, host])
}

/// Whether both are one, 80 being the port that goes without saying: nothing else is spoken here.
fn same((a, at): Authority<'_>, (b, behind): Authority<'_>) -> bool {
    a.eq_ignore_ascii_case(b) && at.unwrap_or(80) == behind.unwrap_or(80)
}

/// A name with a port or without one. There is no user in it.
fn authority(text: &str) -> Option<Authority<'_>> {
    let (name, rest) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').filter(|(address, _)| address.parse::<std::net::Ipv6Addr>().is_ok())?,
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let (name, rest) = text.split_at(end);
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
            (Some(name).filter(|name| !name.is_empty() && name.bytes().all(fits))?, rest)
        }
    };
    match rest.strip_prefix(':') {
        None => rest.is_empty().then_some((name, None)),
        Some("") => Some((name, None)),
        Some(port) => {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            port.parse().ok().filter(|_| digits).map(|port| (name, Some(port)))
        }
    }
}

fn without_port(host: &str) -> &str {
    authority(host).map_or("", |(name, _)| name)
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
    fn whom_a_request_calls() {
        let called = |version, target: &'static str, hosts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            hosts.iter().for_each(|host| {
                headers.append(header::HOST, HeaderValue::from_static(host));
            });
            let target = Uri::from_static(target);
            let named = called(version, &target, &headers)?;
            Ok::<_, String>(named.map(|named| named.map(|(name, port)| format!("{name} {}", port.unwrap_or(0)))))
        };
        let named = |target: Option<&str>, host: Option<&str>| Ok([target.map(str::to_owned), host.map(str::to_owned)]);
        let (one, old, two) = (Version::HTTP_11, Version::HTTP_10, Version::HTTP_2);
        assert_eq!(called(one, "/v1/models", &["localhost:8484"]), named(None, Some("localhost 8484")));
        assert_eq!(called(one, "/", &["[::1]:1"]), named(None, Some("::1 1")));
        assert_eq!(called(one, "/", &["localhost:"]), named(None, Some("localhost 0")));
        assert_eq!(called(one, "http://evil.example/v1/models", &["localhost"]), named(Some("evil.example 0"), Some("localhost 0")));
        assert_eq!(called(old, "/", &[]), named(None, None));
        assert_eq!(called(old, "http://localhost/", &[]), named(Some("localhost 0"), None));
        assert_eq!(called(two, "http://localhost:1/", &[]), named(Some("localhost 1"), None));
        assert_eq!(called(two, "http://localhost:80/", &["LOCALHOST"]), named(Some("localhost 80"), Some("LOCALHOST 0")));
        let wrong = |version, target, hosts: &[&'static str]| called(version, target, hosts).expect_err("wrong");
        for version in [old, one, two] {
            assert!(wrong(version, "/", &["localhost", "localhost"]).contains("more than one"));
            for host in [
                "",
                ":80",
                "a b",
                "a@localhost",
                "localhost:x",
                "localhost:+1",
                "localhost:99999",
                "[::1",
                "[::1]x",
                "[localhost]",
                "a/b",
                "a,b c",
                "localhost:1:2",
                "http://localhost",
            ] {
                assert!(wrong(version, "/", &[host]).contains("is no name"), "{host}");
            }
        }
        assert!(wrong(one, "/", &[]).contains("send a `host` header") && wrong(two, "/", &[]).contains("send a `host` header"));
        assert!(wrong(one, "http://localhost/", &[]).contains("send a `host` header"));
        assert!(wrong(one, "http://localhost@evil.example/", &["localhost"]).contains("is no name"));
        assert!(wrong(two, "http://localhost/", &["evil.example"]).contains("differs"));
        assert!(wrong(two, "http://localhost:1/", &["localhost:2"]).contains("differs"));
    }

    #[test]
    fn pages_that_may_call() {
        let config = Config { origins: vec!["https://app.example".to_owned()], ..Config::default() };
        let allowed = |origin: &'static str| origin_allowed(&config, &HeaderValue::from_static(origin));
        assert!(allowed("https://app.example") && allowed("http://localhost:5173") && allowed("http://[::1]:1"));
        assert!(!allowed("https://app.example.evil") && !allowed("null") && !allowed("http://localhost.evil") && !allowed("file://"));
    }
}
