//! What a server keeps on disk: keys and the state of their limits, in one SQLite file.
//!
//! Commits are durable when they return (`synchronous = FULL`); limits are written behind what is served ([`journal`]).
//! Several processes may have the file open, because `firecrest keys` changes it under a running server; but one server alone owns it ([`Store::own`]):
//! two would each give out the whole of every limit.
//!
//! Commits go by a rollback journal. A write-ahead log is faster, but several processes share its index in memory that is mapped from a file, and whoever
//! cuts that file kills them all.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use firecrest_contract::error::shown;
use firecrest_policy::limits::check_name;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, params};

mod file;
pub(super) mod journal;
mod secret;
#[cfg(test)]
mod tests;

use file::{Database, Missing, Owned};
use journal::Journal;
pub use secret::Secret;

/// What can go wrong with the store, in words for a person.
#[derive(Debug)]
pub struct StoreError {
    why: String,
    busy: bool,
}

impl StoreError {
    fn new(why: impl Into<String>) -> StoreError {
        StoreError { why: why.into(), busy: false }
    }

    /// The same, of this file.
    fn at(self, path: &Path) -> StoreError {
        StoreError { why: format!("{}: {}", path.display(), self.why), ..self }
    }

    /// Another connection commits, or keeps it locked: it may answer at once where it is asked again.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::new(format!("the store is damaged ({error}); put a copy of it back"))
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                StoreError { why: format!("another program keeps the store locked ({error}); end that, and try again"), busy: true }
            }
            _ => StoreError::new(format!("the key store: {error}")),
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
    file: Option<Database>,
    /// Held for as long as this process owns it: whatever of it still writes.
    owned: Option<Arc<Owned>>,
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

/// How long a commit of another process is waited for.
pub(super) const BUSY: Duration = Duration::from_secs(5);

impl Store {
    /// Opens the file, or makes it, readable by its owner only.
    ///
    /// # Errors
    /// A folder that can't be made, a file that is no store, is damaged, or is a later version's.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let (file, made) = Database::open(path, Missing::Make).map_err(StoreError::new)?;
        Store::begin(file, made, None)
    }

    /// Opens the file, which is there.
    ///
    /// # Errors
    /// Those of [`Store::open`]; no such file.
    pub fn existing(path: &Path) -> Result<Store, StoreError> {
        let (file, made) = Database::open(path, Missing::Refuse).map_err(StoreError::new)?;
        Store::begin(file, made, None)
    }

    /// Opens the file for a server: no other server may have it until this is dropped, or its process ends, however it does.
    ///
    /// # Errors
    /// Those of [`Store::open`]; another server that owns it.
    pub fn own(path: &Path) -> Result<Store, StoreError> {
        let (file, made) = Database::open(path, Missing::Make).map_err(StoreError::new)?;
        let owned = file.own().map_err(|why| StoreError::new(why).at(path))?;
        let warnings = file.warnings();
        let store = Store::begin(file, made, Some(Arc::new(owned)))?;
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        Ok(store)
    }

    /// A store that is gone with the process.
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub fn in_memory() -> Result<Store, StoreError> {
        let mut store = Store { connection: Connection::open_in_memory()?, file: None, owned: None };
        store.prepare(true)?;
        Ok(store)
    }

    fn begin(file: Database, made: bool, owned: Option<Arc<Owned>>) -> Result<Store, StoreError> {
        let path = file.path().to_owned();
        let at = |why: StoreError| why.at(&path);
        let mut store = Store::connect(file, owned).map_err(at)?;
        let logged = if made { Ok(()) } else { store.leave_log() };
        logged.and_then(|()| store.prepare(made)).and_then(|()| store.verify()).map_err(at)?;
        Ok(store)
    }

    fn connect(file: Database, owned: Option<Arc<Owned>>) -> Result<Store, StoreError> {
        // Never made by SQLite, and never a link: what was looked at is what is opened.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = Connection::open_with_flags(file.whole(), flags)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "mmap_size", 0)?;
        file.in_place().map_err(StoreError::new)?;
        Ok(Store { connection, file: Some(file), owned })
    }

    /// Takes a file back to a rollback journal that is written by a log: by an earlier version of this program, or another one. What is in the log is kept.
    pub(super) fn leave_log(&self) -> Result<(), StoreError> {
        let Some(file) = &self.file else { return Ok(()) };
        let logged = file.has_log().map_err(StoreError::new)?;
        if logged {
            // The log's index is then in this process's own memory.
            self.connection.pragma_update(None, "locking_mode", "exclusive")?;
        }
        let left = || -> Result<String, StoreError> {
            if logged {
                // Not another program's.
                self.lacks(false)?;
            }
            let mode: String = self.connection.pragma_update_and_check(None, "journal_mode", "truncate", |row| row.get(0))?;
            if logged {
                file.remove_log_index();
                self.connection.pragma_update(None, "locking_mode", "normal")?;
                // What is read next gives the lock back.
                self.connection.query_row("select count(*) from sqlite_schema", [], |_| Ok(()))?;
            }
            Ok(mode)
        };
        match left() {
            Ok(mode) if mode == "truncate" => Ok(self.connection.pragma_update(None, "synchronous", "full")?),
            Ok(mode) => Err(StoreError::new(format!("the store can't leave journal mode {mode}; end other programs that have it open"))),
            Err(error) => {
                let _ = self.connection.pragma_update(None, "locking_mode", "normal");
                Err(error)
            }
        }
    }

    /// From now on what another process locks is an error at once ([`StoreError::is_busy`]).
    pub(super) fn wait_for_nobody(&self) -> Result<(), StoreError> {
        Ok(self.connection.busy_timeout(Duration::ZERO)?)
    }

    /// The connection, where the file behind it can be given to SQLite.
    fn ready(&self) -> Result<&Connection, StoreError> {
        self.file.as_ref().map_or(Ok(()), Database::sound).map_err(StoreError::new)?;
        Ok(&self.connection)
    }

    /// Gives up the pages that were read: some may be of a file that was damaged then and is mended now, which SQLite can't know.
    fn forget(&self) {
        let _ = self.connection.execute_batch("pragma shrink_memory");
    }

    /// Brings its tables to this version. `new`: it may have none yet.
    fn prepare(&mut self, new: bool) -> Result<(), StoreError> {
        // What is as it shall be takes no lock.
        if self.lacks(new)? {
            let connection = &mut self.connection;
            if self.file.is_some() {
                connection.pragma_update(None, "journal_mode", "truncate")?;
                connection.pragma_update(None, "synchronous", "full")?;
            }
            // One process does it, others wait for that.
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let version = version(&change)?;
            change.execute_batch(SCHEMA)?;
            if version == 1 {
                change.execute_batch("alter table keys add column revoked integer not null default 0")?;
            }
            if version < VERSION {
                change.pragma_update(None, "user_version", VERSION)?;
            }
            change.commit()?;
        }
        self.end_keys()
    }

    /// Whether its tables are to be made or changed.
    fn lacks(&self, new: bool) -> Result<bool, StoreError> {
        let version = version(&self.connection)?;
        if version > VERSION {
            return Err(StoreError::new(format!("version {version} of the store is newer than this program, which knows {VERSION}")));
        }
        if version <= 0 && !new {
            return Err(StoreError::new("this is another program's database; name another file with --store"));
        }
        let tables = "select count(*) from sqlite_schema where type = 'table' and name in ('keys', 'accounts')";
        if version > 0 && self.connection.query_row(tables, [], |row| row.get::<_, i64>(0))? != 2 {
            return Err(StoreError::new("the store is damaged: it has no tables any more; put a copy of it back"));
        }
        Ok(version < VERSION)
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// What is damaged, and what to do.
    pub(super) fn verify(&self) -> Result<(), StoreError> {
        let damaged = |why: &dyn std::fmt::Display| StoreError::new(format!("the store is damaged ({why}); put a copy of it back"));
        let read = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::from(error),
            _ => damaged(&error),
        };
        let connection = self.ready()?;
        self.forget();
        let found: String = connection.query_row("pragma quick_check(1)", [], |row| row.get(0)).map_err(read)?;
        if found != "ok" {
            return Err(damaged(&found.lines().next_back().unwrap_or_default()));
        }
        all(connection).map(drop).map_err(read)
    }

    /// Whether its file is still at its place, and SQLite's other files are what they shall be.
    ///
    /// # Errors
    /// What became of it, and what to do.
    pub(super) fn in_place(&self) -> Result<(), StoreError> {
        let Some(file) = &self.file else { return Ok(()) };
        let looked = || -> Result<(), StoreError> {
            file.in_place().map_err(StoreError::new)?;
            if file.has_log().map_err(StoreError::new)? {
                self.leave_log()?;
                tracing::warn!("{}: another program had given the store a write-ahead log; it is taken back", file.path().display());
            }
            file.sound().map_err(StoreError::new)
        };
        looked().map_err(|why| why.at(file.path()))
    }

    /// Revokes keys whose end has come, so that no clock that is set back brings one of them to life.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn end_keys(&self) -> Result<(), StoreError> {
        let ended = "from keys where revoked = 0 and ends <= ?";
        let mut statement = self.ready()?.prepare_cached(&format!("select exists (select 1 {ended})"))?;
        // What changes nothing takes no lock.
        if statement.query_row([now() as i64], |row| row.get(0))? {
            self.ready()?.execute("update keys set revoked = 1 where revoked = 0 and ends <= ?", [now() as i64])?;
        }
        Ok(())
    }

    /// Whether a key holds.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn holds(&self, id: &str) -> Result<bool, StoreError> {
        let mut statement = self.ready()?.prepare_cached(&format!("select {COLUMNS} from keys where id = ?"))?;
        Ok(statement.query_row([id], key).optional()?.is_some_and(|(key, _)| key.is_live()))
    }

    /// Makes a key. Its secret is in what is returned, and nowhere else.
    ///
    /// # Errors
    /// Those of [`Key::check`]; the store's.
    pub fn create(&self, name: &str, tier: &str, admin: bool) -> Result<(Key, Secret), StoreError> {
        Key::check(name, tier)?;
        insert(self.ready()?, name, tier, admin)
    }

    /// A new secret for the owner of a key: same name, tier and rights. The old one goes on until `grace` is over.
    ///
    /// # Errors
    /// No such key, or one that is revoked; the store's.
    pub fn rotate(&mut self, id: &str, grace: Duration) -> Result<(Key, Secret), StoreError> {
        let old = self.named(id)?;
        if !old.is_live() {
            return Err(StoreError::new(format!("key {id} is revoked; create a new one")));
        }
        let ends = now().saturating_add(grace.as_millis() as u64).min(i64::MAX as u64);
        let at_once = grace.is_zero();
        // Both or neither: a key that was to end does not go on beside its new secret.
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let made = insert(&change, &old.name, &old.tier, old.admin)?;
        change.execute(
            "update keys set ends = min(coalesce(ends, ?1), ?1), revoked = max(revoked, ?3) where id = ?2",
            params![ends as i64, id, at_once],
        )?;
        change.commit()?;
        Ok(made)
    }

    /// Refuses a key from now on.
    ///
    /// # Errors
    /// No such key; the store's.
    pub fn revoke(&self, id: &str) -> Result<Key, StoreError> {
        self.named(id)?;
        let at = now() as i64;
        self.ready()?.execute("update keys set ends = min(coalesce(ends, ?1), ?1), revoked = 1 where id = ?2", params![at, id])?;
        self.named(id)
    }

    /// All keys, oldest first.
    ///
    /// # Errors
    /// The store's.
    pub fn list(&self) -> Result<Vec<Key>, StoreError> {
        Ok(all(self.ready()?)?)
    }

    /// The key that a caller presents, where it is one of ours and not ended.
    ///
    /// # Errors
    /// The store's.
    pub fn find(&self, presented: &str) -> Result<Option<Key>, StoreError> {
        let Some(secret) = Secret::parse(presented) else { return Ok(None) };
        let mut statement = self.ready()?.prepare_cached(&format!("select {COLUMNS} from keys where id = ?"))?;
        let found = statement.query_row([secret.id()], key).optional()?;
        let live = found.filter(|(key, hash)| secret.matches(&key.salt, hash) && key.is_live());
        Ok(live.map(|(key, _)| key))
    }

    fn named(&self, id: &str) -> Result<Key, StoreError> {
        let mut statement = self.ready()?.prepare_cached(&format!("select {COLUMNS} from keys where id = ?"))?;
        let found = statement.query_row([id], key).optional()?;
        found.map(|(key, _)| key).ok_or_else(|| StoreError::new(format!("there is no key {}; see `firecrest keys list`", shown(id))))
    }

    /// The state of a key's limits, as it was written last.
    ///
    /// # Errors
    /// The store's.
    pub fn account(&self, key: &str) -> Result<Option<String>, StoreError> {
        let mut statement = self.ready()?.prepare_cached("select state from accounts where key = ?")?;
        Ok(statement.query_row([key], |row| row.get(0)).optional()?)
    }

    /// What writes the states of limits, with a connection of its own. `None` for a store in memory, which outlives nothing that holds them.
    ///
    /// # Errors
    /// The store's; a thread that can't be made.
    pub(super) fn journal(&self) -> Result<Option<Journal>, StoreError> {
        let start = |file: &Database| {
            let store = Store::connect(file.clone(), self.owned.clone())?;
            store.leave_log()?;
            Journal::start(store)
        };
        self.file.as_ref().map(start).transpose()
    }
}

const COLUMNS: &str = "id, name, tier, admin, created, ends, salt, hash, revoked";

impl Key {
    /// Whether a key may have this name and this tier.
    ///
    /// # Errors
    /// What would mislead whoever reads it ([`check_name`]).
    pub fn check(name: &str, tier: &str) -> Result<(), StoreError> {
        check_name(name).map_err(|why| StoreError::new(format!("the key's name {why}")))?;
        check_name(tier).map_err(|why| StoreError::new(format!("the tier's name {why}")))?;
        match tier {
            "" => Err(StoreError::new("the key has no tier; name one, as `standard`")),
            _ => Ok(()),
        }
    }

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

fn insert(connection: &Connection, name: &str, tier: &str, admin: bool) -> Result<(Key, Secret), StoreError> {
    let secret = Secret::new().map_err(StoreError::new)?;
    let key = Key {
        id: secret.id().to_owned(),
        name: name.to_owned(),
        tier: tier.to_owned(),
        admin,
        created: now(),
        ends: None,
        revoked: false,
        salt: secret::random().map_err(StoreError::new)?,
    };
    connection.execute(
        "insert into keys (id, name, tier, admin, created, ends, salt, hash) values (?, ?, ?, ?, ?, null, ?, ?)",
        params![key.id, key.name, key.tier, key.admin, key.created as i64, key.salt, secret.hash(&key.salt)],
    )?;
    Ok((key, secret))
}

fn all(connection: &Connection) -> rusqlite::Result<Vec<Key>> {
    let mut statement = connection.prepare(&format!("select {COLUMNS} from keys order by created, id"))?;
    statement.query_map([], |row| Ok(key(row)?.0))?.collect()
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
