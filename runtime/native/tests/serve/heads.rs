//! Heads of requests: whom they call, and by which method.

use std::collections::BTreeSet;

use super::*;

/// The status and the body of what comes for a head.
fn told(server: &Server, head: &str) -> (u16, String) {
    answer(&server.exchange(&format!("{head}connection: close\r\n\r\n")))
}

/// RFC 9112, 3.2: what names no server, two, or one by nonsense is refused. So is, on loopback, a name that is not ours, wherever it stands: a page may have pointed
/// it here.
#[test]
fn a_request_names_one_server_and_it_is_this_one() {
    let folder = scratch("names");
    let server = Server::start(&folder, "auth = false\nhosts = [\"known.example\"]\n", "");
    for (head, status, why) in [
        ("GET /v1/models HTTP/1.1\r\nhost: localhost\r\n", 200, "\"data\""),
        ("GET /v1/models HTTP/1.1\r\nhost: [::1]:8484\r\n", 200, "\"data\""),
        ("GET /v1/models HTTP/1.1\r\nhost: KNOWN.example:80\r\n", 200, "\"data\""),
        ("GET http://known.example/v1/models HTTP/1.1\r\nhost: known.example\r\n", 200, "\"data\""),
        ("GET http://127.0.0.1:1/v1/models HTTP/1.0\r\n", 200, "\"data\""),
        ("GET /v1/models HTTP/1.1\r\n", 400, "send a `host` header"),
        ("GET /healthz HTTP/1.1\r\n", 400, "send a `host` header"),
        ("GET /v1/models HTTP/1.0\r\n", 400, "send a `host` header"),
        ("GET http://localhost/v1/models HTTP/1.1\r\n", 400, "send a `host` header"),
        ("GET /v1/models HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n", 400, "more than one"),
        ("GET /v1/models HTTP/1.1\r\nhost: localhost\r\nHost: evil.example\r\n", 400, "more than one"),
        ("GET /v1/models HTTP/1.1\r\nhost:\r\n", 400, "host: `` is no name"),
        ("GET /v1/models HTTP/1.1\r\nhost: localhost:port\r\n", 400, "host: `localhost:port` is no name"),
        ("GET /v1/models HTTP/1.1\r\nhost: a b\r\n", 400, "host: `a b` is no name"),
        ("GET /v1/models HTTP/1.1\r\nhost: me@localhost\r\n", 400, "host: `me@localhost` is no name"),
        ("GET /v1/models HTTP/1.1\r\nhost: evil.example\r\n", 403, "is not called `evil.example`"),
        ("GET http://evil.example/v1/models HTTP/1.1\r\nhost: localhost\r\n", 403, "is not called `evil.example`"),
        ("GET http://evil.example/healthz HTTP/1.1\r\nhost: localhost\r\n", 403, "is not called `evil.example`"),
        ("GET http://localhost/v1/models HTTP/1.1\r\nhost: evil.example\r\n", 403, "is not called `evil.example`"),
        ("GET http://evil.example/v1/models HTTP/1.0\r\n", 403, "is not called `evil.example`"),
        ("GET http://localhost@evil.example/v1/models HTTP/1.1\r\nhost: localhost\r\n", 400, "is no name"),
    ] {
        let (found, body) = told(&server, head);
        assert!(found == status && body.contains(why), "{head:?}: {found} {body}");
    }
}

/// RFC 9110, 9.3.2 and 15.5.6.
#[test]
fn what_can_be_got_has_a_head() {
    let folder = scratch("heads");
    let server = Server::start(&folder, "", "");
    let (key, _) = new_key(&folder, "standard");
    let head =
        |received: &str| received.split_once("\r\n\r\n").map(|(head, body)| (head.to_ascii_lowercase(), body.to_owned())).expect("a head");
    for path in ["/v1/models", "/v1/models/firecrest-chat", "/v1/models/nobody", "/v1/organizations/rate_limits", "/healthz", "/readyz"] {
        let send = |method: &str| {
            head(&server.exchange(&format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\nconnection: close\r\n\r\n")))
        };
        let ((got, body), (asked, none)) = (send("GET"), send("HEAD"));
        let names = |head: &str| head.lines().map(|line| line.split(':').next().unwrap_or(line).to_owned()).collect::<BTreeSet<_>>();
        let length = |head: &str| head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        assert_eq!((names(&asked), length(&asked)), (names(&got), Some(body.len())), "{path}");
        assert!(none.is_empty() && !body.is_empty(), "{path}: {none}");
    }
    for path in ["/v1/messages", "/v1/chat/completions", "/v1/embeddings", "/admin/models/m/load"] {
        let (asked, none) =
            head(&server.exchange(&format!("HEAD {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\nconnection: close\r\n\r\n")));
        assert!(asked.starts_with("http/1.1 405") && asked.contains("\r\nallow: post\r\n") && none.is_empty(), "{path}: {asked} {none}");
    }
    let (refused, _) = head(&server.exchange("DELETE /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"));
    assert!(refused.contains("\r\nallow: get,head\r\n"), "{refused}");
    let (stranger, none) = head(&server.exchange("HEAD /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"));
    assert!(stranger.starts_with("http/1.1 401") && none.is_empty(), "{stranger}");
}
