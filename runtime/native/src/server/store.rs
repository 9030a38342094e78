//! What a server keeps on disk: keys and the state of their limits, in one SQLite file.
//!
//! Commits of keys are durable when they return (`synchronous = FULL`); limits are written behind what is served ([`journal`]).
//! Several processes may have the file open: `firecrest keys` changes it under a running server.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, params};

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
        StoreError(format!("the key store: {error}"))
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
    /// Random, and never shown: salts what the key shares with nobody.
    pub salt: [u8; 16],
}

/// The file.
pub struct Store {
    connection: Connection,
    /// `None`: it is in memory.
    path: Option<PathBuf>,
}

const SCHEMA: &str = "
    create table if not exists keys (
        id text primary key, name text not null, tier text not null, admin integer not null,
        created integer not null, ends integer, salt blob not null, hash blob not null
    ) strict;
    create table if not exists accounts (key text primary key, state text not null, changed integer not null) strict, without rowid;
";
/// Kept in the file's header: a file of a later version is refused, not misread.
const VERSION: i64 = 1;

impl Store {
    /// Opens the file, or makes it, readable by its owner only.
    ///
    /// # Errors
    /// A folder that is not there, a file that is no store or is a later version's.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| StoreError(format!("{}: {e}", folder.display())))?;
        }
        if !path.exists() {
            owner_only(path)?;
        }
        let connection = Connection::open(path).map_err(|e| StoreError(format!("{}: {e}", path.display())))?;
        let store = Store::prepare(connection).map_err(|e| StoreError(format!("{}: {e}", path.display())))?;
        Ok(Store { path: Some(path.to_owned()), ..store })
    }

    /// A store that is gone with the process.
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub fn in_memory() -> Result<Store, StoreError> {
        Store::prepare(Connection::open_in_memory()?)
    }

    fn prepare(connection: Connection) -> Result<Store, StoreError> {
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version > VERSION {
            return Err(StoreError(format!("version {version} of the store is newer than this program, which knows {VERSION}")));
        }
        connection.execute_batch(SCHEMA)?;
        connection.pragma_update(None, "user_version", VERSION)?;
        Ok(Store { connection, path: None })
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
        if old.ends.is_some_and(|ends| ends <= now()) {
            return Err(StoreError(format!("key {id} is revoked; create a new one")));
        }
        let ends = now().saturating_add(grace.as_millis() as u64);
        let made = self.create(&old.name, &old.tier, old.admin)?;
        self.connection.execute("update keys set ends = min(coalesce(ends, ?1), ?1) where id = ?2", params![ends as i64, id])?;
        Ok(made)
    }

    /// Refuses a key from now on.
    ///
    /// # Errors
    /// No such key; the store's.
    pub fn revoke(&self, id: &str) -> Result<Key, StoreError> {
        self.named(id)?;
        let at = now() as i64;
        self.connection.execute("update keys set ends = min(coalesce(ends, ?1), ?1) where id = ?2", params![at, id])?;
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
        let live = found.filter(|(key, hash)| secret.matches(&key.salt, hash) && key.ends.is_none_or(|ends| now() < ends));
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
        self.path.as_deref().map(|path| Journal::start(Store::open(path)?)).transpose()
    }
}

const COLUMNS: &str = "id, name, tier, admin, created, ends, salt, hash";

fn key(row: &rusqlite::Row<'_>) -> rusqlite::Result<(Key, Vec<u8>)> {
    let key = Key {
        id: row.get(0)?,
        name: row.get(1)?,
        tier: row.get(2)?,
        admin: row.get(3)?,
        created: row.get::<_, i64>(4)? as u64,
        ends: row.get::<_, Option<i64>>(5)?.map(|ends| ends as u64),
        salt: row.get(6)?,
    };
    Ok((key, row.get(7)?))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
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

    #[test]
    fn a_later_version_is_refused() {
        let connection = Connection::open_in_memory().expect("a file");
        connection.pragma_update(None, "user_version", 9).expect("set");
        assert!(Store::prepare(connection).err().expect("refused").to_string().contains("newer"));
    }
}
