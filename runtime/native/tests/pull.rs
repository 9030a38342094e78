//! `firecrest pull` against a hub on loopback: what it fetches, what opens afterwards, and what it does when the hub misbehaves.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the hub does wrong with the bodies of large files.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// Sends this many bytes of each body, then nothing, and keeps the connection.
    Stall(usize),
    /// Closes the connection after this many bytes of a body.
    Cut(usize),
    /// Sends whole files, whatever range is asked for.
    NoRanges,
    /// Flips a bit.
    Corrupt,
}

/// A hub with one repository, `o/r`.
struct Hub {
    port: u16,
    home: PathBuf,
    requests: Arc<Mutex<Vec<String>>>,
    fault: Arc<Mutex<Fault>>,
    bodies: Arc<AtomicUsize>,
}

fn serve(
    mut stream: TcpStream,
    files: &HashMap<String, Vec<u8>>,
    requests: &Mutex<Vec<String>>,
    fault: &Mutex<Fault>,
    bodies: &AtomicUsize,
) {
    loop {
        let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
        let mut first = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let mut range = None;
        let mut token = String::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
                break;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("range: bytes=") {
                let (from, to) = value.trim().split_once('-').expect("a range");
                range = Some((from.parse::<usize>().expect("a start"), to.parse::<usize>().ok()));
            }
            if lower.starts_with("authorization:") {
                token = line.trim().to_owned();
            }
        }
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        requests.lock().unwrap().push(format!("{path} {token}"));
        let mut send = |head: String, body: &[u8]| stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).is_ok();
        if path.starts_with("/api/models/o/r") {
            let siblings: Vec<String> = files.keys().map(|name| format!("{{\"rfilename\":\"{name}\"}}")).collect();
            let body = format!("{{\"sha\":\"{SHA}\",\"siblings\":[{}]}}", siblings.join(","));
            send(format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len()), body.as_bytes());
            continue;
        }
        let Some(bytes) = path.strip_prefix("/o/r/resolve/main/").and_then(|name| files.get(name)) else {
            send("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(), b"");
            continue;
        };
        let large = bytes.len() > 4096;
        let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let etag = if large { hash } else { hash[..40].to_owned() };
        let probe = matches!(range, Some((0, Some(0))));
        let fault = if large && !probe { *fault.lock().unwrap() } else { Fault::None };
        let mut body = bytes.clone();
        let (status, from, to) = match range {
            Some((from, to)) if fault != Fault::NoRanges => {
                ("206 Partial Content", from.min(body.len()), to.map_or(body.len(), |to| to + 1))
            }
            _ => ("200 OK", 0, body.len()),
        };
        let total = body.len();
        let to = to.min(total).max(from);
        let head = format!(
            "HTTP/1.1 {status}\r\netag: \"{etag}\"\r\nx-repo-commit: {SHA}\r\ncontent-range: bytes {from}-{}/{total}\r\ncontent-length: {}\r\n\r\n",
            to.saturating_sub(1),
            to - from
        );
        if !probe {
            bodies.fetch_add(to - from, Ordering::Relaxed);
        }
        match fault {
            Fault::Stall(after) => {
                send(head, &body[from..(from + after).min(to)]);
                std::thread::sleep(Duration::from_secs(30));
                return;
            }
            Fault::Cut(after) => {
                send(head, &body[from..(from + after).min(to)]);
                return;
            }
            Fault::Corrupt => body[total / 2] ^= 1,
            Fault::None | Fault::NoRanges => {}
        }
        if !send(head, &body[from..to]) {
            return;
        }
    }
}

impl Hub {
    fn new(files: &[(&str, &[u8])], fault: Fault) -> Hub {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let files: Arc<HashMap<String, Vec<u8>>> =
            Arc::new(files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (requests, fault, bodies) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(Mutex::new(fault)), Arc::<AtomicUsize>::default());
        let shared = (requests.clone(), fault.clone(), bodies.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (files, (requests, fault, bodies)) = (files.clone(), shared.clone());
                std::thread::spawn(move || serve(stream, &files, &requests, &fault, &bodies));
            }
        });
        let name = format!("hub-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&home);
        Hub { port, home, requests, fault, bodies }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firecrest"));
        command
            .args(arguments)
            .env("HF_HOME", &self.home)
            .env("HF_ENDPOINT", format!("http://127.0.0.1:{}", self.port))
            .env("HF_TOKEN", "hf_secret");
        command.output().expect("the binary starts")
    }

    fn pull(&self, name: &str) -> Result<Vec<String>, String> {
        let output = self.run(&["pull", name, "--timeout", "1"]);
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

#[cfg(feature = "embedded")]
fn chat_model() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/chat.gguf")).expect("the model that ships")
}

fn ends(paths: &[String], expected: &[&str]) {
    let found: Vec<&str> = paths.iter().filter_map(|path| path.split(SHA).nth(1).map(|p| p.trim_start_matches('/'))).collect();
    assert_eq!(found, expected);
}

#[cfg(feature = "embedded")]
#[test]
fn a_pulled_model_opens_by_the_name_it_was_pulled_by() {
    let model = chat_model();
    let hub = Hub::new(
        &[("README.md", b"x"), ("Q4/m-Q4_0.gguf", &model), ("Q8/m-Q8_0.gguf", b"GGUF"), ("mmproj-Q4_0.gguf", b"GGUF")],
        Fault::None,
    );
    ends(&hub.pull("hf:o/r:q4_0").expect("pulled"), &["Q4/m-Q4_0.gguf"]);
    // Only one model was pulled: the repository's name is enough.
    for name in ["hf:o/r:Q4_0", "hf:o/r/Q4/m-Q4_0.gguf", "hf:o/r"] {
        let output = hub.run(&["generate", "--model", name, "--prompt", "Once", "--max-tokens", "2", "--backend", "cpu"]);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let several = hub.pull("hf:o/r").expect_err("two models");
    assert!(several.contains("several models") && several.contains("Q8/m-Q8_0.gguf"), "{several}");
    let absent = hub.pull("hf:o/r:Q5_K_M").expect_err("no such quant");
    assert!(absent.contains("no GGUF file named after Q5_K_M"), "{absent}");
    let output = hub.run(&["generate", "--model", "hf:o/r:Q8_0", "--prompt", "a"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("Q8_0"), "{output:?}");
    assert!(hub.requests.lock().unwrap().iter().all(|request| request.ends_with("Bearer hf_secret")));
}

#[test]
fn a_part_brings_the_whole_model_and_a_folder_its_pooling() {
    let parts: Vec<(String, Vec<u8>)> = (1..=3).map(|i| (format!("split/m-0000{i}-of-00003.gguf"), vec![i; 8])).collect();
    let files: Vec<(&str, &[u8])> = parts.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let hub = Hub::new(&files, Fault::None);
    for name in ["hf:o/r", "hf:o/r/split/m-00002-of-00003.gguf"] {
        ends(&hub.pull(name).expect("pulled"), &files.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }
    let folder: [(&str, &[u8]); 5] = [
        ("config.json", b"{}"),
        ("1_Pooling/config.json", b"{}"),
        ("modules.json", b"[]"),
        ("model.safetensors", b"x"),
        ("onnx/model.onnx", b"x"),
    ];
    let hub = Hub::new(&folder, Fault::None);
    ends(&hub.pull("hf:o/r").expect("pulled"), &["config.json", "modules.json", "1_Pooling/config.json", "model.safetensors"]);
}

#[test]
fn a_hub_that_stalls_is_given_up_and_resumed() {
    let body: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
    let hub = Hub::new(&[("m.gguf", &body)], Fault::Stall(150_000));
    let why = hub.pull("hf:o/r").expect_err("it stalls");
    assert!(why.contains("sent nothing for 1 s") && why.contains("resume"), "{why}");
    hub.set(Fault::None);
    hub.bodies.store(0, Ordering::Relaxed);
    let paths = hub.pull("hf:o/r").expect("resumed");
    assert_eq!(std::fs::read(&paths[0]).expect("the file"), body);
    let again = hub.bodies.load(Ordering::Relaxed);
    assert!(again < 60_000, "{again} bytes were sent again");
}

#[test]
fn a_connection_that_breaks_is_resumed_at_once() {
    let body: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    let hub = Hub::new(&[("m.gguf", &body)], Fault::Cut(100_000));
    let paths = hub.pull("hf:o/r").expect("three pieces");
    assert_eq!(std::fs::read(&paths[0]).expect("the file"), body);
    // Nothing comes any more: it ends.
    let hub = Hub::new(&[("m.gguf", &body)], Fault::Cut(0));
    assert!(hub.pull("hf:o/r").is_err());
}

#[test]
fn what_is_not_what_the_hub_promised_is_not_kept() {
    let body: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
    let hub = Hub::new(&[("m.gguf", &body)], Fault::Corrupt);
    let why = hub.pull("hf:o/r").expect_err("a wrong bit");
    assert!(why.contains("does not have the hash"), "{why}");
    let output = hub.run(&["generate", "--model", "hf:o/r", "--prompt", "a"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("has not been pulled yet"), "{output:?}");
    // A hub without ranges: what was there is not glued to the whole.
    hub.set(Fault::Stall(50_000));
    hub.pull("hf:o/r").expect_err("it stalls");
    hub.set(Fault::NoRanges);
    let paths = hub.pull("hf:o/r").expect("from the beginning");
    assert_eq!(std::fs::read(&paths[0]).expect("the file"), body);
}

#[test]
fn what_is_not_there_is_said() {
    let hub = Hub::new(&[("m.gguf", b"GGUF")], Fault::None);
    let why = hub.pull("hf:o/absent").expect_err("no repository");
    assert!(why.contains("no such repository or file"), "{why}");
    let why = hub.pull("hf:o/r/x.gguf").expect_err("no file");
    assert!(why.contains("has no file x.gguf"), "{why}");
    for name in ["o/r", "hf:o/r/../x", "hf:../r"] {
        assert!(hub.pull(name).expect_err(name).contains("write hf:owner/repo"), "{name}");
    }
    // Without the hub, what was pulled is used.
    hub.pull("hf:o/r").expect("pulled");
    let output = Command::new(env!("CARGO_BIN_EXE_firecrest"))
        .args(["pull", "hf:o/r"])
        .env("HF_HOME", &hub.home)
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .output()
        .expect("the binary starts");
    assert!(output.status.success() && String::from_utf8_lossy(&output.stderr).contains("using what was pulled before"), "{output:?}");
}
