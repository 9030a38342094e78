//! Streams that the hosted service sent, read and written again.

use std::path::{Path, PathBuf};

use firecrest_contract::messages::StreamEvent;
use serde_json::Value;

/// As the harness finds it, which this room is below.
fn shared_data() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let named = std::env::var_os("FIRECREST_SHARED").map(PathBuf::from);
    named.into_iter().chain([root.join("../shared/data"), root.join("../../shared/data")]).find(|path| path.is_dir())
}

/// As the harness says it.
fn skip(what: &str, reason: &str) {
    let line = format!("SKIPPED {what}: {reason}");
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("FIRECREST_SKIPS") {
        let list = std::fs::OpenOptions::new().append(true).create(true).open(path);
        let _ = list.and_then(|mut file| std::io::Write::write_all(&mut file, format!("{line}\n").as_bytes()));
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{line} (CI=true makes a skip a failure)");
}

/// Nothing of `old` is lost in `new`, and what `new` has besides goes without saying.
fn assert_kept(old: &Value, new: &Value, path: &str) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in old {
                let path = format!("{path}.{name}");
                assert_kept(value, new.get(name).unwrap_or_else(|| panic!("{path} is lost")), &path);
            }
            for (name, value) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
                let unsaid = value.is_null() || (name == "caller" && *value == serde_json::json!({ "type": "direct" }));
                assert!(unsaid, "{path}.{name} came from nowhere: {value}");
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            assert_eq!(old.len(), new.len(), "{path}");
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                assert_kept(old, new, &format!("{path}.{index}"));
            }
        }
        _ => assert_eq!(old, new, "{path}"),
    }
}

#[test]
fn recorded_streams_are_read_and_written_again() {
    let Some(folder) = shared_data().map(|data| data.join("sse/anthropic")) else {
        return skip("recorded Messages streams", "there is no shared data: set FIRECREST_SHARED");
    };
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).expect("the folder of recorded streams").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("a recorded stream");
        let mut name = None;
        let mut frames = 0;
        for line in text.lines() {
            if let Some(event) = line.strip_prefix("event: ") {
                name = Some(event.to_owned());
            }
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let event: StreamEvent = firecrest_contract::leaf::parse(data.as_bytes()).unwrap_or_else(|error| panic!("{data}: {error}"));
            assert!(!matches!(event, StreamEvent::Other(_)), "{data}");
            assert_eq!(name.as_deref(), Some(event.tag()));
            let old = serde_json::from_str(data).expect("JSON");
            let new = serde_json::to_value(&event).expect("JSON");
            assert_kept(&old, &new, "");
            frames += 1;
        }
        assert!(frames > 5, "{} holds a stream", entry.path().display());
        files += 1;
    }
    assert!(files > 0, "{} holds streams", folder.display());
}
