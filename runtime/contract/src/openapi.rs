//! The whole API as one OpenAPI 3.1 document, made from the types that bodies are read into and written from.
//!
//! What the types don't say stands here as data: `endpoints` has a row for each path, `shared` the parameters, headers and errors that many have.

mod endpoints;
mod shared;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use crate::schema::Components;

/// The document. The same types always give the same text: paths stand in the order of their rows, components in that of their names.
pub fn document() -> Value {
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Firecrest",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "The Messages API, and OpenAI's beside it, from models on the machine of who runs the server.",
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "http://127.0.0.1:8484", "description": "`firecrest serve` as it listens where nothing else is said." }],
        "security": [{ "apiKey": [] }, { "bearer": [] }],
        "tags": endpoints::tags(),
        "paths": endpoints::paths(),
        "components": {
            "schemas": schemas(),
            "responses": endpoints::errors(),
            "parameters": shared::parameters(),
            "headers": shared::headers(),
            "securitySchemes": {
                "apiKey": { "type": "apiKey", "in": "header", "name": "x-api-key", "description": "A key of `firecrest keys create`." },
                "bearer": { "type": "http", "scheme": "bearer", "description": "The same key, as `authorization: Bearer <key>`." },
            },
        },
    })
}

/// Every schema of every dialect, by name.
pub fn schemas() -> Map<String, Value> {
    let mut schemas = every().finish();
    schemas.sort_keys();
    schemas
}

fn every() -> Components {
    crate::openai::components(crate::messages::components(Components::new()))
}

const ABOUT: &str = "Two dialects on one server. The dialect goes by the path; on paths of neither or of both (`/v1/models`, `/admin`, what is not there) by the headers: \
whoever sends `anthropic-version`, `anthropic-beta` or `x-api-key` is answered in the Messages dialect, everybody else in OpenAI's. Every error comes in \
the dialect's own envelope and under the request's id.\n\n\
Keys are asked for unless the server runs with `auth = false`. A path that is not in this document answers 404, another method on one that is answers 405. \
Members of a request that are not named here are kept: they are refused with their path, or dropped and listed in `firecrest-ignored-fields` where the \
server is lenient. What becomes of each named member stands in docs/fields.md.\n\n\
OpenAPI 3.1 has no schema for the events of a stream. `x-event-schema` beside `text/event-stream` is the schema of the JSON behind each `data:`.";
