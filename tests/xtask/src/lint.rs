//! `cargo xtask lint`: what a reviewer should not have to say.

use crate::process::{cargo, on_path, run};

/// Runs every check and says which failed.
pub(crate) fn run_checks() -> Result<bool, String> {
    let native = ["clippy", "--release", "--workspace", "--exclude", "firecrest-web", "--all-targets", "--", "-D", "warnings"];
    let wasm = ["clippy", "--release", "-p", "firecrest-web", "--target", "wasm32-unknown-unknown", "--", "-D", "warnings"];
    let checks: [(&str, &[&str]); 6] = [
        ("fmt", &["fmt", "--all", "--check"]),
        ("clippy, native", &native),
        ("clippy, wasm32", &wasm),
        ("docs", &["doc", "--workspace", "--exclude", "firecrest-web", "--no-deps", "--document-private-items"]),
        ("docs, wasm32", &["doc", "-p", "firecrest-web", "--target", "wasm32-unknown-unknown", "--no-deps", "--document-private-items"]),
        ("layer rules", &["test", "--release", "--workspace", "--exclude", "firecrest-web", "--exclude", "xtask", "--test", "layers"]),
    ];
    let mut failed = Vec::new();
    for (name, arguments) in checks {
        let mut command = cargo(arguments);
        command.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links");
        if !run(&mut command)? {
            failed.push(name);
        }
    }
    if !on_path("cargo-deny") {
        println!("SKIPPED deny: cargo install cargo-deny --locked");
    } else if !run(&mut cargo(&["deny", "check", "bans", "licenses", "sources"]))? {
        failed.push("deny");
    }
    println!("\nlint: {}", if failed.is_empty() { "clean".into() } else { format!("failed: {}", failed.join(", ")) });
    Ok(failed.is_empty())
}
