//! Borders between rooms, as absences: who may name whom, and what each build must not contain.
//!
//! The rules are ARCHITECTURE.md's. A change that wants to cross one changes the design openly, or does not happen.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crate, folder, and the crates of ours it may name.
const CRATES: &[(&str, &str, &[&str])] = &[
    ("firecrest-shaders", "shaders", &[]),
    ("firecrest-weights", "runtime/weights", &[]),
    ("firecrest-engine", "runtime/engine", &["firecrest-shaders", "firecrest-weights"]),
    ("firecrest-models", "runtime/models", &[]),
    ("firecrest-contract", "runtime/contract", &[]),
    ("firecrest-policy", "runtime/policy", &["firecrest-contract"]),
    ("firecrest-service", "runtime/service", &["firecrest-contract", "firecrest-policy", "firecrest-engine"]),
    (
        "firecrest",
        "runtime/native",
        &[
            "firecrest-engine",
            "firecrest-weights",
            "firecrest-models",
            "firecrest-shaders",
            "firecrest-contract",
            "firecrest-policy",
            "firecrest-service",
        ],
    ),
    ("firecrest-web", "web", &["firecrest-engine", "firecrest-weights"]),
];

/// Words that must not stand in a room's code, where, and why.
const ABSENT: &[(&str, &[&str], &[&str], &str)] = &[
    ("runtime/engine/src", &["wgpu::"], &["runtime/engine/src/backend/gpu"], "only backend/gpu may name the GPU API"),
    ("runtime/engine/src", &["std::fs", "File::open"], &[], "the engine opens no file: it is given byte sources"),
    ("runtime/engine/src", &["Instant::now", "SystemTime", "UNIX_EPOCH"], &[], "the engine reads no clock: time is an argument"),
    (
        "runtime/engine/src",
        &["thread::spawn", "thread::Builder", "thread::scope"],
        &["runtime/engine/src/backend/cpu"],
        "the only threads are the CPU backend's pool",
    ),
    ("runtime/engine/src", &["wasm_bindgen", "js_sys", "web_sys"], &[], "the engine knows no JavaScript"),
    ("runtime/engine/src", &["println!", "eprintln!", "print!("], &[], "a library does not print"),
    ("runtime/engine/src", &["rand::", "getrandom"], &[], "randomness is an argument"),
    ("shaders/src", &["wgpu::", "std::fs", "Instant"], &[], "shaders are data"),
    ("runtime/weights/src", &["Instant::now", "SystemTime"], &[], "sources read no clock"),
    ("runtime/contract/src", &["Instant::now", "SystemTime", "std::fs", "println!", "rand::"], &[], "the contract is types"),
    (
        "runtime/policy/src",
        &["Instant::now", "SystemTime", "std::fs", "println!", "rand::", "getrandom", "async fn"],
        &[],
        "policy is pure: time, state and randomness are arguments",
    ),
    ("runtime/policy/src", &["Judged("], &["runtime/policy/src/safety/gate"], "only the gate makes an event that a caller may see"),
    (
        "runtime/service/src",
        &["Instant::now", "SystemTime", "std::fs", "std::thread", "println!", "rand::", "getrandom", "tokio::"],
        // A test's own host lends a thread.
        &["runtime/service/src/aside/tests.rs"],
        "the service is lent all this by its host",
    ),
];

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Whether a line of code holds the word, not merely as the end of a longer one (`Operand::` is not `rand::`).
fn names(code: &str, word: &str) -> bool {
    let inside = |at: usize| code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word).any(|(at, _)| !inside(at))
}

#[test]
fn rooms_do_not_name_what_they_must_not_know() {
    let root = firecrest_tests::repository();
    let mut broken = Vec::new();
    for (folder, words, except, why) in ABSENT {
        let mut files = Vec::new();
        rust_files(&root.join(folder), &mut files);
        assert!(!files.is_empty(), "{folder} has no Rust files: the rule tests nothing");
        for file in files {
            if except.iter().any(|e| file.starts_with(root.join(e))) {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or("");
                if let Some(word) = words.iter().find(|w| names(code, w)) {
                    let place = file.strip_prefix(root).unwrap_or(&file).display();
                    broken.push(format!("{place}:{}: `{word}`: {why}", number + 1));
                }
            }
        }
    }
    assert!(broken.is_empty(), "borders crossed:\n{}", broken.join("\n"));
}

/// Names of the packages in `cargo tree` of a package for a target, without dev- and build-dependencies. `options`: features, depth.
fn tree(package: &str, options: &[&str], target: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(firecrest_tests::repository())
        .args(["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{p}", "--target", target])
        .args(options)
        .output()
        .expect("cargo tree runs");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().filter_map(|l| l.split_whitespace().next()).map(str::to_owned).collect()
}

const NATIVE: &str = "x86_64-unknown-linux-gnu";
const WASM: &str = "wasm32-unknown-unknown";

#[test]
fn crates_depend_only_on_the_rooms_below() {
    let ours: BTreeSet<&str> = CRATES.iter().map(|c| c.0).collect();
    for (package, folder, allowed) in CRATES {
        assert!(firecrest_tests::repository().join(folder).is_dir(), "{folder}");
        for target in [NATIVE, WASM] {
            for name in tree(package, &["--depth", "1"], target) {
                let crossing = ours.contains(name.as_str()) && name != *package && !allowed.contains(&name.as_str());
                assert!(!crossing, "{package} must not depend on {name} ({target})");
            }
        }
    }
}

fn assert_absent(package: &str, features: &[&str], target: &str, absent: &[&str]) {
    let names = tree(package, features, target);
    for name in absent {
        assert!(!names.contains(*name), "{package} {features:?} for {target} contains {name}");
    }
}

const ASYNC_RUNTIMES: &[&str] = &["tokio", "async-std", "smol", "pollster"];

#[test]
fn the_web_build_has_no_naga_and_no_native_runtime() {
    assert_absent("firecrest-web", &[], WASM, &["naga"]);
    assert_absent("firecrest-web", &[], WASM, ASYNC_RUNTIMES);
    assert_absent("firecrest-engine", &["--features", "cpu,gpu"], WASM, &["naga", "onig", "onig_sys"]);
}

#[test]
fn the_engine_without_gpu_has_no_wgpu() {
    for target in [NATIVE, WASM] {
        assert_absent("firecrest-engine", &[], target, &["wgpu", "naga"]);
    }
    assert_absent("firecrest-engine", &["--features", "cpu,gpu"], NATIVE, &["onig", "hyper", "reqwest", "tokio"]);
    assert_absent("firecrest-engine", &["--features", "cpu,gpu"], NATIVE, ASYNC_RUNTIMES);
}

#[test]
fn shaders_stand_on_small_data_crates_only() {
    assert_absent("firecrest-shaders", &[], NATIVE, &["wgpu", "naga", "wgpu-types", "serde_json"]);
}

/// The README's `cargo run` must not have to ask which program is meant.
#[test]
fn cargo_run_means_one_program() {
    let output = Command::new(env!("CARGO"))
        .current_dir(firecrest_tests::repository())
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let default = metadata["workspace_default_members"].as_array().expect("default members");
    let packages = metadata["packages"].as_array().expect("packages").iter().filter(|package| default.contains(&package["id"]));
    let targets = packages.flat_map(|package| package["targets"].as_array().expect("targets"));
    let programs = targets.filter(|t| t["kind"][0] == "bin").map(|t| t["name"].as_str().expect("a name"));
    assert_eq!(programs.collect::<Vec<_>>(), ["firecrest"]);
}
