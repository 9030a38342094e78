//! The store's file: what may be one, who owns it, and whether it is still what was opened.
//!
//! SQLite keeps other processes out with ranges of the file that it locks (`fcntl`). A process loses all of these as soon as it closes any descriptor of the
//! file, also one that SQLite knows nothing of. So what is opened here is closed by the end of the process alone, and opened once for each file.

use std::fs::{File, FileType, Metadata, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a file may be empty that another process is making.
const MAKING: Duration = Duration::from_secs(2);

/// How every SQLite file begins.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What says how the file is written, and how it is read: 2 where that is by a write-ahead log.
const WRITTEN: std::ops::RangeInclusive<usize> = 18..=19;

/// Bytes of a file's header.
const HEADER: usize = 100;

/// Files that were opened, by what they are known by: one file has one place here, whatever its names.
static HELD: Mutex<Vec<&'static Held>> = Mutex::new(Vec::new());

struct Held {
    file: File,
    identity: Identity,
    owned: AtomicBool,
}

/// Device and inode, where the system has such.
type Identity = Option<(u64, u64)>;

/// What to do where there is no file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Make,
    Refuse,
}

/// A file that was opened.
#[derive(Clone)]
pub(super) struct Database {
    /// As it was named.
    path: PathBuf,
    /// Without links: SQLite's other files are beside this one.
    whole: PathBuf,
    held: &'static Held,
}

/// Held for as long as this process owns a store.
pub(super) struct Owned {
    held: &'static Held,
    /// Beside the store, where the store itself can't be locked for this.
    _beside: Option<File>,
}

impl Drop for Owned {
    fn drop(&mut self) {
        if LOCKS_ITSELF {
            let _ = self.held.file.unlock();
        }
        self.held.owned.store(false, Ordering::Release);
    }
}

/// Whether a lock on the whole file is another than those that SQLite takes on its ranges. Elsewhere they would lock each other out.
const LOCKS_ITSELF: bool = cfg!(any(target_os = "linux", target_os = "android"));

impl Database {
    /// Opens a store's file, or makes it, readable by its owner only. Whether it was made.
    ///
    /// # Errors
    /// What can't be a store, and what to do.
    pub(super) fn open(path: &Path, missing: Missing) -> Result<(Database, bool), String> {
        let at = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        match path.as_os_str().as_encoded_bytes() {
            b"" => return Err("the store has no name; name its file with --store".to_owned()),
            b":memory:" => {
                return Err("a store in memory ends with its server, and only that makes keys in it; name a file with --store".to_owned());
            }
            _ => (),
        }
        let (held, made) = match std::fs::metadata(path) {
            Ok(found) => (open(path, &found).map_err(|why| at(&why))?, false),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(at(&error)),
            Err(_) if std::fs::symlink_metadata(path).is_ok() => {
                return Err(at(&"is a link to a file that is not there; put that file back, or remove the link"));
            }
            Err(_) if missing == Missing::Refuse => {
                return Err(at(&"there is no such store; name one with --store. `firecrest keys create` and `firecrest serve` make one"));
            }
            Err(_) => (make(path)?, true),
        };
        let whole = path.canonicalize().map_err(|e| at(&e))?;
        let database = Database { path: path.to_owned(), whole, held };
        let fit = if made { Ok(()) } else { database.not_empty() };
        fit.and_then(|()| database.beside()).map_err(|why| at(&why))?;
        Ok((database, made))
    }

    /// As it was named.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its one name without links.
    pub(super) fn whole(&self) -> &Path {
        &self.whole
    }

    /// Makes this process its owner.
    ///
    /// # Errors
    /// Another process that owns it, by whatever name.
    pub(super) fn own(&self) -> Result<Owned, String> {
        let taken = || {
            "another server uses this store, maybe by another name of the file; stop that one first, or give this one a store of its own with --store"
                .to_owned()
        };
        if self.held.owned.swap(true, Ordering::AcqRel) {
            return Err(taken());
        }
        let locked = match LOCKS_ITSELF {
            true => self.held.file.try_lock().map(|()| None),
            false => self.lock_beside(),
        };
        let refused = match locked {
            Ok(beside) => return Ok(Owned { held: self.held, _beside: beside }),
            Err(TryLockError::WouldBlock) => taken(),
            Err(TryLockError::Error(error)) => format!("the store can't be locked: {error}"),
        };
        self.held.owned.store(false, Ordering::Release);
        Err(refused)
    }

    fn lock_beside(&self) -> Result<Option<File>, TryLockError> {
        let lock = File::options().create(true).truncate(false).write(true).open(self.name_beside(".lock")).map_err(TryLockError::Error)?;
        lock.try_lock()?;
        Ok(Some(lock))
    }

    /// Whether its file is still at its place. One that was removed or replaced can't be changed by `firecrest keys`: a key that is revoked there would
    /// go on here.
    ///
    /// # Errors
    /// What became of it, and what to do.
    pub(super) fn in_place(&self) -> Result<(), String> {
        let why = match std::fs::metadata(&self.path) {
            Ok(found) if identity(&found) == self.held.identity => return Ok(()),
            Ok(_) => "was replaced by another file".to_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => "was removed".to_owned(),
            Err(error) => format!("can't be looked at: {error}"),
        };
        Err(format!("the store {why} under the running server; put it back, or restart the server"))
    }

    /// Whether it can be given to SQLite. What SQLite maps into memory kills the process where somebody cuts it: a write-ahead log has such a file.
    ///
    /// # Errors
    /// What became of it, and what to do.
    pub(super) fn sound(&self) -> Result<(), String> {
        self.beside()?;
        match self.has_log()? {
            true => Err("another program gave the store a write-ahead log; it is taken back".to_owned()),
            false => Ok(()),
        }
    }

    /// Whether it is written by a write-ahead log, or has one beside it.
    ///
    /// # Errors
    /// A file that is no store, or no longer.
    pub(super) fn has_log(&self) -> Result<bool, String> {
        let header = self.header()?;
        // To SQLite an empty one is none.
        Ok(header[WRITTEN].contains(&2) || std::fs::symlink_metadata(self.name_beside("-wal")).is_ok_and(|found| found.len() > 0))
    }

    /// Removes what an owner of the log left that did not end well. Nobody else may have it open.
    pub(super) fn remove_log_index(&self) {
        let _ = std::fs::remove_file(self.name_beside("-shm"));
    }

    /// What lets others in, and what to do: for the log.
    pub(super) fn warnings(&self) -> Vec<String> {
        #[cfg(unix)]
        if let Ok(found) = self.held.file.metadata() {
            use std::os::unix::fs::MetadataExt;
            let mode = found.mode() & 0o777;
            let shown = self.path.display();
            let open = (mode & 0o066 != 0).then(|| {
                format!(
                    "{shown}: others than its owner can read or write the store (its mode is {mode:03o}); `chmod 600 {shown}` mends that"
                )
            });
            let names = found.nlink();
            let names = (names > 1).then(|| {
                format!("{shown}: the store has {names} names (hard links): used by another name after a crash it is damaged; keep one")
            });
            return open.into_iter().chain(names).collect();
        }
        Vec::new()
    }

    fn name_beside(&self, ending: &str) -> PathBuf {
        let mut name = self.whole.clone().into_os_string();
        name.push(ending);
        name.into()
    }

    /// SQLite would wait for ever for one who writes to a pipe that has its journal's name.
    fn beside(&self) -> Result<(), String> {
        for ending in ["-journal", "-wal", "-shm"] {
            let name = self.name_beside(ending);
            if let Ok(found) = std::fs::symlink_metadata(&name)
                && !found.is_file()
            {
                let what = kind(found.file_type());
                return Err(format!(
                    "{}: SQLite keeps a file of this name beside the store, and this is {what}; remove it",
                    name.display()
                ));
            }
        }
        Ok(())
    }

    /// A file without a byte is being made by another process, or was cut: it would be taken for a new store, and every key would be gone without a word.
    fn not_empty(&self) -> Result<(), String> {
        let since = Instant::now();
        while self.held.file.metadata().is_ok_and(|found| found.len() == 0) {
            if since.elapsed() >= MAKING {
                return Err("the store is empty: it was cut; put a copy of it back, or remove it to begin a new one".to_owned());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.header().map(drop)
    }

    fn header(&self) -> Result<[u8; HEADER], String> {
        let mut header = [0; HEADER];
        match read_at_start(&self.held.file, &mut header) {
            Ok(()) if header.starts_with(MAGIC) => Ok(header),
            Ok(()) => Err(
                "this is no SQLite database: it was never a store, or is damaged; put a copy of it back, or name another file with --store"
                    .to_owned(),
            ),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err("the store was cut; put a copy of it back".to_owned()),
            Err(error) => Err(format!("the store can't be read: {error}")),
        }
    }
}

/// Opens a file that is there.
fn open(path: &Path, found: &Metadata) -> Result<&'static Held, String> {
    let no_store = |found: &Metadata| format!("this is {}, and a store is a file; name another with --store", kind(found.file_type()));
    if !found.is_file() {
        return Err(no_store(found));
    }
    if let Some(held) = known(identity(found)) {
        return Ok(held);
    }
    let mut options = File::options();
    options.read(true).write(true);
    // Should a pipe have taken its place by now, nobody waits for its other end.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let file = options.open(path).map_err(|e| match e.kind() {
        ErrorKind::PermissionDenied => format!("the store can't be read and written by this user ({e})"),
        _ => e.to_string(),
    })?;
    match file.metadata() {
        Ok(found) if found.is_file() => hold(file).map_err(|e| e.to_string()),
        Ok(found) => Err(no_store(&found)),
        Err(error) => Err(error.to_string()),
    }
}

/// Makes the file, and its folder.
fn make(path: &Path) -> Result<&'static Held, String> {
    let at = |path: &Path, why: std::io::Error| format!("{}: {why}", path.display());
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|e| at(folder, e))?;
    }
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).and_then(hold).map_err(|e| at(path, e))
}

/// Keeps a file open until the process ends.
fn hold(file: File) -> std::io::Result<&'static Held> {
    let identity = identity(&file.metadata()?);
    let mut all = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(held) = all.iter().find(|held| identity.is_some() && held.identity == identity).copied() {
        // Another thread was faster. Closed, this one would take SQLite's locks with it.
        std::mem::forget(file);
        return Ok(held);
    }
    let held: &'static Held = Box::leak(Box::new(Held { file, identity, owned: AtomicBool::new(false) }));
    all.push(held);
    Ok(held)
}

fn known(identity: Identity) -> Option<&'static Held> {
    let all = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    all.iter().find(|held| identity.is_some() && held.identity == identity).copied()
}

#[cfg(unix)]
fn identity(found: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    Some((found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Identity {
    None
}

#[cfg(unix)]
fn read_at_start(file: &File, out: &mut [u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, 0)
}

#[cfg(windows)]
fn read_at_start(file: &File, out: &mut [u8]) -> std::io::Result<()> {
    let read = std::os::windows::fs::FileExt::seek_read(file, out, 0)?;
    if read < out.len() { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// What something is that is no file.
fn kind(found: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kinds = [
            (found.is_fifo(), "a pipe (FIFO)"),
            (found.is_socket(), "a socket"),
            (found.is_block_device() || found.is_char_device(), "a device"),
        ];
        if let Some((_, kind)) = kinds.iter().find(|(is, _)| *is) {
            return kind;
        }
    }
    match (found.is_dir(), found.is_symlink()) {
        (true, _) => "a folder",
        (_, true) => "a link",
        _ => "no file",
    }
}
