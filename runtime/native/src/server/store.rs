//! What a server keeps on disk: keys and the state of their limits, in one SQLite file.
//!
//! Commits of keys are durable when they return (`synchronous = FULL`); limits are written behind what is served ([`journal`]).
//! Several processes may have the file open, because `firecrest keys` changes it under a running server; but one server alone owns it ([`Store::own`]):
//! two would each give out the whole of every limit.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, params};

pub(super) mod journal;
mod secret;

use journal::Journal;
pub use secret::Secret;

/// What can go wrong with the store, in words for a person.
#[derive(Debug)]
pub struct StoreError(String);

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError(format!("the store is damaged ({error}); put a copy of it back"))
            }
            _ => StoreError(format!("the key store: {error}")),
        }
    }
}

/// A key as it is kept: everything but its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The public part of it, by which it is listed, logged and revoked.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// The tier whose limits hold for it.
    pub tier: String,
    /// Whether it may load and unload models.
    pub admin: bool,
    /// Milliseconds since 1970.
    pub created: u64,
    /// From when on it is refused.
    pub ends: Option<u64>,
    /// It is refused, whatever the clock says: it was revoked, or its end came.
    pub revoked: bool,
    /// Random, and never shown: salts what the key shares with nobody.
    pub salt: [u8; 16],
}

/// The file.
pub struct Store {
    connection: Connection,
    /// `None`: it is in memory.
    file: Option<Opened>,
    /// Held for as long as this process owns it.
    _lock: Option<File>,
}

/// The file that was opened, by which it is known from another at its place.
struct Opened {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

const SCHEMA: &str = "
    create table if not exists keys (
        id text primary key, name text not null, tier text not null, admin integer not null,
        created integer not null, ends integer, salt blob not null, hash blob not null, revoked integer not null default 0
    ) strict;
    create table if not exists accounts (key text primary key, state text not null, changed integer not null) strict, without rowid;
";
/// Kept in the file's header: a file of a later version is refused, not misread.
const VERSION: i64 = 2;

/// How long a file may be empty that another process is making.
const MAKING: Duration = Duration::from_secs(2);

impl Store {
    /// Opens the file, or makes it, readable by its owner only.
    ///
    /// # Errors
    /// A folder that is not there, a file that is no store, is damaged, or is a later version's.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let at = |why: &dyn std::fmt::Display| StoreError(format!("{}: {why}", path.display()));
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| StoreError(format!("{}: {e}", folder.display())))?;
        }
        match path.try_exists() {
            Ok(false) => owner_only(path)?,
            Ok(true) => not_empty(path)?,
            Err(error) => return Err(at(&error)),
        }
        let mut store = Store::connect(path).map_err(|e| at(&e))?;
        store.prepare().and_then(|()| store.verify()).map_err(|e| at(&e))?;
        Ok(store)
    }

    /// Opens the file for a server: no other server may have it until this is dropped, or its process ends, however it does.
    ///
    /// # Errors
    /// Those of [`Store::open`]; another server that owns it.
    pub fn own(path: &Path) -> Result<Store, StoreError> {
        let store = Store::open(path)?;
        let whole = path.canonicalize().map_err(|e| StoreError(format!("{}: {e}", path.display())))?;
        let mut name = whole.into_os_string();
        name.push(".lock");
        let failed = |why: &dyn std::fmt::Display| StoreError(format!("{}: {why}", Path::new(&name).display()));
        let lock = File::options().create(true).truncate(false).write(true).open(&name).map_err(|e| failed(&e))?;
        match lock.try_lock() {
            Ok(()) => Ok(Store { _lock: Some(lock), ..store }),
            Err(TryLockError::WouldBlock) => Err(StoreError(format!(
                "{}: another server uses this store; stop that one first, or give this one a store of its own with --store",
                path.display()
            ))),
            Err(TryLockError::Error(error)) => Err(failed(&error)),
        }
    }

    /// A store that is gone with the process.
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub fn in_memory() -> Result<Store, StoreError> {
        let mut store = Store { connection: Connection::open_in_memory()?, file: None, _lock: None };
        store.prepare()?;
        Ok(store)
    }

    fn connect(path: &Path) -> Result<Store, StoreError> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        let identity = identity(path).map_err(|e| StoreError(e.to_string()))?;
        Ok(Store { connection, file: Some(Opened { path: path.to_owned(), identity }), _lock: None })
    }

    /// Brings its tables to this version.
    fn prepare(&mut self) -> Result<(), StoreError> {
        let connection = &mut self.connection;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        // One process does it, others wait for that.
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i64 = change.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version > VERSION {
            return Err(StoreError(format!("version {version} of the store is newer than this program, which knows {VERSION}")));
        }
        if version > 0 {
            let tables = "select count(*) from sqlite_schema where type = 'table' and name in ('keys', 'accounts')";
            if change.query_row(tables, [], |row| row.get::<_, i64>(0))? != 2 {
                return Err(StoreError("the store is damaged: it has no tables any more; put a copy of it back".to_owned()));
            }
        }
        change.execute_batch(SCHEMA)?;
        if version == 1 {
            change.execute_batch("alter table keys add column revoked integer not null default 0")?;
        }
        if version < VERSION {
            change.pragma_update(None, "user_version", VERSION)?;
        }
        change.commit()?;
        self.end_keys()
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// What is damaged, and what to do.
    pub(super) fn verify(&self) -> Result<(), StoreError> {
        let damaged = |why: &dyn std::fmt::Display| StoreError(format!("the store is damaged ({why}); put a copy of it back"));
        let found: String = self.connection.query_row("pragma quick_check(1)", [], |row| row.get(0)).map_err(|e| damaged(&e))?;
        if found != "ok" {
            return Err(damaged(&found.lines().next_back().unwrap_or_default()));
        }
        self.list().map(drop).map_err(|e| damaged(&e))
    }

    /// Whether its file is still at its place. One that was removed or replaced can't be changed by `firecrest keys`: a key that is revoked there would
    /// go on here.
    ///
    /// # Errors
    /// What became of it, and what to do.
    pub(super) fn in_place(&self) -> Result<(), StoreError> {
        let Some(Opened { path, identity: opened }) = &self.file else { return Ok(()) };
        let why = match identity(path) {
            Ok(found) if found == *opened => return Ok(()),
            Ok(_) => "was replaced by another file".to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "was removed".to_owned(),
            Err(error) => format!("can't be looked at: {error}"),
        };
        Err(StoreError(format!("{}: the store {why} under the running server; put it back, or restart the server", path.display())))
    }

    /// Revokes keys whose end has come, so that no clock that is set back brings one of them to life.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn end_keys(&self) -> Result<(), StoreError> {
        let ended = "from keys where revoked = 0 and ends <= ?";
        let mut statement = self.connection.prepare_cached(&format!("select exists (select 1 {ended})"))?;
        // What changes nothing takes no lock.
        if statement.query_row([now() as i64], |row| row.get(0))? {
            self.connection.execute("update keys set revoked = 1 where revoked = 0 and ends <= ?", [now() as i64])?;
        }
        Ok(())
    }

    /// Whether a key holds.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn holds(&self, id: &str) -> Result<bool, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!("select {COLUMNS} from keys where id = ?"))?;
        Ok(statement.query_row([id], key).optional()?.is_some_and(|(key, _)| key.is_live()))
    }

    /// Makes a key. Its secret is in what is returned, and nowhere else.
    ///
    /// # Errors
    /// The store's.
    pub fn create(&self, name: &str, tier: &str, admin: bool) -> Result<(Key, Secret), StoreError> {
        let secret = Secret::new().map_err(StoreError)?;
        let key = Key {
            id: secret.id().to_owned(),
            name: name.to_owned(),
            tier: tier.to_owned(),
            admin,
            created: now(),
            ends: None,
            revoked: false,
            salt: secret::random().map_err(StoreError)?,
        };
        self.connection.execute(
            "insert into keys (id, name, tier, admin, created, ends, salt, hash) values (?, ?, ?, ?, ?, null, ?, ?)",
            params![key.id, key.name, key.tier, key.admin, key.created as i64, key.salt, secret.hash(&key.salt)],
        )?;
        Ok((key, secret))
    }

    /// A new secret for the owner of a key: same name, tier and rights. The old one goes on until `grace` is over.
    ///
    /// # Errors
    /// No such key, or one that is revoked; the store's.
    pub fn rotate(&mut self, id: &str, grace: Duration) -> Result<(Key, Secret), StoreError> {
        let old = self.named(id)?;
        if !old.is_live() {
            return Err(StoreError(format!("key {id} is revoked; create a new one")));
        }
        let ends = now().saturating_add(grace.as_millis() as u64).min(i64::MAX as u64);
        let made = self.create(&old.name, &old.tier, old.admin)?;
        let at_once = grace.is_zero();
        self.connection.execute(
            "update keys set ends = min(coalesce(ends, ?1), ?1), revoked = max(revoked, ?3) where id = ?2",
            params![ends as i64, id, at_once],
        )?;
        Ok(made)
    }

    /// Refuses a key from now on.
    ///
    /// # Errors
    /// No such key; the store's.
    pub fn revoke(&self, id: &str) -> Result<Key, StoreError> {
        self.named(id)?;
        let at = now() as i64;
        self.connection.execute("update keys set ends = min(coalesce(ends, ?1), ?1), revoked = 1 where id = ?2", params![at, id])?;
        self.named(id)
    }

    /// All keys, oldest first.
    ///
    /// # Errors
    /// The store's.
    pub fn list(&self) -> Result<Vec<Key>, StoreError> {
        let mut statement = self.connection.prepare(&format!("select {COLUMNS} from keys order by created, id"))?;
        let keys = statement.query_map([], |row| Ok(key(row)?.0))?;
        Ok(keys.collect::<Result<_, _>>()?)
    }

    /// The key that a caller presents, where it is one of ours and not ended.
    ///
    /// # Errors
    /// The store's.
    pub fn find(&self, presented: &str) -> Result<Option<Key>, StoreError> {
        let Some(secret) = Secret::parse(presented) else { return Ok(None) };
        let mut statement = self.connection.prepare_cached(&format!("select {COLUMNS} from keys where id = ?"))?;
        let found = statement.query_row([secret.id()], key).optional()?;
        let live = found.filter(|(key, hash)| secret.matches(&key.salt, hash) && key.is_live());
        Ok(live.map(|(key, _)| key))
    }

    fn named(&self, id: &str) -> Result<Key, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!("select {COLUMNS} from keys where id = ?"))?;
        let found = statement.query_row([id], key).optional()?;
        found.map(|(key, _)| key).ok_or_else(|| StoreError(format!("there is no key {id}; see `firecrest keys list`")))
    }

    /// The state of a key's limits, as it was written last.
    ///
    /// # Errors
    /// The store's.
    pub fn account(&self, key: &str) -> Result<Option<String>, StoreError> {
        let mut statement = self.connection.prepare_cached("select state from accounts where key = ?")?;
        Ok(statement.query_row([key], |row| row.get(0)).optional()?)
    }

    /// What writes the states of limits, with a connection of its own. `None` for a store in memory, which outlives nothing that holds them.
    ///
    /// # Errors
    /// The store's; a thread that can't be made.
    pub(super) fn journal(&self) -> Result<Option<Journal>, StoreError> {
        self.file.as_ref().map(|file| Journal::start(Store::connect(&file.path)?)).transpose()
    }
}

const COLUMNS: &str = "id, name, tier, admin, created, ends, salt, hash, revoked";

impl Key {
    fn is_live(&self) -> bool {
        !self.revoked && self.ends.is_none_or(|ends| now() < ends)
    }
}

fn key(row: &rusqlite::Row<'_>) -> rusqlite::Result<(Key, Vec<u8>)> {
    let key = Key {
        id: row.get(0)?,
        name: row.get(1)?,
        tier: row.get(2)?,
        admin: row.get(3)?,
        created: row.get::<_, i64>(4)? as u64,
        ends: row.get::<_, Option<i64>>(5)?.map(|ends| ends as u64),
        salt: row.get(6)?,
        revoked: row.get(8)?,
    };
    Ok((key, row.get(7)?))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A file without a byte is being made by another process, or was cut: it would be taken for a new store, and every key would be gone without a word.
fn not_empty(path: &Path) -> Result<(), StoreError> {
    let since = Instant::now();
    loop {
        let length = std::fs::metadata(path).map_err(|e| StoreError(format!("{}: {e}", path.display())))?.len();
        if length > 0 {
            return Ok(());
        }
        if since.elapsed() > MAKING {
            let what =
                "the store is empty: it was cut, and its keys are gone; put a copy of it back, or remove the file to begin a new one";
            return Err(StoreError(format!("{}: {what}", path.display())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What tells a file from another of the same name.
#[cfg(unix)]
fn identity(path: &Path) -> std::io::Result<Option<(u64, u64)>> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map(|found| Some((found.dev(), found.ino())))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> std::io::Result<Option<(u64, u64)>> {
    std::fs::metadata(path).map(|_| None)
}

#[cfg(unix)]
fn owner_only(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt;
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map(drop).map_err(|e| StoreError(format!("{}: {e}", path.display())))
}

#[cfg(not(unix))]
fn owner_only(_: &Path) -> Result<(), StoreError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Store {
        Store::in_memory().expect("a store")
    }

    #[test]
    fn a_key_is_found_by_its_secret_only() {
        let store = store();
        let (key, secret) = store.create("laptop", "standard", false).expect("a key");
        let shown = secret.expose();
        assert_eq!(store.find(&shown).expect("a search"), Some(key.clone()));
        for wrong in ["", "fc", "fc-", &shown[..shown.len() - 1], &format!("{shown}0"), &format!("fc-{}-{}", key.id, "0".repeat(64))] {
            assert_eq!(store.find(wrong).expect("a search"), None, "{wrong}");
        }
        let kept: Vec<u8> = store.connection.query_row("select hash from keys", [], |row| row.get(0)).expect("a hash");
        assert_eq!(kept.len(), 32);
        assert!(!shown.as_bytes().windows(32).any(|bytes| bytes == kept), "the secret is not kept");
    }

    #[test]
    fn a_revoked_key_is_refused_and_a_rotated_one_has_its_grace() {
        let mut store = store();
        let (first, secret) = store.create("laptop", "priority", true).expect("a key");
        let (second, next) = store.rotate(&first.id, Duration::from_secs(3600)).expect("a new secret");
        assert_eq!((second.tier.as_str(), second.admin, second.name.as_str()), ("priority", true, "laptop"));
        assert!(store.find(&secret.expose()).expect("a search").is_some());
        assert!(store.find(&next.expose()).expect("a search").is_some());
        store.revoke(&first.id).expect("revoked");
        assert!(store.find(&secret.expose()).expect("a search").is_none());
        assert!(store.rotate(&first.id, Duration::ZERO).is_err());
        assert!(store.revoke("nobody").expect_err("no such key").to_string().contains("keys list"));
        assert_eq!(store.list().expect("a list").len(), 2);
    }

    /// A file of this test's own.
    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("firecrest-store-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        folder.join("store.sqlite")
    }

    fn refused(path: &Path) -> String {
        Store::open(path).err().expect("it is refused").to_string()
    }

    #[test]
    fn a_later_version_is_refused() {
        let path = scratch("later");
        drop(Store::open(&path).expect("a store"));
        Connection::open(&path).expect("a file").pragma_update(None, "user_version", 9).expect("set");
        assert!(refused(&path).contains("newer"));
    }

    /// A clock that is set back makes the end of a key the future again.
    #[test]
    fn what_was_revoked_stays_revoked_whatever_the_clock_says() {
        let mut store = store();
        let (first, revoked) = store.create("a", "standard", false).expect("a key");
        store.revoke(&first.id).expect("revoked");
        let (second, replaced) = store.create("b", "standard", false).expect("a key");
        store.rotate(&second.id, Duration::ZERO).expect("rotated");
        let (third, ended) = store.create("c", "standard", false).expect("a key");
        store.rotate(&third.id, Duration::from_millis(1)).expect("rotated");
        std::thread::sleep(Duration::from_millis(5));
        store.end_keys().expect("looked at");
        let later = (now() + 3_600_000) as i64;
        store.connection.execute("update keys set ends = ? where ends is not null", [later]).expect("the clock is set back");
        for secret in [revoked, replaced, ended] {
            assert_eq!(store.find(&secret.expose()).expect("a search"), None);
        }
        assert!(!store.holds(&first.id).expect("a search"));
        assert_eq!(store.list().expect("a list").iter().filter(|key| key.revoked).count(), 3);
    }

    #[test]
    fn a_store_of_the_first_version_is_taken_on_with_what_it_revoked() {
        let path = scratch("first");
        let (live, dead) = {
            let store = Store::open(&path).expect("a store");
            let (_, live) = store.create("live", "standard", false).expect("a key");
            let (key, dead) = store.create("dead", "standard", false).expect("a key");
            store.connection.execute("update keys set ends = 1 where id = ?", [&key.id]).expect("as the first version revoked");
            store.connection.execute_batch("alter table keys drop column revoked; pragma user_version = 1").expect("as it was");
            (live, dead)
        };
        let store = Store::open(&path).expect("the same store");
        assert!(store.find(&live.expose()).expect("a search").is_some());
        // Keys of one millisecond are listed in any order.
        assert!(store.list().expect("a list").iter().all(|key| key.revoked == (key.name == "dead")));
        assert!(store.find(&dead.expose()).expect("a search").is_none());
    }

    #[test]
    fn one_server_owns_a_store_and_keys_are_made_beside_it() {
        let path = scratch("owned");
        let owner = Store::own(&path).expect("a store");
        let other = Store::own(&path).err().expect("owned").to_string();
        assert!(other.contains("another server uses this store") && other.contains("--store"), "{other}");
        #[cfg(unix)]
        {
            let link = path.with_file_name("link.sqlite");
            std::os::unix::fs::symlink(&path, &link).expect("a link");
            assert!(Store::own(&link).is_err(), "the same file by another name");
        }
        let (_, secret) = Store::open(&path).expect("another process").create("laptop", "standard", false).expect("a key");
        assert!(owner.find(&secret.expose()).expect("a search").is_some());
        drop(owner);
        Store::own(&path).expect("it is free again");
    }

    #[test]
    fn a_store_that_is_damaged_is_refused() {
        let path = scratch("damaged");
        let store = Store::open(&path).expect("a store");
        for n in 0..100 {
            store.create(&format!("key {n}"), "standard", false).expect("a key");
        }
        drop(store);
        let whole = std::fs::read(&path).expect("the file");
        let page = 4096;
        assert!(whole.len() >= 4 * page, "{}", whole.len());
        for at in 0..whole.len() / page {
            let mut damaged = whole.clone();
            damaged[at * page..(at + 1) * page].fill(0);
            std::fs::write(&path, damaged).expect("written");
            // A page of an index or a table of nothing may be one that is not needed.
            if let Ok(store) = Store::open(&path) {
                assert_eq!(store.list().expect("a list").len(), 100, "page {at}");
            }
        }
        let mut keys = whole.clone();
        keys[page..2 * page].fill(0);
        std::fs::write(&path, keys).expect("written");
        let why = refused(&path);
        assert!(why.contains("damaged") && why.contains("put a copy of it back"), "{why}");
        for length in [page, 2 * page, whole.len() - page] {
            std::fs::write(&path, &whole[..length]).expect("written");
            assert!(Store::open(&path).is_err(), "{length} bytes of {}", whole.len());
        }
        std::fs::write(&path, b"").expect("written");
        let why = refused(&path);
        assert!(why.contains("it was cut"), "{why}");
        std::fs::write(&path, &whole).expect("written");
        assert_eq!(Store::open(&path).expect("whole again").list().expect("a list").len(), 100);
    }

    #[cfg(unix)]
    #[test]
    fn a_store_that_was_removed_or_replaced_is_known() {
        let path = scratch("replaced");
        let store = Store::open(&path).expect("a store");
        store.in_place().expect("it is there");
        let aside = path.with_extension("aside");
        std::fs::rename(&path, &aside).expect("moved");
        assert!(store.in_place().expect_err("gone").to_string().contains("was removed"));
        std::fs::write(&path, b"another").expect("written");
        assert!(store.in_place().expect_err("another").to_string().contains("was replaced"));
        std::fs::rename(&aside, &path).expect("put back");
        store.in_place().expect("it is there again");
    }
}
