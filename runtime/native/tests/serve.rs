//! The server as an operator and an attacker meet it: real processes, sockets, signals and files.
#![cfg(all(unix, feature = "server"))]

#[path = "serve/heads.rs"]
mod heads;
#[path = "serve/store.rs"]
mod store;
#[path = "serve/waiting.rs"]
mod waiting;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use firecrest::server::store::Store;
use serde_json::Value;

/// A fuse against hangs, not a time that anything must keep.
const FUSE: Duration = Duration::from_secs(60);

/// A folder of this test's own.
fn scratch(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("serve-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// A server, ended with the test.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts one with this configuration, after these words to the shell, and waits until it listens.
    fn start(folder: &Path, config: &str, before: &str) -> Server {
        let mut child = serve(folder, config, before).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let mut said = Vec::new();
        while let Some(Ok(line)) = lines.next() {
            if let Some((_, address)) = line.split_once("listening on http://") {
                let address = address.parse().expect("an address");
                std::thread::spawn(move || lines.for_each(drop));
                return Server { child, address };
            }
            said.push(line);
        }
        panic!("it ended before it listened: {}", said.join("\n"));
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status().expect("a shell");
        assert!(sent.success(), "{name}");
    }

    /// Sends this, and gives what comes until the connection ends.
    fn exchange(&self, sent: &str) -> String {
        exchange(self.address, sent)
    }

    fn get(&self, path: &str, key: &str) -> (u16, String) {
        let key = if key.is_empty() { String::new() } else { format!("authorization: Bearer {key}\r\n") };
        answer(&self.exchange(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{key}\r\n")))
    }

    fn post(&self, path: &str, key: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {key}\r\ncontent-length: {length}\r\n\r\n"
        );
        answer(&self.exchange(&(head + body)))
    }

    /// Waits until this path has this status.
    fn until(&self, path: &str, status: u16) -> String {
        let since = Instant::now();
        loop {
            let (found, body) = self.get(path, "");
            if found == status {
                return body;
            }
            assert!(since.elapsed() < FUSE, "{path} says {found}: {body}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let connection = TcpStream::connect(address).expect("a connection");
    connection.set_read_timeout(Some(FUSE)).expect("a timeout");
    connection
}

fn exchange(address: SocketAddr, sent: &str) -> String {
    let mut connection = connect(address);
    // It may be answered, and closed, before all of it is sent.
    let _ = connection.write_all(sent.as_bytes());
    rest(&mut connection)
}

fn rest(connection: &mut TcpStream) -> String {
    let mut received = Vec::new();
    let _ = connection.read_to_end(&mut received);
    String::from_utf8_lossy(&received).into_owned()
}

fn answer(received: &str) -> (u16, String) {
    let status = received.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no answer: {received:?}"));
    (status, received.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

/// A server's command. `before` is what the shell does first.
fn serve(folder: &Path, config: &str, before: &str) -> Command {
    let file = folder.join("server.toml");
    let store = folder.join("store.sqlite");
    std::fs::write(&file, format!("store = {:?}\n{config}", store.display().to_string())).expect("written");
    let mut command = Command::new("sh");
    let script = format!("{before}\nexec \"$0\" serve --config \"$1\" --port \"${{PORT:-0}}\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_firecrest")]).arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn keys(folder: &Path, arguments: &[&str]) -> Output {
    let store = folder.join("store.sqlite");
    let output = Command::new(env!("CARGO_BIN_EXE_firecrest")).arg("keys").args(arguments).arg("--store").arg(&store).output();
    let output = output.expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A new key, and its id.
fn new_key(folder: &Path, tier: &str) -> (String, String) {
    let made: Value = serde_json::from_slice(&keys(folder, &["create", "--tier", tier, "--json"]).stdout).expect("JSON");
    let text = |name: &str| made[name].as_str().expect("text").to_owned();
    (text("key"), text("id"))
}

#[test]
fn a_log_that_cannot_be_written_fails_no_request() {
    let folder = scratch("log");
    // The reader goes; the reader sleeps; the disk is full.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    for (how, redirect) in
        [("gone", "2> >(head -n 1 > /dev/null)"), ("asleep", "2> >(exec sleep 30)"), ("full", "2> /dev/full"), ("closed", "2>&-")]
    {
        let command = serve(&folder, "auth = false\n", &format!("exec {redirect}"));
        // Process substitution is bash's.
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_owned()).collect();
        let mut child =
            Command::new("bash").args(arguments).env("PORT", port.to_string()).stdout(Stdio::null()).spawn().expect("it starts");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let since = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(since.elapsed() < FUSE && child.try_wait().expect("a child").is_none(), "{how}: it does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        // Many more lines than a pipe holds.
        let mut connection = connect(address);
        for _ in 0..600 {
            connection.write_all(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("sent");
            let mut seen = Vec::new();
            while !seen.ends_with(b"}") {
                let mut some = [0; 4096];
                let count = connection.read(&mut some).expect("an answer");
                assert!(count > 0, "{how}: dropped after {}", String::from_utf8_lossy(&seen));
                seen.extend_from_slice(&some[..count]);
            }
            assert!(seen.starts_with(b"HTTP/1.1 200"), "{how}: {}", String::from_utf8_lossy(&seen));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[test]
fn nobody_sends_a_body_who_may_not() {
    let folder = scratch("bodies");
    let server = Server::start(&folder, "body_limit = 33554432\n", "");
    let (key, _) = new_key(&folder, "standard");
    let begun = |path: &str, more: &str| {
        server.exchange(&format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\nconnection: close\r\n{more}\r\n"))
    };
    let large = "content-length: 33554432\r\n";
    for (path, more, status) in [
        ("/v1/messages", String::new(), "401"),
        ("/v1/chat/completions", "authorization: Bearer fc-0000000000000000-0\r\n".to_owned(), "401"),
        ("/v1/moderations", String::new(), "401"),
        ("/v1/moderate", String::new(), "401"),
        ("/admin/models/firecrest-chat/load", String::new(), "401"),
        ("/x", String::new(), "404"),
        ("/v1/models", String::new(), "405"),
        ("/v1/messages", format!("x-api-key: {key}\r\ncontent-encoding: gzip\r\n"), "400"),
    ] {
        // What the body says is never sent, and the answer comes nevertheless; nor does anybody ask for it.
        for body in [large, "transfer-encoding: chunked\r\n"] {
            let told = begun(path, &format!("{more}{body}"));
            assert_eq!(told.get(9..12), Some(status), "{path} {more} {told}");
        }
    }
    // Whoever may is asked for it, and has the whole of it judged.
    let mut connection = connect(server.address);
    let body = r#"{"text": "hello"}"#;
    let head = format!(
        "POST /v1/moderate HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\nconnection: close\r\nx-api-key: {key}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).expect("sent");
    let mut asked = [0; 25];
    connection.read_exact(&mut asked).expect("it is asked for");
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.write_all(body.as_bytes()).expect("sent");
    assert_eq!(answer(&rest(&mut connection)).0, 200);
    // What is too large is refused by its own word.
    for length in ["33554433", "1000000000000000000"] {
        let told = begun("/v1/messages", &format!("x-api-key: {key}\r\ncontent-length: {length}\r\n"));
        assert_eq!(told.get(9..12), Some("413"), "{told}");
    }
    // An answer that comes before its question is whole is read nevertheless.
    let told = server.exchange(&format!("POST /v1/messages HTTP/1.1\r\nhost: localhost\r\n{large}\r\n{}", " ".repeat(1 << 20)));
    assert_eq!(told.get(9..12), Some("401"), "{told}");
}

#[test]
fn slow_senders_hold_nothing_for_ever() {
    let folder = scratch("slow");
    let config = "auth = false\n[timeouts]\nhead = 2\nbody = 1\nupload = 3\n";
    let server = Server::start(&folder, config, "");
    let head = "POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n";
    // A byte now and then; nothing at all; a head that never ends; a head of too much.
    for (what, begin, every, status) in
        [("drips", head, " ", "408"), ("pauses", head, "", "408"), ("a slow head", "GET /healthz HTTP/1.1\r\nx: ", "y", "")]
    {
        let mut connection = connect(server.address);
        connection.write_all(begin.as_bytes()).expect("sent");
        connection.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        let (since, mut seen) = (Instant::now(), Vec::new());
        let mut some = [0; 4096];
        loop {
            assert!(since.elapsed() < FUSE, "{what}: it is still held");
            match connection.read(&mut some) {
                Ok(0) => break,
                Ok(count) => seen.extend_from_slice(&some[..count]),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    if connection.write_all(every.as_bytes()).is_err() {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        let seen = String::from_utf8_lossy(&seen);
        assert!(status.is_empty() || seen.get(9..12) == Some(status), "{what}: {seen}");
    }
    for (headers, status) in [("x: y\r\n".repeat(200), "431"), (format!("x: {}\r\n", "y".repeat(100_000)), "431")] {
        let told = server.exchange(&format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n"));
        assert_eq!(told.get(9..12), Some(status), "{told}");
    }
    // HTTP/2 that answers pings, and asks nothing.
    let mut connection = connect(server.address);
    connection.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("sent");
    let mut frame = [0; 9];
    while connection.read_exact(&mut frame).is_ok() {
        let mut payload = vec![0; usize::from(frame[1]) << 8 | usize::from(frame[2])];
        connection.read_exact(&mut payload).expect("a whole frame");
        if frame[3] == 6 && frame[4] & 1 == 0 {
            frame[4] = 1;
            let _ = connection.write_all(&frame).and_then(|()| connection.write_all(&payload));
        }
    }
    assert_eq!(server.get("/healthz", "").0, 200);
}

/// The descriptors are few, and those who hold them slow.
#[test]
fn a_flood_of_connections_keeps_nobody_out() {
    let folder = scratch("flood");
    let server = Server::start(&folder, "auth = false\n", "ulimit -n 160");
    let head = "POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n ";
    let mut held = Vec::new();
    for n in 0..400 {
        let mut connection = TcpStream::connect(server.address).expect("a connection");
        let _ = connection.write_all(if n % 2 == 0 { head } else { "GET /" }.as_bytes());
        held.push(connection);
        if n % 40 == 39 {
            assert_eq!(server.get("/healthz", "").0, 200, "{n}");
            assert_eq!(server.get("/v1/models", "").0, 200, "{n}");
        }
    }
    for _ in 0..10 {
        assert_eq!(server.get("/healthz", "").0, 200);
    }
}

#[test]
fn bodies_share_a_bounded_room() {
    let folder = scratch("room");
    let server = Server::start(&folder, "body_limit = 1000\nbodies = 4000\n", "");
    let (greedy, other) = (new_key(&folder, "standard").0, new_key(&folder, "standard").0);
    let begin = |key: &str| {
        let mut connection = connect(server.address);
        let head = format!("POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\ncontent-length: 1000\r\n\r\n");
        connection.write_all((head + &" ".repeat(900)).as_bytes()).expect("sent");
        connection
    };
    let _held = [begin(&greedy), begin(&greedy)];
    // They have to be read first.
    std::thread::sleep(Duration::from_millis(500));
    let told = rest(&mut begin(&greedy));
    assert!(told.get(9..12) == Some("429") && told.contains("\r\nretry-after: 1\r\n"), "{told}");
    // Another key's is read, and judged by what it says.
    assert_eq!(server.post("/v1/moderate", &other, r#"{"text": "hello"}"#).0, 200);
    assert_eq!(server.post("/v1/moderate", &greedy, r#"{"text": "hello"}"#).0, 200, "what is small has room");
}

#[test]
fn wrong_keys_are_many_and_good_ones_go_on() {
    let folder = scratch("wrong");
    let server = Server::start(&folder, "", "");
    let (key, _) = new_key(&folder, "standard");
    let statuses: Vec<u16> = (0..70).map(|n| server.get("/v1/models", &format!("fc-wrong-{n}")).0).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 60, "{statuses:?}");
    assert!(statuses[60..].iter().all(|status| *status == 429), "{statuses:?}");
    assert_eq!(server.get("/v1/models", &key).0, 200, "from the same address");
}

#[test]
fn one_server_owns_a_store_until_it_is_gone_however_it_goes() {
    let folder = scratch("owner");
    let mut first = Server::start(&folder, "", "");
    let second = serve(&folder, "", "").stderr(Stdio::piped()).output().expect("it ends");
    let why = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && why.contains("another server uses this store") && why.contains("--store"), "{why}");
    let (key, id) = new_key(&folder, "standard");
    assert_eq!(first.get("/v1/models", &key).0, 200);
    keys(&folder, &["revoke", &id]);
    assert_eq!(first.get("/v1/models", &key).0, 401);
    first.child.kill().expect("killed with SIGKILL");
    first.child.wait().expect("it ends");
    let third = Server::start(&folder, "", "");
    let (key, _) = new_key(&folder, "standard");
    assert_eq!(third.get("/v1/models", &key).0, 200);
}

#[test]
fn a_store_that_goes_is_missed() {
    let folder = scratch("gone");
    let server = Server::start(&folder, "", "");
    let (key, _) = new_key(&folder, "standard");
    assert_eq!((server.get("/v1/models", &key).0, server.get("/readyz", "").0), (200, 200));
    let (store, aside) = (folder.join("store.sqlite"), folder.join("aside.sqlite"));
    std::fs::rename(&store, &aside).expect("moved");
    assert!(server.until("/readyz", 503).contains("store"));
    assert_eq!(server.get("/healthz", "").0, 200);
    assert_eq!(server.get("/v1/models", &key).0, 503, "a key that can't be revoked any more is not believed");
    std::fs::copy(&aside, &store).expect("replaced");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(server.get("/readyz", "").0, 503);
    std::fs::rename(&aside, &store).expect("put back");
    server.until("/readyz", 200);
    assert_eq!(server.get("/v1/models", &key).0, 200);
}

#[test]
fn a_damaged_store_starts_no_server() {
    let folder = scratch("damaged");
    for _ in 0..40 {
        new_key(&folder, "standard");
    }
    let store = folder.join("store.sqlite");
    let whole = std::fs::read(&store).expect("a file");
    for (what, bytes) in
        [("cut", Vec::new()), ("cut short", whole[..4096].to_vec()), ("zeroed", [&whole[..4096], &[0; 4096], &whole[8192..]].concat())]
    {
        std::fs::write(&store, bytes).expect("written");
        let output = serve(&folder, "", "").stderr(Stdio::piped()).output().expect("it ends");
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && why.contains("store.sqlite") && why.contains("put a copy of it back"), "{what}: {why}");
    }
}

#[test]
fn signals_reload_and_do_not_kill() {
    let folder = scratch("signals");
    let rules = folder.join("rules.toml");
    let rule = |word: &str| {
        let text = format!(
            "format = 1\nrevision = \"1\"\n[[category]]\nid = \"animals\"\nabout = \"Animals\"\n[[rule]]\nid = \"animals.one\"\ncategory = \"animals\"\nabout = \"One\"\n\
             input = \"block\"\nkind = \"literal\"\nany = [\"{word}\"]\nexamples = [\"a {word}\"]\n"
        );
        std::fs::write(&rules, text).expect("written");
    };
    rule("zebra");
    let config = format!("rules = {:?}\n", rules.display().to_string());
    let mut server = Server::start(&folder, &config, "");
    let (key, _) = new_key(&folder, "standard");
    let blocks = |server: &Server, word: &str| {
        let (status, body) = server.post("/v1/moderate", &key, &format!(r#"{{"text": "a {word}"}}"#));
        assert_eq!(status, 200, "{body}");
        body.contains("animals.one")
    };
    assert!(blocks(&server, "zebra") && !blocks(&server, "heron"));
    for signal in ["USR1", "USR2"] {
        server.signal(signal);
    }
    rule("heron");
    server.signal("HUP");
    let since = Instant::now();
    while !blocks(&server, "heron") {
        assert!(since.elapsed() < FUSE, "it reads nothing again");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!blocks(&server, "zebra"));
    // What makes no sense changes nothing.
    std::fs::write(&rules, "nonsense").expect("written");
    server.signal("HUP");
    std::thread::sleep(Duration::from_millis(500));
    assert!(blocks(&server, "heron") && server.child.try_wait().expect("a child").is_none());
    // A tier that was not there is, once it is read again.
    rule("heron");
    let (later, _) = new_key(&folder, "later");
    assert_eq!(server.get("/v1/models", &later).0, 500);
    let file = folder.join("server.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, format!("{text}[tiers.later]\nrequests_per_minute = 3\n")).expect("written");
    server.signal("HUP");
    let since = Instant::now();
    while server.get("/v1/models", &later).0 == 500 {
        assert!(since.elapsed() < FUSE, "it reads nothing again");
        std::thread::sleep(Duration::from_millis(50));
    }
    server.signal("TERM");
    assert!(server.child.wait().expect("it ends").success());
}

/// By another process, as `firecrest keys revoke` does.
#[test]
fn a_key_that_is_revoked_ends_its_streams() {
    use http_body_util::BodyExt;
    let folder = scratch("revoked");
    let path = folder.join("store.sqlite");
    let endless = || {
        let pace = std::rc::Rc::new(|_: usize| -> std::pin::Pin<Box<dyn Future<Output = ()>>> {
            Box::pin(tokio::time::sleep(Duration::from_millis(20)))
        });
        firecrest::server::Scripted::saying(&[&"tick tock ".repeat(100_000)]).at_pace(pace)
    };
    let (first, second) = {
        let store = Store::open(&path).expect("a store");
        (store.create("a", "standard", false).expect("a key"), store.create("b", "standard", false).expect("a key"))
    };
    let service = firecrest::Service::builder().scripted("endless", endless).store(&path).build().expect("a service");
    let ask = |path: &str, key: &str, stream: bool| {
        let body = format!(
            r#"{{"model": "endless", "max_tokens": 100000, "stream": {stream}, "messages": [{{"role": "user", "content": "Hi"}}]}}"#
        );
        let request = http::Request::post(path).header("authorization", format!("Bearer {key}")).body(bytes::Bytes::from(body));
        service.call(request.expect("a request"))
    };
    pollster::block_on(async {
        let key = first.1.expose();
        let (messages, chat) = (ask("/v1/messages", &key, true).await, ask("/v1/chat/completions", &key, true).await);
        let mut other = ask("/v1/messages", &second.1.expose(), true).await.into_body();
        assert_eq!((messages.status().as_u16(), chat.status().as_u16()), (200, 200));
        let whole = async {
            let (whole, ()) = futures_util::future::join(ask("/v1/messages", &key, false), async {
                std::thread::sleep(Duration::from_millis(100));
                Store::open(&path).expect("the store").revoke(&first.0.id).expect("revoked");
            })
            .await;
            whole
        };
        let whole = whole.await;
        assert_eq!(whole.status(), 401);
        let read =
            |body: axum::body::Body| async move { String::from_utf8_lossy(&body.collect().await.expect("whole").to_bytes()).into_owned() };
        let (messages, chat) = (read(messages.into_body()).await, read(chat.into_body()).await);
        assert!(messages.contains("authentication_error") && !messages.contains("message_stop"), "{}", &messages[messages.len() - 400..]);
        assert!(chat.contains("no longer valid") && !chat.contains("[DONE]"), "{}", &chat[chat.len() - 400..]);
        // Another key's goes on.
        assert!(other.frame().await.is_some_and(|frame| frame.is_ok()));
        drop(other);
        assert_eq!(ask("/v1/messages", &key, true).await.status(), 401);
    });
    pollster::block_on(service.stop());
}
