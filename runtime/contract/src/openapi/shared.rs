//! What many endpoints have: errors, headers, parameters.

use serde_json::{Map, Value, json};

use crate::ask::Version;
use crate::error::ErrorKind;

/// In which dialect an endpoint answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    Messages,
    OpenAi,
    /// By the request's headers.
    Either,
    /// Plain text, and asks for no key.
    Plain,
}

impl Speaks {
    /// The dialect of its errors: those who ask for plain text are refused as their headers say.
    fn in_errors(self) -> Speaks {
        match self {
            Speaks::Plain => Speaks::Either,
            speaks => speaks,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Speaks::Messages => "Messages",
            Speaks::OpenAi => "OpenAi",
            Speaks::Either => "Either",
            Speaks::Plain => "Plain",
        }
    }
}

/// The component that describes an error of a dialect.
pub(super) fn error_name(speaks: Speaks, kind: ErrorKind) -> String {
    format!("{}{kind:?}", speaks.in_errors().name())
}

/// The component that describes what becomes of a body of which no more comes.
pub(super) fn stalled_name(speaks: Speaks) -> String {
    format!("{}RequestTimeout", speaks.in_errors().name())
}

pub(super) fn stalled(speaks: Speaks) -> Value {
    let about = "Nothing of the body came for `timeouts.body`. `invalid_request_error`.";
    envelope(speaks.in_errors(), about, &ids(speaks.in_errors()))
}

/// An error of a dialect.
pub(super) fn error(speaks: Speaks, kind: ErrorKind) -> Value {
    let speaks = speaks.in_errors();
    let mut names = ids(speaks);
    if matches!(kind, ErrorKind::RateLimit | ErrorKind::Overloaded) {
        names.extend(["retry-after", "retry-after-ms"]);
    }
    names.push("x-should-retry");
    let names: Vec<&str> = match kind {
        // Never came as far as the limiter.
        ErrorKind::Authentication | ErrorKind::TooLarge => names,
        _ => names.into_iter().chain(limits(speaks)).collect(),
    };
    envelope(speaks, &format!("{} `{}`{}", about(kind), kind.name(), named(speaks, kind)), &names)
}

fn envelope(speaks: Speaks, about: &str, headers: &[&str]) -> Value {
    let messages = json!({ "$ref": "#/components/schemas/ErrorBody" });
    let openai = json!({ "$ref": "#/components/schemas/OpenAiErrorBody" });
    let schema = match speaks {
        Speaks::Messages => messages,
        Speaks::OpenAi => openai,
        Speaks::Either | Speaks::Plain => json!({ "anyOf": [openai, messages] }),
    };
    json!({
        "description": about,
        "headers": references(headers),
        "content": { "application/json": { "schema": schema } },
    })
}

/// What OpenAI's dialect calls it, where that is another name.
fn named(speaks: Speaks, kind: ErrorKind) -> String {
    match speaks {
        Speaks::OpenAi | Speaks::Either if kind.openai_name() != kind.name() => {
            format!(", in OpenAI's dialect `{}`.", kind.openai_name())
        }
        _ => ".".to_owned(),
    }
}

fn about(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest => "The request is wrong, or asks for what can't be done here. The message names the leaf.",
        ErrorKind::Authentication => "No key, or one that is not valid here.",
        ErrorKind::Permission => {
            "The key may not do this; or the server is not called by this name (`hosts`), or this page may not call it (`origins`)."
        }
        ErrorKind::NotFound => "There is no such model, or nothing at this path.",
        ErrorKind::Conflict => "The model is in use.",
        ErrorKind::TooLarge => "The body is larger than `body_limit`.",
        ErrorKind::RateLimit => "A limit of the key is reached.",
        ErrorKind::Api => "The server's own fault.",
        ErrorKind::Timeout => "The answer took longer than `timeouts.answer`.",
        ErrorKind::Overloaded => "Too many requests wait, or there is no memory for one more.",
    }
}

/// By which a request is found in the log.
pub(super) fn ids(speaks: Speaks) -> Vec<&'static str> {
    match speaks {
        Speaks::Messages => vec!["request-id"],
        Speaks::OpenAi => vec!["x-request-id"],
        Speaks::Either => vec!["request-id", "x-request-id"],
        Speaks::Plain => vec![],
    }
}

/// Where a key's limits stand.
pub(super) fn limits(speaks: Speaks) -> Vec<&'static str> {
    HEADERS
        .iter()
        .map(|(name, ..)| *name)
        .filter(|name| match speaks {
            Speaks::Messages => name.starts_with("anthropic-ratelimit-"),
            Speaks::OpenAi => name.starts_with("x-ratelimit-"),
            Speaks::Either => name.contains("ratelimit-"),
            Speaks::Plain => false,
        })
        .collect()
}

/// Headers by their names.
pub(super) fn references(names: &[&str]) -> Map<String, Value> {
    names.iter().map(|name| ((*name).to_owned(), json!({ "$ref": format!("#/components/headers/{name}") }))).collect()
}

/// Every header of an answer: its name, its type and format, what it says.
const HEADERS: &[(&str, &str, Option<&str>, &str)] = &[
    ("request-id", "string", None, "The request, as the log has it (Messages dialect)."),
    ("x-request-id", "string", None, "The request, as the log has it (OpenAI's dialect)."),
    ("retry-after", "integer", None, "Seconds after which it may be worth trying again, rounded up."),
    ("retry-after-ms", "integer", None, "The same in milliseconds."),
    ("x-should-retry", "string", None, "`true` or `false`: whether a client should try again by itself. Left out: as the status says."),
    ("anthropic-ratelimit-requests-limit", "integer", None, "Requests a minute that the key may send. Left out where it is not limited."),
    ("anthropic-ratelimit-requests-remaining", "integer", None, "Requests that may be sent now."),
    ("anthropic-ratelimit-requests-reset", "string", Some("date-time"), "When all are there again."),
    ("anthropic-ratelimit-tokens-limit", "integer", None, "Input and output tokens a minute together."),
    ("anthropic-ratelimit-tokens-remaining", "integer", None, "Of these, what is left."),
    ("anthropic-ratelimit-tokens-reset", "string", Some("date-time"), "When all are there again."),
    ("anthropic-ratelimit-input-tokens-limit", "integer", None, "Input tokens a minute; what is read from the cache does not count."),
    ("anthropic-ratelimit-input-tokens-remaining", "integer", None, "Of these, what is left."),
    ("anthropic-ratelimit-input-tokens-reset", "string", Some("date-time"), "When all are there again."),
    ("anthropic-ratelimit-output-tokens-limit", "integer", None, "Output tokens a minute."),
    ("anthropic-ratelimit-output-tokens-remaining", "integer", None, "Of these, what is left."),
    ("anthropic-ratelimit-output-tokens-reset", "string", Some("date-time"), "When all are there again."),
    ("x-ratelimit-limit-requests", "integer", None, "Requests a minute that the key may send. Left out where it is not limited."),
    ("x-ratelimit-remaining-requests", "integer", None, "Requests that may be sent now."),
    ("x-ratelimit-reset-requests", "string", None, "How long until all are there again: `1m30s`, `250ms`."),
    ("x-ratelimit-limit-tokens", "integer", None, "Input and output tokens a minute together."),
    ("x-ratelimit-remaining-tokens", "integer", None, "Of these, what is left."),
    ("x-ratelimit-reset-tokens", "string", None, "How long until all are there again: `1m30s`, `250ms`."),
    ("firecrest-model", "string", None, "The model that the request's name meant, with aliases followed."),
    (
        "firecrest-ignored-fields",
        "string",
        None,
        "Members of the request that were dropped, with commas between. Where the server is lenient.",
    ),
];

/// Every header as a component.
pub(super) fn headers() -> Map<String, Value> {
    let header = |&(name, kind, format, about): &(&str, &str, Option<&str>, &str)| {
        let mut schema = json!({ "type": kind });
        if let Some(format) = format {
            schema["format"] = format.into();
        }
        (name.to_owned(), json!({ "description": about, "schema": schema }))
    };
    HEADERS.iter().map(header).collect()
}

/// Every parameter as a component.
pub(super) fn parameters() -> Map<String, Value> {
    let versions = Version::ALL.map(Version::name);
    let all = json!({
        "anthropic-version": {
            "name": "anthropic-version", "in": "header", "required": false,
            "description": "The version of the Messages API. The older one where it is left out.",
            "schema": { "type": "string", "enum": versions, "default": versions[0] },
        },
        "anthropic-beta": {
            "name": "anthropic-beta", "in": "header", "required": false,
            "description": "Names of betas. Whatever it says, answers have the beta's members too.",
            "schema": { "type": "string" },
        },
        "beta": {
            "name": "beta", "in": "query", "required": false,
            "description": "As `anthropic-beta`: the SDKs' `beta.messages` sends `?beta=true`.",
            "schema": { "type": "boolean" },
        },
        "limit": {
            "name": "limit", "in": "query", "required": false,
            "description": "Models on a page. In the Messages dialect; in OpenAI's there is one page.",
            "schema": { "type": "integer", "minimum": 1, "maximum": 1000, "default": 20 },
        },
        "after_id": {
            "name": "after_id", "in": "query", "required": false,
            "description": "The page begins behind this model. In the Messages dialect.",
            "schema": { "type": "string" },
        },
        "before_id": {
            "name": "before_id", "in": "query", "required": false,
            "description": "The page ends before this model. In the Messages dialect.",
            "schema": { "type": "string" },
        },
        "model": {
            "name": "model", "in": "path", "required": true,
            "description": "A model's name, or an alias. Slashes in it may stand as they are, or as `%2F`.",
            "schema": { "type": "string", "minLength": 1 },
        },
    });
    match all {
        Value::Object(all) => all,
        _ => Map::new(),
    }
}
