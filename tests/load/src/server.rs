//! The server that is loaded: a process of its own, watched from outside.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use firecrest::server::store::Store;

use crate::http::{Answer, get};

/// A folder that is gone with this.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Result<Scratch, String> {
        let path = std::env::temp_dir().join(format!("firecrest-load-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Scratch(path))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.file(name);
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A key of the store: its public part, and what a caller shows.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// Makes keys, each of its tier.
pub(crate) fn make_keys<'a>(store: &Path, tiers: impl Iterator<Item = &'a str>) -> Result<Vec<Key>, String> {
    let store = Store::open(store).map_err(|e| e.to_string())?;
    let made = tiers.enumerate().map(|(at, tier)| {
        let (key, secret) = store.create(&format!("load-{at}"), tier, false).map_err(|e| e.to_string())?;
        Ok(Key { id: key.id, secret: secret.expose() })
    });
    made.collect()
}

/// A process that serves. Dropped, it is killed.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holds {
    pub(crate) resident_kib: u64,
    pub(crate) threads: u64,
    pub(crate) files: u64,
}

impl Server {
    /// Starts a program and waits until it says where it listens.
    pub(crate) fn start(program: &Path, arguments: &[&str], quiet: bool) -> Result<Server, String> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        match quiet {
            true => command.stderr(Stdio::null()),
            false => command.env("RUST_LOG", "warn"),
        };
        let mut child = command.spawn().map_err(|e| format!("{}: {e}", program.display()))?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line).map_err(|e| e.to_string())?;
        }
        let address = line.trim().strip_prefix("listening on http://").and_then(|address| address.parse().ok());
        let Some(address) = address else {
            let _ = child.kill();
            return Err(format!("{} does not say where it listens, but `{}`", program.display(), line.escape_debug()));
        };
        Ok(Server { child, address })
    }

    /// A GET's answer.
    pub(crate) fn get(&self, path: &str) -> Result<String, String> {
        fetch(self.address, &get(&self.address.to_string(), path)).map(|answer| answer.text())
    }

    /// What the process holds, where the system tells.
    pub(crate) fn holds(&self) -> Option<Holds> {
        let of = format!("/proc/{}", self.child.id());
        let status = std::fs::read_to_string(format!("{of}/status")).ok()?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let files = std::fs::read_dir(format!("{of}/fd")).ok()?.count() as u64;
        Some(Holds { resident_kib: number("VmRSS")?, threads: number("Threads")?, files })
    }

    /// Time that its threads ran, by name: busy neighbours make an answer late, and change this little.
    pub(crate) fn ran(&self) -> BTreeMap<String, Duration> {
        let mut ran = BTreeMap::new();
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten() {
            let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let nanoseconds = read("schedstat").split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default();
            *ran.entry(read("comm").trim().to_owned()).or_default() += Duration::from_nanos(nanoseconds);
        }
        ran
    }

    /// Tells it to stop.
    pub(crate) fn terminate(&self) -> Result<(), String> {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().map_err(|e| format!("kill: {e}"))?;
        if told.success() { Ok(()) } else { Err("the server is gone already".to_owned()) }
    }

    /// Waits until it is gone.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus, String> {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                return Ok(status);
            }
            if since.elapsed() > limit {
                return Err(format!("the server still runs {} s after it was told to stop", limit.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request on a connection of its own.
pub(crate) fn fetch(address: SocketAddr, request: &[u8]) -> Result<Answer, String> {
    let mut socket = TcpStream::connect(address).map_err(|e| format!("{address}: {e}"))?;
    let _ = socket.set_nodelay(true);
    let _ = socket.set_read_timeout(Some(Duration::from_secs(30)));
    socket.write_all(request).map_err(|e| e.to_string())?;
    let (mut answer, mut bytes) = (Answer::default(), [0; 16 << 10]);
    while !answer.is_over() {
        let count = socket.read(&mut bytes).map_err(|e| e.to_string())?;
        if count == 0 {
            return Err(format!("{address} closed the connection in the middle of an answer"));
        }
        answer.push(&bytes[..count])?;
    }
    Ok(answer)
}

/// A line of the text that Prometheus reads: name, labels, value.
pub(crate) fn metrics(text: &str) -> impl Iterator<Item = (&str, &str, f64)> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        let (name, labels) = name.split_once('{').map_or((name, ""), |(name, labels)| (name, labels.trim_end_matches('}')));
        Some((name, labels, value.parse().ok()?))
    })
}

/// The value of a label.
pub(crate) fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
}
