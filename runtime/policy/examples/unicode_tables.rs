//! Writes `src/safety/normalise/tables.rs` from Unicode's data: `cargo run -p firecrest-policy --example unicode_tables`.
//!
//! The data come with `regex-syntax` (general categories) and `unicode-security` (UTS 39's confusables). A test holds the file to this recipe.

fn main() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/safety/normalise/tables.rs");
    match std::fs::write(path, recipe::tables()) {
        Ok(()) => println!("{path} is written"),
        Err(error) => eprintln!("{path}: {error}"),
    }
}

#[path = "../src/safety/normalise/recipe.rs"]
mod recipe;
