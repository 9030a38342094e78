//! What is published of the API, as files: the OpenAPI document, the types of TypeScript, the tables of fields. All of them are made from the types and
//! tables of this crate, and kept under `docs/`, where a test compares them.

mod fields;
mod types;

pub use fields::fields;
pub use types::types;

/// What to run when a file is not what it should be.
pub const WRITE: &str = "cargo run -p firecrest-contract --features schema --example reference";

/// Every file: its name under `docs/`, and what is in it.
pub fn files() -> [(&'static str, String); 3] {
    let document = crate::openapi::document();
    // A value of ours always has a text.
    let openapi = serde_json::to_string_pretty(&document).unwrap_or_default() + "\n";
    [("openapi.json", openapi), ("fields.md", fields()), ("firecrest.d.ts", types(&crate::openapi::schemas()))]
}
