//! Fuzzers that need nothing but the standard library: cases made by their number, damaged by chance, run under an allocator that
//! counts.
//!
//! `FIRECREST_FUZZ_EXECUTIONS` says how many of each kind (20,000 unless given; a million in `cargo xtask test --full`), and
//! `FIRECREST_FUZZ_CASE` runs a single one again.

mod adapters;
mod allocator;
mod gguf;
mod grammars;
mod mutate;
mod open;
mod safetensors;
mod templates;
mod truncations;

use std::collections::BTreeMap;

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

/// Runs every case; one that panics is named. Says what share was accepted, so that a fuzzer that no longer gets past the first
/// check is seen.
fn sweep(kind: &str, run: impl Fn(usize) -> Result<(), String> + std::panic::RefUnwindSafe) {
    let single: Option<usize> = std::env::var("FIRECREST_FUZZ_CASE").ok().and_then(|v| v.parse().ok());
    let cases = match single {
        Some(case) => case..case + 1,
        None => 0..firecrest_tests::count("FIRECREST_FUZZ_EXECUTIONS", 20_000),
    };
    let executions = cases.len();
    let mut accepted = 0;
    let mut errors: BTreeMap<String, usize> = BTreeMap::new();
    for case in cases {
        match std::panic::catch_unwind(|| run(case)) {
            Ok(Ok(())) => accepted += 1,
            // Messages by their words: what stands in quotes, and numbers, differ by case.
            Ok(Err(message)) => *errors.entry(words(&message)).or_default() += 1,
            Err(panic) => {
                eprintln!("{kind}: case {case} broke a promise; run it alone with FIRECREST_FUZZ_CASE={case}");
                std::panic::resume_unwind(panic);
            }
        }
        if single.is_some() {
            eprintln!("{kind}: case {case}: {errors:?}");
        }
    }
    println!("{kind}: {executions} executions, {accepted} accepted, {} kinds of refusal", errors.len());
    if std::env::var_os("FIRECREST_FUZZ_SHOW").is_some() {
        errors.iter().for_each(|(words, count)| println!("  {count:7} {words}"));
    }
    if executions >= 20_000 {
        assert!(accepted * 20 > executions, "{kind}: only {accepted} of {executions} files were accepted: cases are too broken");
        assert!(accepted * 20 < 19 * executions, "{kind}: {accepted} of {executions} files were accepted: cases are too tame");
    }
}

fn words(message: &str) -> String {
    let outside = message.split('`').step_by(2).collect::<Vec<_>>().join("`");
    outside.chars().filter(|c| !c.is_ascii_digit()).collect()
}
