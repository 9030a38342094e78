//! The hub's cache on disk, as Python's `huggingface_hub` lays it out: files in `blobs`, named by their etags; links to them in
//! `snapshots/COMMIT`; commits of branches in `refs`.
//!
//! What a hub says names files here. So each such name is checked before it becomes a path, and nothing is written through a link below the
//! repository's folder.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use firecrest_engine::error::{Error, ErrorCode, Result};

/// Most bytes of one component of a path.
const NAME: usize = 255;

/// Returns whether a name is one component of a path on every system: 1 to 128 of `[A-Za-z0-9._-]`, no dot first or last, no device of Windows.
/// Etags and commits must be.
#[must_use]
pub fn is_plain(name: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=128).contains(&name.len()) && name.bytes().all(known) && !name.starts_with('.') && !name.ends_with('.') && !is_device(name)
}

/// Returns whether a file's name stays inside its folder on every system: a hub could list `../../.bashrc`.
#[must_use]
pub fn is_safe(name: &str) -> bool {
    let part = |part: &str| {
        let ends = part.ends_with(['.', ' ']) || part.starts_with(' ');
        !part.is_empty() && part.len() <= NAME && !ends && !is_device(part)
    };
    let odd = |c: char| c.is_control() || matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    name.len() <= 1024 && !name.contains(odd) && name.split('/').all(part)
}

/// Returns whether Windows takes a name for a device, whatever its extension.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    let numbered = |prefix| stem.strip_prefix(prefix).is_some_and(|n: &str| n.chars().count() == 1 && n.chars().all(|c| c.is_numeric()));
    matches!(stem.as_str(), "con" | "prn" | "aux" | "nul") || numbered("com") || numbered("lpt")
}

/// Says which path could not be used, and why.
pub(super) fn unusable(path: &Path, error: &io::Error) -> Error {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull => "; free some space and run the same command again to resume",
        _ => "",
    };
    Error::new(ErrorCode::Source, format!("the cache at {}: {error}{advice}", path.display()))
}

/// Returns the folder of the user's settings of the hub: `HF_HOME`, or `~/.cache/huggingface`.
///
/// # Errors
/// Neither is known.
pub fn home() -> Result<PathBuf> {
    let user = || {
        std::env::home_dir()
            .filter(|home| !home.as_os_str().is_empty())
            .ok_or_else(|| Error::request("there is no home folder for the hub's cache; set HF_HOME to a folder".to_owned()))
    };
    match std::env::var_os("HF_HOME").filter(|home| !home.is_empty()) {
        // As Python does: not every shell expands it.
        Some(home) => match Path::new(&home).strip_prefix("~") {
            Ok(rest) => Ok(user()?.join(rest)),
            Err(_) => Ok(home.into()),
        },
        None => Ok(user()?.join(".cache/huggingface")),
    }
}

/// The cache of one repository.
#[derive(Clone, Debug)]
pub struct Cache {
    /// The folder of all repositories.
    hub: PathBuf,
    /// The repository's folder in it.
    folder: String,
}

/// The lock on one blob, released when it is dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "closing the file releases the lock")] File);

impl Cache {
    /// Returns the cache of `owner/repo`, whose name must be checked. Nothing is made on disk.
    ///
    /// # Errors
    /// No folder for it is known.
    pub fn new(repository: &str) -> Result<Cache> {
        Ok(Cache { hub: home()?.join("hub"), folder: format!("models--{}", repository.replace('/', "--")) })
    }

    fn root(&self) -> PathBuf {
        self.hub.join(&self.folder)
    }

    /// Returns the folder of a commit's files.
    ///
    /// # Errors
    /// The commit's name is no name for a folder.
    pub fn snapshot(&self, commit: &str) -> Result<PathBuf> {
        named("commit", commit)?;
        Ok(self.root().join("snapshots").join(commit))
    }

    /// Returns where the bytes of an etag lie.
    ///
    /// # Errors
    /// The etag is no name for a file.
    pub fn blob(&self, etag: &str) -> Result<PathBuf> {
        named("etag", etag)?;
        Ok(self.root().join("blobs").join(etag))
    }

    /// Returns the commit that was pulled last, if one was.
    #[must_use]
    pub fn commit(&self) -> Option<String> {
        let path = self.root().join("refs/main");
        fs::metadata(&path).ok().filter(|found| found.is_file() && found.len() <= 256)?;
        let commit = fs::read_to_string(path).ok()?.trim().to_owned();
        is_plain(&commit).then_some(commit)
    }

    /// Records the commit that was pulled.
    ///
    /// # Errors
    /// The commit's name is no name for a folder, or the cache can't be written.
    pub fn set_commit(&self, commit: &str) -> Result<()> {
        named("commit", commit)?;
        let folder = self.folder(&["refs"])?;
        let (path, new) = (folder.join("main"), folder.join(format!(".main.{}", std::process::id())));
        let write = || -> io::Result<()> {
            let _ = fs::remove_file(&new);
            File::create_new(&new)?.write_all(commit.as_bytes())?;
            // Replaces a link itself, not what it leads to.
            fs::rename(&new, &path)
        };
        write().map_err(|e| unusable(&path, &e))
    }

    /// Returns a file of a commit that was pulled, if it is there and lies inside the cache.
    ///
    /// # Errors
    /// A name that is no path inside the cache.
    pub fn pulled(&self, commit: &str, file: &str) -> Result<Option<PathBuf>> {
        if !is_safe(file) {
            return Err(Error::new(ErrorCode::Source, format!("{file:?} is no name of a file in a repository")));
        }
        let path = self.snapshot(commit)?.join(file);
        Ok((path.is_file() && self.holds(&path)).then_some(path))
    }

    /// Returns whether a path, links followed, lies inside the cache.
    #[must_use]
    pub fn holds(&self, path: &Path) -> bool {
        let Ok(real) = path.canonicalize() else { return false };
        [self.hub.clone(), self.root()].iter().any(|folder| folder.canonicalize().is_ok_and(|folder| real.starts_with(folder)))
    }

    /// Makes folders of the repository, one in the other, and returns the last. The repository's own folder may be a link to another disk.
    ///
    /// # Errors
    /// One of them is a link or a file, or can't be made.
    fn folder(&self, parts: &[&str]) -> Result<PathBuf> {
        let root = self.root();
        fs::create_dir_all(&root).map_err(|e| unusable(&root, &e))?;
        below(root, parts)
    }

    /// Makes the folder of blobs and locks one of them, for this program and for Python's. `waits` is called about four times a second for
    /// as long as another process holds the lock, and ends the waiting with an error.
    ///
    /// # Errors
    /// The etag is no name for a file, the cache can't be written, or what `waits` returns.
    pub fn lock(&self, etag: &str, mut waits: impl FnMut(&Path) -> Result<()>) -> Result<Lock> {
        named("etag", etag)?;
        self.folder(&["blobs"])?;
        let folder = below(self.hub.clone(), &[".locks", &self.folder])?;
        let path = folder.join(format!("{etag}.lock"));
        plain_or_absent(&path)?;
        let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(|e| unusable(&path, &e))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock(file)),
                Err(fs::TryLockError::WouldBlock) => waits(&path)?,
                // File systems without locks: the last one to finish wins, and what is wrong is found by its size or hash.
                Err(fs::TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => return Ok(Lock(file)),
                Err(fs::TryLockError::Error(e)) => return Err(unusable(&path, &e)),
            }
            std::thread::sleep(std::time::Duration::from_millis(250));
        }
    }

    /// Opens what came of a blob so far, for appending.
    ///
    /// # Errors
    /// The etag is no name for a file, or the cache can't be written.
    pub fn part(&self, etag: &str) -> Result<(PathBuf, File)> {
        let mut name = OsString::from(self.blob(etag)?);
        name.push(".part");
        let path = PathBuf::from(name);
        plain_or_absent(&path)?;
        let file = File::options().read(true).append(true).create(true).open(&path).map_err(|e| unusable(&path, &e))?;
        Ok((path, file))
    }

    /// Links a file of a commit to its blob, and returns the link's path.
    ///
    /// # Errors
    /// A name that is no path inside the cache, or the cache can't be written.
    pub fn link(&self, etag: &str, commit: &str, file: &str) -> Result<PathBuf> {
        let blob = self.blob(etag)?;
        self.snapshot(commit)?;
        if !is_safe(file) {
            return Err(Error::new(ErrorCode::Source, format!("{file:?} is no name of a file in a repository")));
        }
        let parts: Vec<&str> = file.split('/').collect();
        let (name, folders) = parts.split_last().expect("a split has a part");
        let path = self.folder(&[&["snapshots", commit], folders].concat())?.join(name);
        // Two links up from the snapshot, and one for each of its folders.
        let target: PathBuf = std::iter::repeat_n("..", folders.len() + 2).chain(["blobs", etag]).collect();
        let made = || -> io::Result<()> {
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() => return Err(io::Error::other("there is a folder of this name; remove it")),
                Ok(_) => fs::remove_file(&path)?,
                Err(_) => {}
            }
            // Not every file system or account may make links.
            symlink(&target, &path).or_else(|_| fs::rename(&blob, &path))
        };
        made().map_err(|e| unusable(&path, &e))?;
        Ok(path)
    }
}

/// Makes folders below one that may be a link; they may not.
fn below(mut path: PathBuf, parts: &[&str]) -> Result<PathBuf> {
    for part in parts {
        path.push(part);
        match fs::create_dir(&path) {
            Ok(()) => {}
            Err(e) => match fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => {
                    let why = io::Error::other("it is a link or a file, and files are only written to folders; move it away");
                    return Err(unusable(&path, &why));
                }
                Err(_) => return Err(unusable(&path, &e)),
            },
        }
    }
    Ok(path)
}

/// Refuses to write to what is not a file, such as a link.
fn plain_or_absent(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => Err(unusable(path, &io::Error::other("it is not a file; remove it"))),
        _ => Ok(()),
    }
}

fn named(what: &str, name: &str) -> Result<()> {
    if is_plain(name) {
        return Ok(());
    }
    let shown: String = name.chars().take(100).collect();
    Err(Error::new(ErrorCode::Source, format!("the hub sent {shown:?} as {what}, which can't name a file; nothing was written")))
}

#[cfg(unix)]
use std::os::unix::fs::symlink;
#[cfg(windows)]
use std::os::windows::fs::symlink_file as symlink;
#[cfg(not(any(unix, windows)))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
