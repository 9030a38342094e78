//! Writes what is published of the API into `docs/`: openapi.json, fields.md, firecrest.d.ts. With `--check` it compares them and writes nothing.

use std::path::Path;
use std::process::ExitCode;

use firecrest_contract::reference::{WRITE, files};

fn main() -> ExitCode {
    let check = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => {
            eprintln!("reference: `{other}` is not known; give `--check` or nothing");
            return ExitCode::FAILURE;
        }
    };
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let mut stale = false;
    for (name, text) in files() {
        let path = docs.join(name);
        if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
            continue;
        }
        if check {
            eprintln!("docs/{name} is not what the types say; run `{WRITE}`");
            stale = true;
        } else if let Err(error) = std::fs::create_dir_all(&docs).and_then(|()| std::fs::write(&path, &text)) {
            eprintln!("docs/{name}: {error}");
            return ExitCode::FAILURE;
        } else {
            println!("docs/{name} is written");
        }
    }
    if stale { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
