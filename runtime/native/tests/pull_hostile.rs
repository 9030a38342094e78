//! `firecrest pull` against a hub that lies: nothing outside the cache is touched, nothing half is taken for whole, no token goes elsewhere, and each
//! pull ends with an error that says what is wrong.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a hub says; each field may be a lie.
#[derive(Clone)]
struct Says {
    sha: String,
    file: String,
    etag: String,
    commit: String,
    /// The size that is promised, and the bytes that there are.
    size: u64,
    body: Vec<u8>,
    /// Where requests for files are sent.
    location: Option<String>,
    /// The whole answer to the request for the list of files.
    info: Option<String>,
}

fn body() -> Vec<u8> {
    b"GGUFjunk".repeat(1000)
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Default for Says {
    fn default() -> Says {
        let body = body();
        Says {
            sha: SHA.into(),
            file: "m.gguf".into(),
            etag: hash(&body),
            commit: SHA.into(),
            size: body.len() as u64,
            body,
            location: None,
            info: None,
        }
    }
}

fn serve(mut stream: TcpStream, says: &Says, requests: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    let (mut first, mut range, mut head) = (String::new(), None, String::new());
    if reader.read_line(&mut first).unwrap_or(0) == 0 {
        return;
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some((from, to)) = lower.trim().strip_prefix("range: bytes=").and_then(|range| range.split_once('-')) {
            range = Some((from.parse::<usize>().expect("a start"), to.parse::<u64>().ok()));
        }
        head += &lower;
    }
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    requests.lock().unwrap().push(format!("{path}\n{head}"));
    if path.starts_with("/api/") || path.starts_with("/mirror/api/") {
        let body = format!(r#"{{"sha":{:?},"siblings":[{{"rfilename":{:?}}}]}}"#, says.sha, says.file);
        let body = says.info.clone().unwrap_or(body);
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        return;
    }
    let (status, more) = match &says.location {
        Some(location) => ("302 Found", format!("location: {location}\r\ncontent-length: 0\r\n")),
        None => {
            let (from, to) = range.unwrap_or((0, None));
            let to = to.map_or(says.size, |to| (to + 1).min(says.size));
            let length = to.saturating_sub(from as u64);
            let more = format!("content-range: bytes {from}-{}/{}\r\ncontent-length: {length}\r\n", to.saturating_sub(1), says.size);
            ("206 Partial Content", more)
        }
    };
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\netag: \"{}\"\r\nx-repo-commit: {}\r\n{more}\r\n", says.etag, says.commit);
    let _ = stream.write_all(head.as_bytes());
    if let (None, Some((from, to))) = (&says.location, range) {
        let to = to.map_or(says.body.len(), |to| (to as usize + 1).min(says.body.len()));
        let _ = stream.write_all(&says.body[from.min(to)..to]);
    }
}

/// A hub, and a folder in which only `home` may change.
struct Hub {
    port: u16,
    around: PathBuf,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn new(says: Says) -> Hub {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let seen = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (says, seen) = (says.clone(), seen.clone());
                std::thread::spawn(move || serve(stream, &says, &seen));
            }
        });
        let name = format!("hostile-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let around = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&around);
        std::fs::create_dir_all(around.join("a/b")).expect("a folder");
        for victim in ["victim", "a/victim", "a/b/victim"] {
            std::fs::write(around.join(victim), "precious").expect("a file");
        }
        Hub { port, around, requests }
    }

    fn home(&self) -> PathBuf {
        self.around.join("a/b/home of mine")
    }

    fn cache(&self) -> PathBuf {
        self.home().join("hub/models--o--r")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firecrest"));
        command.args(arguments).env("HF_HOME", self.home()).env("HF_TOKEN", "hf_secret").current_dir(&self.around);
        command.env("HF_ENDPOINT", format!("http://127.0.0.1:{}", self.port));
        command
    }

    fn run(&self) -> Output {
        self.command(&["pull", "hf:o/r", "--timeout", "3"]).output().expect("the binary starts")
    }

    /// Pulls, and returns why that failed; nothing outside the cache may have changed.
    fn refused(&self) -> String {
        let output = self.run();
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{output:?}");
        assert!(!why.contains("panicked") && !why.contains("report it"), "{why}");
        assert!(!why.contains('\u{1b}'), "{why:?}");
        self.untouched();
        why
    }

    fn untouched(&self) {
        let names = |folder: &str| {
            let mut names: Vec<String> = std::fs::read_dir(self.around.join(folder))
                .expect("a folder")
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .filter(|name| name != "home of mine")
                .collect();
            names.sort();
            names
        };
        assert_eq!(
            (names(""), names("a"), names("a/b")),
            (vec!["a".into(), "victim".into()], vec!["b".into(), "victim".into()], vec!["victim".into()])
        );
        for victim in ["victim", "a/victim", "a/b/victim"] {
            assert_eq!(std::fs::read_to_string(self.around.join(victim)).expect("a file"), "precious", "{victim}");
        }
        assert!(!self.cache().join("refs/main").exists());
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.around);
    }
}

const NO_NAMES: [&str; 14] = [
    "../../../../victim",
    "../../../../../victim",
    "..",
    ".",
    ".hidden",
    "",
    "a/b",
    "/victim",
    "a\\\\b",
    "C:x",
    "nul",
    "COM1.bin",
    "a b",
    "../../../../new",
];

#[test]
fn an_etag_or_commit_that_is_no_name_is_refused() {
    for name in NO_NAMES {
        let why = Hub::new(Says { etag: name.into(), ..Says::default() }).refused();
        assert!(why.contains("as etag, which can't name a file"), "{name}: {why}");
        let why = Hub::new(Says { commit: name.into(), ..Says::default() }).refused();
        assert!(why.contains("as x-repo-commit, which can't name a file"), "{name}: {why}");
        let why = Hub::new(Says { sha: name.replace("\\\\", "\\"), ..Says::default() }).refused();
        assert!(why.contains("as commit, which can't name a file"), "{name}: {why}");
    }
    let why = Hub::new(Says { etag: "a".repeat(5000), ..Says::default() }).refused();
    assert!(why.contains("can't name a file") && why.len() < 1000, "{why}");
}

#[test]
fn files_outside_the_repository_are_not_files_of_it() {
    for file in [
        "../m.gguf",
        "/m.gguf",
        "a/../../m.gguf",
        "a//m.gguf",
        "a\\m.gguf",
        "C:m.gguf",
        "./m.gguf",
        "nul.gguf",
        "a/com1/m.gguf",
        "a /m.gguf",
    ] {
        let why = Hub::new(Says { file: file.into(), ..Says::default() }).refused();
        assert!(why.contains("neither .safetensors nor .gguf"), "{file}: {why}");
    }
    for file in ["a\\u001b[31m.gguf", "a\\u0000.gguf", "a\\n.gguf"] {
        let info = format!(r#"{{"sha":"{SHA}","siblings":[{{"rfilename":"{file}"}}]}}"#);
        let why = Hub::new(Says { info: Some(info), ..Says::default() }).refused();
        assert!(why.contains("neither .safetensors nor .gguf"), "{file}: {why}");
    }
    let long = format!("{}.gguf", "x".repeat(300));
    assert!(Hub::new(Says { file: long, ..Says::default() }).refused().contains("neither .safetensors nor .gguf"));
}

#[test]
fn answers_that_are_no_list_are_refused() {
    let deep = "[".repeat(100_000);
    let long = format!("{{\"x\":\"{}\"}}", "a".repeat(33 << 20));
    for (info, expected) in
        [("", "can't be read"), ("{}", "can't be read"), ("[1]", "can't be read"), (&deep, "can't be read"), (&long, "longer than 32 MiB")]
    {
        let why = Hub::new(Says { info: Some(info.into()), ..Says::default() }).refused();
        assert!(why.contains(expected) && why.len() < 1000, "{why}");
    }
}

#[test]
fn a_hub_that_sends_less_than_it_promises_is_given_up() {
    let short = Says { size: body().len() as u64 + 5, ..Says::default() };
    let hub = Hub::new(short);
    let why = hub.refused();
    assert!(why.contains("8000 of 8005 bytes came") && why.contains("again to resume"), "{why}");
    assert!(hub.requests.lock().unwrap().len() < 12);
    let output = hub.command(&["generate", "--model", "hf:o/r", "--prompt", "a"]).output().expect("the binary starts");
    assert!(String::from_utf8_lossy(&output.stderr).contains("has not been pulled yet"), "{output:?}");
    let why = Hub::new(Says { size: 1_000_000_000_008_000, ..Says::default() }).refused();
    assert!(why.contains("at most 1099511627776"), "{why}");
    // Fewer promised than sent: the hash tells.
    let why = Hub::new(Says { size: 7999, ..Says::default() }).refused();
    assert!(why.contains("does not have the hash"), "{why}");
}

#[test]
fn the_token_goes_to_no_other_host_and_redirects_have_bounds() {
    let other = Hub::new(Says::default());
    let hub = Hub::new(Says { location: Some(format!("http://127.0.0.1:{}/elsewhere", other.port)), ..Says::default() });
    let output = hub.run();
    assert!(output.status.success(), "{output:?}");
    assert!(hub.requests.lock().unwrap().iter().all(|request| request.contains("authorization: bearer hf_secret")));
    let elsewhere = other.requests.lock().unwrap().clone();
    assert!(!elsewhere.is_empty() && elsewhere.iter().all(|request| !request.contains("hf_secret")), "{elsewhere:?}");
    for (location, expected) in [
        ("file:///etc/passwd", "which is not followed"),
        ("ftp://127.0.0.1/x", "which is not followed"),
        ("", "redirects more than 10"),
        ("/o/r/resolve/main/m.gguf", "redirects more than 10"),
        ("http://", "which is not followed"),
    ] {
        let why = Hub::new(Says { location: Some(location.into()), ..Says::default() }).refused();
        assert!(why.contains(expected), "{location}: {why}");
    }
}

#[test]
fn addresses_of_hubs_may_have_paths_and_slashes() {
    for (end, path) in [("/", "/api/models/o/r"), ("/mirror", "/mirror/api/models/o/r"), ("/mirror//", "/mirror/api/models/o/r")] {
        let hub = Hub::new(Says::default());
        let endpoint = format!("http://127.0.0.1:{}{end}", hub.port);
        let output = hub.command(&["pull", "hf:o/r"]).env("HF_ENDPOINT", endpoint).output().expect("the binary starts");
        assert!(output.status.success(), "{output:?}");
        assert!(hub.requests.lock().unwrap()[0].starts_with(path));
    }
    let hub = Hub::new(Says::default());
    for bad in ["file:///tmp", "127.0.0.1", "http://", "http://h/?a=b", "ftp://h"] {
        let output = hub.command(&["pull", "hf:o/r"]).env("HF_ENDPOINT", bad).output().expect("the binary starts");
        assert!(String::from_utf8_lossy(&output.stderr).contains("HF_ENDPOINT"), "{bad}: {output:?}");
    }
    let output = hub.command(&["pull", "hf:o/r"]).env("HF_TOKEN", "a\nb: c").output().expect("the binary starts");
    assert!(String::from_utf8_lossy(&output.stderr).contains("characters that no token has"), "{output:?}");
}

#[test]
fn two_pulls_at_once_and_relative_homes_bring_one_blob() {
    let hub = Hub::new(Says::default());
    let pulls: Vec<_> = (0..3)
        .map(|_| {
            let mut command = hub.command(&["pull", "hf:o/r"]);
            command.env("HF_HOME", "a/b/home of mine").stdout(std::process::Stdio::piped()).spawn().expect("the binary starts")
        })
        .collect();
    for pull in pulls {
        assert!(pull.wait_with_output().expect("an end").status.success());
    }
    let file = hub.cache().join("snapshots").join(SHA).join("m.gguf");
    assert_eq!(std::fs::read(&file).expect("the file"), body());
    assert_eq!(std::fs::read_to_string(hub.cache().join("refs/main")).expect("a reference"), SHA);
    assert_eq!(std::fs::read_dir(hub.cache().join("blobs")).expect("blobs").count(), 1);
}

#[cfg(unix)]
#[test]
fn nothing_is_written_through_a_link_in_the_cache() {
    use std::os::unix::fs::symlink;
    for (link, target) in [
        ("blobs", "../../../.."),
        ("refs", "../../../.."),
        ("snapshots", "../../../.."),
        ("blobs/PART", "../../../../../victim"),
        (&format!("snapshots/{SHA}"), "../../../../.."),
    ] {
        let hub = Hub::new(Says::default());
        let path = hub.cache().join(link.replace("PART", &format!("{}.part", hash(&body()))));
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        symlink(target, &path).expect("a link");
        let why = hub.refused();
        assert!(why.contains("the cache at"), "{link}: {why}");
    }
    // Links of files are replaced, not followed; a reference that is no commit is none.
    let hub = Hub::new(Says::default());
    let victim = hub.around.join("victim");
    let (refs, blobs, snapshot) = (hub.cache().join("refs"), hub.cache().join("blobs"), hub.cache().join("snapshots").join(SHA));
    for folder in [&refs, &blobs, &snapshot] {
        std::fs::create_dir_all(folder).expect("a folder");
    }
    for link in [refs.join("main"), blobs.join(hash(&body())), snapshot.join("m.gguf")] {
        symlink(&victim, link).expect("a link");
    }
    let output = hub.run();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(std::fs::read_to_string(&victim).expect("a file"), "precious");
    assert_eq!(std::fs::read(snapshot.join("m.gguf")).expect("the file"), body());
    std::fs::write(refs.join("main"), "../../../../..").expect("a file");
    let output = hub.command(&["generate", "--model", "hf:o/r", "--prompt", "a"]).output().expect("the binary starts");
    assert!(String::from_utf8_lossy(&output.stderr).contains("has not been pulled yet"), "{output:?}");
}

#[cfg(unix)]
#[test]
fn a_full_disk_and_a_file_in_the_way_are_named() {
    let hub = Hub::new(Says::default());
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" pull hf:o/r", env!("CARGO_BIN_EXE_firecrest")]);
    command.env("HF_HOME", hub.home()).env("HF_ENDPOINT", format!("http://127.0.0.1:{}", hub.port));
    let output = command.output().expect("a shell");
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && why.contains(".part: ") && why.contains("again to resume"), "{why}");
    assert!(hub.run().status.success());
    let output = hub.command(&["pull", "hf:o/r"]).env("HF_HOME", hub.around.join("victim")).output().expect("the binary starts");
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && why.contains("the cache at") && why.contains("victim"), "{why}");
}
