//! What is published of the API is what the types say.
#![cfg(feature = "schema")]

use std::path::Path;

use firecrest_contract::reference::{WRITE, files};

#[test]
fn published_files_are_what_the_types_say() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    for (name, text) in files() {
        let there = std::fs::read_to_string(docs.join(name)).unwrap_or_else(|e| panic!("docs/{name}: {e}; run `{WRITE}`"));
        let line = there.lines().zip(text.lines()).take_while(|(there, wanted)| there == wanted).count() + 1;
        assert!(there == text, "docs/{name} differs from line {line} on; run `{WRITE}`");
    }
}
