//! The store's files in others' hands: cut, zeroed, removed, replaced, taken by two, named wrongly, open to all.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{FUSE, Server, keys, new_key, scratch, serve};

const STORE: &str = "store.sqlite";

fn beside(folder: &Path, ending: &str) -> PathBuf {
    folder.join(format!("{STORE}{ending}"))
}

/// What a command says that ends by itself. One that does not is ended, and fails the test.
fn ended(command: &mut Command) -> (bool, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let since = Instant::now();
    let status = loop {
        match child.try_wait().expect("a child") {
            Some(status) => break status,
            None if since.elapsed() > FUSE => {
                let _ = child.kill();
                panic!("it does not end");
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let mut said = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
    (status.success(), said)
}

/// `firecrest keys`, whatever comes of it.
fn try_keys(store: &Path, arguments: &[&str]) -> (bool, String) {
    ended(Command::new(env!("CARGO_BIN_EXE_firecrest")).arg("keys").args(arguments).arg("--store").arg(store).stdin(Stdio::null()))
}

fn refused(store: &Path, arguments: &[&str]) -> String {
    let (done, why) = try_keys(store, arguments);
    assert!(!done, "{arguments:?}: {why}");
    why
}

fn names(output: &Output) -> Vec<String> {
    let keys: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    keys.as_array().expect("a list").iter().map(|key| key["name"].as_str().expect("a name").to_owned()).collect()
}

/// What a stranger may do to a file.
fn harm(what: &str, file: &Path) {
    let aside = file.with_extension("aside");
    let done = match what {
        "cut" => std::fs::write(file, b""),
        "zeroed" => {
            let length = std::fs::metadata(file).map_or(8192, |found| found.len().max(8192));
            std::fs::write(file, vec![0; length as usize])
        }
        "garbage" => std::fs::write(file, b"garbage ".repeat(4096)),
        "removed" => {
            let _ = std::fs::rename(file, &aside);
            Ok(())
        }
        "replaced" => {
            let _ = std::fs::rename(file, &aside);
            std::fs::write(file, b"another file")
        }
        "a folder" => {
            let _ = std::fs::rename(file, &aside);
            std::fs::create_dir(file)
        }
        "a pipe" => {
            let _ = std::fs::rename(file, &aside);
            Command::new("mkfifo").arg(file).status().map(|status| assert!(status.success()))
        }
        _ => unreachable!("{what}"),
    };
    done.unwrap_or_else(|error| panic!("{what} {}: {error}", file.display()));
}

const HARMS: [&str; 7] = ["cut", "zeroed", "garbage", "removed", "replaced", "a folder", "a pipe"];

#[test]
fn nothing_that_is_done_to_its_files_ends_a_server() {
    let folder = scratch("harmed");
    let mut server = Server::start(&folder, "", "");
    let (key, _) = new_key(&folder, "standard");
    let moderate = |server: &Server, key: &str| server.post("/v1/moderate", key, r#"{"text": "Hello"}"#).0;
    assert_eq!(moderate(&server, &key), 200);
    for ending in ["-shm", "-wal"] {
        assert!(!beside(&folder, ending).exists(), "a file that is mapped, or what makes one: {ending}");
    }
    for ending in ["-journal", "-wal", "-shm"] {
        for what in HARMS {
            let file = beside(&folder, ending);
            harm(what, &file);
            // While it stands there keys are asked for, and limits are written.
            let statuses: Vec<u16> = (0..40)
                .map(|_| {
                    std::thread::sleep(Duration::from_millis(30));
                    moderate(&server, &key)
                })
                .collect();
            assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{what} {ending}: {statuses:?}");
            if file.is_dir() {
                std::fs::remove_dir(&file).expect("removed");
            } else {
                let _ = std::fs::remove_file(&file);
            }
            server.until("/readyz", 200);
            let (next, _) = new_key(&folder, "standard");
            assert_eq!((moderate(&server, &key), moderate(&server, &next)), (200, 200), "{what} {ending}");
            assert!(server.child.try_wait().expect("a child").is_none(), "{what} {ending}");
        }
    }
}

#[test]
fn a_store_that_is_harmed_is_not_believed_until_it_is_mended() {
    let folder = scratch("mended");
    let mut server = Server::start(&folder, "", "");
    let (key, _) = new_key(&folder, "standard");
    let (store, aside) = (folder.join(STORE), folder.join("store.aside"));
    for what in HARMS {
        server.until("/readyz", 200);
        assert_eq!(server.get("/v1/models", &key).0, 200, "{what}");
        let whole = std::fs::read(&store).expect("a file");
        harm(what, &store);
        assert!(server.until("/readyz", 503).contains("store"), "{what}");
        let (status, body) = server.get("/v1/models", &key);
        assert!(status == 503 && body.contains("store_unavailable"), "{what}: {status} {body}");
        let (status, body) =
            server.post("/v1/chat/completions", &key, r#"{"messages": [{"role": "user", "content": "Hi"}], "model": "m"}"#);
        assert!(status == 503 && body.contains("store_unavailable"), "{what}: {status} {body}");
        let why = refused(&store, &["list"]);
        assert!(why.contains(STORE), "{what}: {why}");
        if aside.exists() {
            let _ = std::fs::remove_dir(&store);
            std::fs::rename(&aside, &store).expect("put back");
        } else {
            std::fs::write(&store, &whole).expect("written back");
        }
        assert!(server.child.try_wait().expect("a child").is_none(), "{what}");
    }
    server.until("/readyz", 200);
    assert_eq!(server.get("/v1/models", &key).0, 200);
    server.signal("TERM");
    assert!(server.child.wait().expect("it ends").success());
}

#[test]
fn a_store_has_one_owner_whatever_it_is_called() {
    let folder = scratch("names");
    let first = Server::start(&folder, "", "");
    // As an earlier version locked it; and nothing else that stands beside the store makes it free.
    for ending in [".lock", "-journal"] {
        let _ = std::fs::remove_file(beside(&folder, ending));
    }
    let other = |name: &str| {
        let other = scratch(name);
        (other.join(STORE), other)
    };
    let (linked, link_folder) = other("names-link");
    std::fs::hard_link(folder.join(STORE), &linked).expect("a second name");
    let (pointed, point_folder) = other("names-point");
    symlink(folder.join(STORE), &pointed).expect("a link");
    let (_, inside_folder) = {
        let (path, other) = other("names-folder");
        std::fs::remove_dir(&other).expect("removed");
        symlink(&folder, &other).expect("a link");
        (path, other)
    };
    for at in [&folder, &link_folder, &point_folder] {
        let (done, why) = ended(&mut serve(at, "", ""));
        assert!(!done && why.contains("another server uses this store") && why.contains("--store") && why.contains(STORE), "{why}");
    }
    let (done, why) =
        ended(Command::new(env!("CARGO_BIN_EXE_firecrest")).args(["serve", "--port", "0", "--store"]).arg(inside_folder.join(STORE)));
    assert!(!done && why.contains("another server uses this store"), "{why}");
    // Keys are made beside it, by each of its names, and ended.
    for store in [folder.join(STORE), linked, pointed] {
        let made = Command::new(env!("CARGO_BIN_EXE_firecrest")).args(["keys", "create", "--json", "--store"]).arg(&store).output();
        let made: Value = serde_json::from_slice(&made.expect("it starts").stdout).expect("JSON");
        let (key, id) = (made["key"].as_str().expect("a key"), made["id"].as_str().expect("an id"));
        assert_eq!(first.get("/v1/models", key).0, 200, "{}", store.display());
        assert!(try_keys(&store, &["revoke", id]).0);
        assert_eq!(first.get("/v1/models", key).0, 401, "{}", store.display());
    }
    drop(first);
    Server::start(&link_folder, "", "");
}

#[test]
fn a_store_that_is_not_there_is_made_by_no_slip_of_the_pen() {
    let folder = scratch("typo");
    let typo = folder.join("sub").join("tpyo.sqlite");
    for arguments in [&["list"][..], &["list", "--json"], &["revoke", "0123456789abcdef"], &["rotate", "0123456789abcdef"]] {
        let why = refused(&typo, arguments);
        assert!(why.contains("there is no such store") && why.contains("tpyo.sqlite") && why.contains("--store"), "{arguments:?}: {why}");
        assert!(!folder.join("sub").exists(), "{arguments:?}");
    }
    for arguments in [&["create"][..], &["list"]] {
        let why = refused(Path::new(":memory:"), arguments);
        assert!(why.contains("in memory") && !Path::new(":memory:").exists(), "{why}");
        assert!(refused(Path::new(""), arguments).contains("--store"));
    }
    let dangling = folder.join("dangling.sqlite");
    symlink(folder.join("nowhere"), &dangling).expect("a link");
    assert!(refused(&dangling, &["create"]).contains("a link to a file that is not there"));
    assert!(try_keys(&typo, &["create", "--name", "first"]).0 && try_keys(&typo, &["list"]).0);
}

#[test]
fn names_that_mislead_are_refused() {
    let folder = scratch("misleading");
    let store = folder.join(STORE);
    let long = "x".repeat(129);
    for (bad, says) in [("a\nb", "U+000A"), ("a\u{1b}[31m", "U+001B"), ("a\u{202e}b", "U+202E"), ("a\u{2028}b", "U+2028"), (&long, "128")] {
        for flag in ["--name", "--tier"] {
            let why = refused(&store, &["create", flag, bad]);
            assert!(why.contains(says) && why.contains(&flag[2..]) && !why.contains(bad), "{flag} {bad:?}: {why}");
        }
    }
    assert!(refused(&store, &["create", "--tier", ""]).contains("no tier"));
    assert!(!store.exists(), "what is refused makes no store");
    keys(&folder, &["create", "--name", "größer 中文 (2)"]);
    assert_eq!(names(&keys(&folder, &["list", "--json"])), ["größer 中文 (2)"]);
    let why = refused(&store, &["revoke", "a\nb"]);
    assert!(why.contains("there is no key a\\nb;"), "{why}");
    let (done, why) = ended(&mut serve(&folder, "[tiers.\"a\\u202eb\"]\nrequests_per_minute = 3\n", ""));
    assert!(!done && why.contains("U+202E"), "{why}");
}

#[test]
fn a_store_is_its_owner_s_alone_or_the_log_says_so() {
    let mode = |path: &Path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    let by_keys = scratch("mode-keys").join(STORE);
    let made = Command::new("sh")
        .args(["-c", "umask 000; exec \"$0\" keys create --store \"$1\"", env!("CARGO_BIN_EXE_firecrest")])
        .arg(&by_keys)
        .output();
    assert!(made.expect("a shell").status.success());
    assert_eq!(mode(&by_keys), 0o600);
    let folder = scratch("mode");
    let store = folder.join(STORE);
    // Lines of the log may come behind those of the command.
    let says = || {
        let mut child = serve(&folder, "", "umask 000").stderr(Stdio::piped()).spawn().expect("it starts");
        let mut said = String::new();
        for line in BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok) {
            if line.contains("listening on") {
                let sent = Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]).status();
                assert!(sent.expect("a shell").success());
            }
            said += &line;
        }
        assert!(child.wait().expect("it ends").success(), "{said}");
        said
    };
    assert!(!says().contains("chmod"));
    assert_eq!(mode(&store), 0o600);
    for open in [0o640, 0o604, 0o620, 0o602, 0o666] {
        std::fs::set_permissions(&store, std::fs::Permissions::from_mode(open)).expect("set");
        let said = says();
        assert!(said.contains(&format!("{open:o}")) && said.contains(&format!("chmod 600 {}", store.display())), "{said}");
    }
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o600)).expect("set");
    assert!(!says().contains("chmod"));
}

#[test]
fn what_is_no_store_starts_no_server_and_is_left_as_it_is() {
    let folder = scratch("kinds");
    let store = folder.join(STORE);
    let page = |first: &[u8]| [first, &vec![0; 8192 - first.len()]].concat();
    let files = [
        ("empty", Vec::new(), "it was cut"),
        ("zeroed", vec![0; 8192], "no SQLite database"),
        ("text", b"[server]\n".repeat(100), "no SQLite database"),
        ("short", b"SQLite format 3\0".to_vec(), "was cut"),
        ("a header", page(b"SQLite format 3\0"), "damaged"),
    ];
    for (what, bytes, says) in files {
        std::fs::write(&store, &bytes).expect("written");
        let (done, why) = ended(&mut serve(&folder, "", ""));
        assert!(!done && why.contains(STORE) && why.contains(says) && why.contains("put a copy of it back"), "{what}: {why}");
        for arguments in [&["create"][..], &["list"], &["revoke", "0123456789abcdef"]] {
            assert!(refused(&store, arguments).contains(says), "{what} {arguments:?}");
        }
        assert_eq!(std::fs::read(&store).expect("a file"), bytes, "{what}");
        std::fs::remove_file(&store).expect("removed");
    }
    let pipe = |at: &Path| assert!(Command::new("mkfifo").arg(at).status().expect("mkfifo").success());
    let others: [(&str, &dyn Fn(&Path)); 4] = [
        ("a folder", &|at| std::fs::create_dir(at).expect("a folder")),
        ("a pipe", &pipe),
        ("a device", &|at| symlink("/dev/zero", at).expect("a link")),
        ("a socket", &|at| drop(std::os::unix::net::UnixListener::bind(at).expect("a socket"))),
    ];
    for (what, make) in others {
        // A socket's path is short.
        let short = PathBuf::from(format!("/tmp/firecrest-{}-{}", std::process::id(), what.replace(' ', "-")));
        make(&short);
        let (done, why) = ended(Command::new(env!("CARGO_BIN_EXE_firecrest")).args(["serve", "--port", "0", "--store"]).arg(&short));
        let by_keys: Vec<String> = [&["create"][..], &["list"]].iter().map(|arguments| refused(&short, arguments)).collect();
        let _ = std::fs::remove_dir(&short).or_else(|_| std::fs::remove_file(&short));
        assert!(!done && why.contains(what) && why.contains("--store"), "{what}: {why}");
        assert!(by_keys.iter().all(|why| why.contains(what)), "{what}: {by_keys:?}");
    }
    // One that stands where SQLite keeps its journal is waited for by nobody.
    new_key(&folder, "standard");
    let _ = std::fs::remove_file(beside(&folder, "-journal"));
    pipe(&beside(&folder, "-journal"));
    let (done, why) = ended(&mut serve(&folder, "", ""));
    assert!(!done && why.contains("store.sqlite-journal") && why.contains("a pipe") && why.contains("remove it"), "{why}");
    assert!(refused(&store, &["list"]).contains("a pipe"));
}

/// As a copy that another program makes, or its long commit.
#[test]
fn a_store_that_another_program_locks_holds_up_only_who_needs_it() {
    let folder = scratch("locked");
    let server = Server::start(&folder, "", "");
    let (key, _) = new_key(&folder, "standard");
    let other = rusqlite::Connection::open(folder.join(STORE)).expect("a file");
    let lock = || other.execute_batch("begin exclusive").expect("locked");
    let release = || other.execute_batch("rollback").expect("released");
    other.busy_timeout(FUSE).expect("set");
    lock();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| server.get("/v1/models", &key).0);
        let made = scope.spawn(|| new_key(&folder, "standard").0);
        // The thread that would wait for the store answers these.
        for _ in 0..20 {
            assert_eq!(server.get("/healthz", "").0, 200);
        }
        assert!(!asked.is_finished(), "nobody knows yet whether the key holds");
        release();
        assert_eq!(asked.join().expect("an answer"), 200);
        assert_eq!(server.get("/v1/models", &made.join().expect("a key")).0, 200);
    });
    lock();
    assert!(server.until("/readyz", 503).contains("store"));
    assert_eq!(server.get("/v1/models", &key).0, 503);
    release();
    server.until("/readyz", 200);
    assert_eq!(server.get("/v1/models", &key).0, 200);
}

#[test]
fn keys_that_many_make_beside_a_server_at_work_are_all_known_at_once() {
    let folder = scratch("many");
    let server = Server::start(&folder, "", "");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..8 {
                    let (key, id) = new_key(&folder, "standard");
                    assert_eq!(server.post("/v1/moderate", &key, r#"{"text": "Hello"}"#).0, 200);
                    keys(&folder, &["revoke", &id]);
                    assert_eq!(server.get("/v1/models", &key).0, 401);
                }
            });
        }
    });
    assert_eq!(names(&keys(&folder, &["list", "--json"])).len(), 32);
    assert_eq!(server.get("/readyz", "").0, 200);
}

#[test]
fn what_stands_beside_a_store_that_is_opened_costs_no_key() {
    let folder = scratch("beside");
    new_key(&folder, "standard");
    for ending in ["-journal", "-wal", "-shm"] {
        for what in HARMS {
            let file = beside(&folder, ending);
            let _ = std::fs::remove_file(&file);
            harm(what, &file);
            let (done, why) = try_keys(&folder.join(STORE), &["list"]);
            let named = why.contains(&format!("{STORE}{ending}"));
            assert_eq!(done, !matches!(what, "a folder" | "a pipe"), "{what} {ending}: {why}");
            assert!(done || named, "{what} {ending}: {why}");
            let _ = std::fs::remove_dir(&file).or_else(|_| std::fs::remove_file(&file));
            let (key, id) = new_key(&folder, "standard");
            let server = Server::start(&folder, "", "");
            assert_eq!(server.get("/v1/models", &key).0, 200, "{what} {ending}");
            keys(&folder, &["revoke", &id]);
        }
    }
    assert_eq!(names(&keys(&folder, &["list", "--json"])).len(), 22);
}

/// What was read while it was damaged is not believed when it is mended.
#[test]
fn a_page_that_is_zeroed_is_missed_and_mended() {
    use std::os::unix::fs::FileExt;
    const PAGE: usize = 4096;
    let folder = scratch("pages");
    let mut server = Server::start(&folder, "", "");
    let made: Vec<String> = (0..30).map(|_| new_key(&folder, "standard").0).collect();
    let ask = || made.iter().map(|key| server.post("/v1/moderate", key, r#"{"text": "Hello"}"#).0).collect::<Vec<_>>();
    assert!(ask().iter().all(|status| *status == 200));
    // Closed, it would take this process's locks with it.
    let store = folder.join(STORE);
    let file = std::fs::File::options().read(true).write(true).open(&store).expect("a file");
    let other = rusqlite::Connection::open(&store).expect("a file");
    other.busy_timeout(FUSE).expect("set");
    let locked = |done: &dyn Fn()| {
        other.execute_batch("begin exclusive").expect("locked");
        done();
        other.execute_batch("rollback").expect("released");
    };
    let accounts = || other.query_row("select count(*) from accounts", [], |row| row.get::<_, u32>(0)).expect("a count") as usize;
    let since = Instant::now();
    while accounts() < made.len() {
        assert!(since.elapsed() < FUSE, "limits are not written");
        std::thread::sleep(Duration::from_millis(50));
    }
    let pages = file.metadata().expect("a file").len() as usize / PAGE;
    assert!(pages >= 4, "{pages}");
    for page in 1..pages {
        let whole = std::cell::RefCell::new(vec![0; pages * PAGE]);
        locked(&|| {
            file.read_exact_at(&mut whole.borrow_mut(), 0).expect("read");
            file.write_all_at(&[0; PAGE], (page * PAGE) as u64).expect("zeroed");
        });
        // What is written makes the server read the file again, or writes the page anew.
        let anew = || {
            let mut found = [0; PAGE];
            file.read_exact_at(&mut found, (page * PAGE) as u64).expect("read");
            found.iter().any(|byte| *byte != 0)
        };
        let since = Instant::now();
        while server.get("/readyz", "").0 == 200 && !anew() {
            assert!(since.elapsed() < FUSE, "page {page} is not missed");
            assert!(ask().iter().all(|status| matches!(status, 200 | 503)), "page {page}");
            std::thread::sleep(Duration::from_millis(50));
        }
        locked(&|| file.write_all_at(&whole.borrow(), 0).expect("written back"));
        server.until("/readyz", 200);
        assert!(ask().iter().all(|status| *status == 200), "page {page}");
    }
    server.signal("TERM");
    assert!(server.child.wait().expect("it ends").success());
}
