//! Requests to the Hugging Face hub: a list of files, and files that come into the cache whole or not at all.
//!
//! Nothing that the hub says is trusted: names are checked by the cache, sizes and answers have limits, and the user's token goes to no other host.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use firecrest::engine::{Error, ErrorCode};
use firecrest::hub::{Cache, home, is_plain};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use ureq::http::{Response, Uri, header};
use ureq::{Agent, Body};

use super::open::progress_bar;

type Result<T> = std::result::Result<T, Error>;

/// Most bytes of a repository's description, of one file, and of a token's file.
const MOST_INFO: u64 = 32 << 20;
const MOST_FILE: u64 = 1 << 40;
const MOST_TOKEN: u64 = 4096;

/// Redirects of one request.
const REDIRECTS: usize = 10;

/// Tries to get a file: without a byte in between, and in all.
const FRUITLESS: u32 = 5;
const TRIES: u32 = 1000;

/// What the hub says of a repository.
#[derive(Deserialize)]
pub(super) struct Info {
    /// The commit that `main` is at.
    pub sha: String,
    pub siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
pub(super) struct Sibling {
    pub rfilename: String,
}

/// A hub, and who asks it.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    origin: (String, String, u16),
    token: Option<String>,
    patience: Duration,
}

/// What the hub says of a file.
struct About {
    etag: String,
    commit: String,
    size: u64,
}

fn wrong(what: &str, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorCode::Source, format!("{what}: {why}"))
}

/// Returns the scheme, host and port of an address.
fn origin(uri: &Uri) -> Option<(String, String, u16)> {
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let usual = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let host = uri.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
    Some((scheme, host, uri.port_u16().unwrap_or(usual)))
}

/// Returns the address that a redirect from another leads to.
fn join(from: &Uri, location: &str) -> Option<Uri> {
    let scheme = from.scheme_str()?;
    let path = from.path();
    let address = if location.contains("://") && !location.starts_with(['/', '?']) {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else {
        let authority = from.authority()?;
        match location.starts_with('/') {
            true => format!("{scheme}://{authority}{location}"),
            false => format!("{scheme}://{authority}{}/{location}", path.rsplit_once('/')?.0),
        }
    };
    let uri: Uri = address.split('#').next()?.parse().ok()?;
    let from_safe = scheme.eq_ignore_ascii_case("https");
    let (to, _, _) = origin(&uri)?;
    (!from_safe || to == "https").then_some(uri)
}

/// Returns a header's text.
fn text<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// Reads `bytes FROM-TO/SIZE`, or `bytes */SIZE`.
fn content_range(response: &Response<Body>) -> Option<(Option<u64>, u64)> {
    let (range, size) = text(response, "content-range")?.trim().strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split('-').next()?.trim().parse().ok(), size.trim().parse().ok()?))
}

/// Writes a path of an address: bytes that mean something else there are escaped.
fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => out.push(byte.into()),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

/// Returns the token that the user has set, or saved with the hub's own program.
fn token() -> Result<Option<String>> {
    let token = match std::env::var("HF_TOKEN") {
        Ok(token) if !token.trim().is_empty() => token,
        _ => {
            let mut saved = String::new();
            let file = File::open(home()?.join("token"));
            let read = file.and_then(|file| file.take(MOST_TOKEN).read_to_string(&mut saved));
            if read.is_err() {
                return Ok(None);
            }
            saved
        }
    };
    let token = token.trim();
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Error::request(
            "the hub's token (HF_TOKEN, or the file `token` in HF_HOME) has characters that no token has".to_owned(),
        ));
    }
    Ok((!token.is_empty()).then(|| token.to_owned()))
}

impl Client {
    /// Makes a client of the hub that the environment names. `patience` is how long the hub may send nothing.
    pub(super) fn new(patience: Duration) -> Result<Client> {
        let endpoint = std::env::var("HF_ENDPOINT").ok().map(|e| e.trim().trim_end_matches('/').to_owned()).filter(|e| !e.is_empty());
        let endpoint = endpoint.unwrap_or_else(|| "https://huggingface.co".to_owned());
        let bad = || {
            Error::request(format!(
                "HF_ENDPOINT: {endpoint:?} is no address of a hub; write http:// or https://, a host, and a path if there is one"
            ))
        };
        let uri: Uri = endpoint.parse().map_err(|_| bad())?;
        let origin = origin(&uri).filter(|_| uri.query().is_none() && !endpoint.contains('#')).ok_or_else(bad)?;
        let agent = Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("firecrest/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(patience))
            .timeout_connect(Some(patience))
            .timeout_send_request(Some(patience))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .timeout_per_write(Some(patience))
            .build()
            .new_agent();
        Ok(Client { agent, endpoint, origin, token: token()?, patience })
    }

    /// Says what a failed request means for the person who asked.
    fn failed(&self, what: &str, error: &ureq::Error) -> Error {
        match error {
            ureq::Error::Timeout(_) => self.silent(what),
            error => wrong(what, error),
        }
    }

    fn silent(&self, what: &str) -> Error {
        wrong(what, format_args!("the hub sent nothing for {} s; run the same command again to resume", self.patience.as_secs()))
    }

    /// Asks for bytes from `range` of an address, with the token if it is the hub's own.
    fn ask(&self, uri: &Uri, range: Option<&str>) -> std::result::Result<Response<Body>, ureq::Error> {
        let mut request = self.agent.get(uri);
        if let Some(range) = range {
            request = request.header(header::RANGE, range);
        }
        if let Some(token) = self.token.as_ref().filter(|_| origin(uri).as_ref() == Some(&self.origin)) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request.call()
    }

    /// Asks for an address and follows redirects. Calls `seen` with every answer of the hub itself.
    fn get(
        &self,
        what: &str,
        uri: &Uri,
        range: Option<&str>,
        mut seen: impl FnMut(&Response<Body>),
    ) -> Result<std::result::Result<Response<Body>, ureq::Error>> {
        let mut uri = uri.clone();
        for _ in 0..=REDIRECTS {
            let response = match self.ask(&uri, range) {
                Ok(response) => response,
                Err(error @ ureq::Error::Timeout(_)) => return Err(self.failed(what, &error)),
                Err(error) => return Ok(Err(error)),
            };
            if origin(&uri).as_ref() == Some(&self.origin) {
                seen(&response);
            }
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Ok(response));
            }
            let location = text(&response, "location").unwrap_or_default();
            uri = join(&uri, location).ok_or_else(|| {
                let shown: String = location.chars().take(200).collect();
                wrong(
                    what,
                    format_args!(
                        "the hub redirects to {shown:?}, which is not followed: only http and https are, and only https from https"
                    ),
                )
            })?;
        }
        Err(wrong(what, format_args!("the hub redirects more than {REDIRECTS} times")))
    }

    /// Says what an answer's status means, if it is no success.
    fn refused(what: &str, response: &Response<Body>) -> Option<Error> {
        let status = response.status();
        let advice = match status.as_u16() {
            200..=299 => return None,
            401 | 403 => "; the repository needs access rights, or does not exist: set HF_TOKEN to a token that may read it",
            404 | 410 => "; there is no such repository or file on the hub",
            429 => "; the hub asks to wait before the next request",
            _ => "",
        };
        Some(wrong(what, format_args!("the hub answers {status}{advice}")))
    }

    fn address(&self, path: &str) -> Result<Uri> {
        format!("{}/{}", self.endpoint, escaped(path)).parse().map_err(|e| wrong("the hub", e))
    }

    /// Returns the commit and the files of a repository.
    pub(super) fn info(&self, repository: &str) -> Result<Info> {
        let what = format!("hf:{repository}");
        let uri = self.address(&format!("api/models/{repository}/revision/main"))?;
        let response = self.get(&what, &uri, None, |_| {})?.map_err(|e| self.failed(&what, &e))?;
        if let Some(error) = Client::refused(&what, &response) {
            return Err(error);
        }
        let mut bytes = Vec::new();
        response.into_body().into_reader().take(MOST_INFO + 1).read_to_end(&mut bytes).map_err(|e| self.broken(&what, &e))?;
        if bytes.len() as u64 > MOST_INFO {
            return Err(wrong(&what, format_args!("the hub's list of files is longer than {} MiB", MOST_INFO >> 20)));
        }
        let short = |e: serde_json::Error| e.to_string().chars().take(200).collect::<String>();
        serde_json::from_slice(&bytes).map_err(|e| wrong(&what, format_args!("the hub's list of files can't be read: {}", short(e))))
    }

    /// Says why a body ended early.
    fn broken(&self, what: &str, error: &std::io::Error) -> Error {
        if is_silence(error) { self.silent(what) } else { wrong(what, error) }
    }

    /// Asks for a file's first byte, and so for its etag, commit and size.
    fn about(&self, what: &str, uri: &Uri) -> Result<About> {
        let (mut linked, mut own, mut commit) = (None, None, None);
        let response = self.get(what, uri, Some("bytes=0-0"), |response| {
            let read = |name| text(response, name).map(str::to_owned);
            linked = read("x-linked-etag").or(linked.take());
            own = read("etag").or(own.take());
            commit = read("x-repo-commit").or(commit.take());
        })?;
        let response = response.map_err(|e| self.failed(what, &e))?;
        let range = content_range(&response);
        let empty = response.status() == 416 && matches!(range, Some((_, 0)));
        if let Some(error) = Client::refused(what, &response).filter(|_| !empty) {
            return Err(error);
        }
        let length = || text(&response, "content-length").filter(|_| response.status() == 200).and_then(|n| n.parse().ok());
        let size = range.map(|(_, size)| size).or_else(length);
        let lacks = |header| wrong(what, format_args!("the hub's answer lacks {header}"));
        let etag = linked.or(own).ok_or_else(|| lacks("an etag"))?;
        let etag = etag.trim().trim_start_matches("W/").trim_matches('"').to_owned();
        let (commit, size) = (commit.ok_or_else(|| lacks("x-repo-commit"))?, size.ok_or_else(|| lacks("the file's size"))?);
        for (name, value) in [("etag", &etag), ("x-repo-commit", &commit)] {
            if !is_plain(value) {
                let shown: String = value.chars().take(100).collect();
                return Err(wrong(what, format_args!("the hub sent {shown:?} as {name}, which can't name a file; nothing was written")));
            }
        }
        if size > MOST_FILE {
            return Err(wrong(what, format_args!("the hub says that the file has {size} bytes; at most {MOST_FILE} are taken")));
        }
        Ok(About { etag, commit, size })
    }

    /// Downloads one file of a commit into the cache, resumes it when the connection breaks, and checks it. Returns its path.
    pub(super) fn download(&self, cache: &Cache, repository: &str, commit: &str, file: &str) -> Result<PathBuf> {
        let what = format!("{repository}/{file}");
        eprintln!("{what}");
        let uri = self.address(&format!("{repository}/resolve/main/{file}"))?;
        let about = self.about(&what, &uri)?;
        if about.commit != commit {
            return Err(wrong(&what, "the repository changed while it was pulled; run the same command again"));
        }
        let blob = cache.blob(&about.etag)?;
        let part = blob.with_file_name(format!("{}.part", about.etag));
        let (mut seen, mut since) = (None, Instant::now());
        let lock = cache.lock(&about.etag, |lock| {
            let now = std::fs::metadata(&part).ok().map(|part| part.len());
            if seen.is_none() {
                eprintln!("{what}: another process pulls it; waiting");
            }
            if seen != Some(now) {
                (seen, since) = (Some(now), Instant::now());
            }
            if since.elapsed() >= self.patience.max(Duration::from_secs(5)) {
                return Err(wrong(&what, format_args!("another process holds {} and gets no bytes; end it and try again", lock.display())));
            }
            Ok(())
        })?;
        // Another process may have brought it, or another commit has the same file.
        if !blob.is_file() || !cache.holds(&blob) || check(&blob, &about).is_err() {
            self.bring(cache, &what, &uri, &about)?;
        }
        let path = cache.link(&about.etag, commit, file)?;
        drop(lock);
        Ok(path)
    }

    /// Brings a blob, whole and checked, or leaves a part of it to resume.
    fn bring(&self, cache: &Cache, what: &str, uri: &Uri, about: &About) -> Result<()> {
        let blob = cache.blob(&about.etag)?;
        // A part of an older version, or a hub that can't resume: once more from the beginning.
        for again in [true, false] {
            let (path, mut part) = cache.part(&about.etag)?;
            self.fill(what, uri, about, &path, &mut part)?;
            let on_disk = |e: std::io::Error| wrong(what, format_args!("{}: {e}", path.display()));
            match check(&path, about) {
                Ok(()) => return std::fs::rename(&path, &blob).map_err(on_disk),
                Err(why) => {
                    std::fs::remove_file(&path).map_err(on_disk)?;
                    if !again {
                        return Err(wrong(what, format_args!("{why}; run the same command again")));
                    }
                }
            }
        }
        Ok(())
    }

    /// Appends what is missing of a file, over as many connections as it takes.
    fn fill(&self, what: &str, uri: &Uri, about: &About, path: &Path, part: &mut File) -> Result<()> {
        let on_disk = |e: std::io::Error| {
            wrong(what, format_args!("{}: {e}; what came is kept, run the same command again to resume", path.display()))
        };
        let bar = progress_bar("pulling");
        bar.set_length(about.size);
        let mut have = part.metadata().map_err(on_disk)?.len();
        if have > about.size {
            part.set_len(0).map_err(on_disk)?;
            have = 0;
        }
        let (mut fruitless, mut last, mut most) = (0, Instant::now(), have);
        for _ in 0..TRIES {
            if have == about.size {
                bar.finish_and_clear();
                return Ok(());
            }
            bar.set_position(have);
            let why = match self.get(what, uri, Some(&format!("bytes={have}-")), |_| {})? {
                Err(error) => error.to_string(),
                Ok(response) if response.status().is_server_error() => format!("the hub answers {}", response.status()),
                Ok(response) => {
                    if let Some(error) = Client::refused(what, &response) {
                        return Err(error);
                    }
                    if response.status() == 206 {
                        if content_range(&response) != Some((Some(have), about.size)) {
                            return Err(wrong(what, "the hub sends other bytes of the file than were asked for"));
                        }
                    } else if have > 0 {
                        // A hub without ranges.
                        part.set_len(0).map_err(on_disk)?;
                        have = 0;
                    }
                    let mut body = response.into_body().into_reader().take(about.size - have);
                    let mut buffer = vec![0; 256 << 10];
                    loop {
                        match body.read(&mut buffer) {
                            Ok(0) => break "the hub ended the file early".to_owned(),
                            Ok(read) => {
                                part.write_all(&buffer[..read]).map_err(on_disk)?;
                                have += read as u64;
                                bar.set_position(have);
                            }
                            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                            Err(e) if is_silence(&e) => return Err(self.silent(what)),
                            Err(e) => break e.to_string(),
                        }
                    }
                }
            };
            if have == about.size {
                continue;
            }
            // Bytes that came before are no progress: a hub without ranges may send the same again for ever.
            if have > most {
                (fruitless, last, most) = (0, Instant::now(), have);
            } else {
                fruitless += 1;
            }
            if fruitless >= FRUITLESS || (fruitless > 0 && last.elapsed() >= self.patience) {
                let missing = format!("{have} of {} bytes came, and {fruitless} more tries brought no further byte", about.size);
                return Err(wrong(what, format_args!("{missing} ({why}); run the same command again to resume")));
            }
            eprintln!("{what}: {why}; resuming");
            std::thread::sleep(Duration::from_millis(250 << fruitless).min(self.patience));
        }
        Err(wrong(what, format_args!("the connection broke {TRIES} times; run the same command again to resume")))
    }
}

/// Returns whether reading ended because nothing came.
fn is_silence(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    matches!(inner, Some(ureq::Error::Timeout(_))) || matches!(error.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock)
}

/// Checks a file's size, and its hash if its etag is one.
fn check(path: &Path, about: &About) -> std::result::Result<(), String> {
    let shown = |e: std::io::Error| format!("{} can't be read back: {e}", path.display());
    let mut file = File::open(path).map_err(shown)?;
    let found = file.metadata().map_err(shown)?.len();
    if found != about.size {
        return Err(format!("{found} bytes came of {}", about.size));
    }
    // Large files are named by their SHA-256, small ones by git's hash.
    if about.etag.len() != 64 || !about.etag.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(());
    }
    let bar = progress_bar("checking");
    bar.set_length(about.size);
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer).map_err(shown)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        bar.inc(read as u64);
    }
    bar.finish_and_clear();
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    match found.eq_ignore_ascii_case(&about.etag) {
        true => Ok(()),
        false => Err("what came does not have the hash that the hub says".to_owned()),
    }
}
