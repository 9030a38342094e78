//! The store in one process, and its file in others' hands.

use std::path::PathBuf;

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

/// What leaves a log, as a process that was killed leaves it: the file, its log and the index of that.
#[cfg(unix)]
fn logged(path: &Path, name: &str) -> PathBuf {
    let copy = scratch(name);
    let connection = Connection::open(path).expect("a file");
    connection.pragma_update(None, "journal_mode", "wal").expect("a log");
    connection.execute("update keys set name = 'in the log'", []).expect("written");
    for ending in ["", "-wal", "-shm"] {
        let beside = |path: &Path| PathBuf::from(format!("{}{ending}", path.display()));
        std::fs::copy(beside(path), beside(&copy)).expect("copied");
    }
    copy
}

#[cfg(unix)]
#[test]
fn a_store_with_a_log_is_taken_back_with_what_is_in_the_log() {
    let path = scratch("logged");
    let (_, secret) = Store::open(&path).expect("a store").create("before", "standard", false).expect("a key");
    let copy = logged(&path, "logged-copy");
    let store = Store::own(&copy).expect("an earlier version's store");
    let found = store.find(&secret.expose()).expect("a search").expect("the key");
    assert_eq!(found.name, "in the log");
    for ending in ["-wal", "-shm"] {
        assert!(!PathBuf::from(format!("{}{ending}", copy.display())).exists(), "{ending}");
    }
    // Others can write beside it again.
    Store::existing(&copy).expect("another process").create("other", "standard", false).expect("a key");
    // While it runs, another program may do the same.
    let journal = store.journal().expect("a thread").expect("a file");
    drop(logged(&copy, "logged-again"));
    assert!(store.find(&secret.expose()).expect_err("not by a log").to_string().contains("write-ahead log"));
    store.in_place().expect("it is taken back");
    assert_eq!(store.find(&secret.expose()).expect("a search").map(|key| key.name).as_deref(), Some("in the log"));
    let states: [(std::rc::Rc<str>, String); 1] = [("a".into(), "1".to_owned())];
    pollster::block_on(journal.write(states.into_iter())).expect("written");
    assert_eq!(store.account("a").expect("read").as_deref(), Some("1"));
}

#[test]
fn another_program_s_database_is_left_alone() {
    let path = scratch("other");
    let other = Connection::open(&path).expect("a file");
    other.execute_batch("pragma journal_mode = wal; create table places (id integer)").expect("a table");
    drop(other);
    let before = std::fs::read(&path).expect("a file");
    assert!(refused(&path).contains("another program's database"));
    assert!(Store::own(&path).is_err());
    assert_eq!(std::fs::read(&path).expect("a file"), before);
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
