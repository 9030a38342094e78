//! A row for each endpoint.

use serde_json::{Map, Value, json};

use super::shared::{Speaks, error, error_name, ids, limits, references, stalled, stalled_name};
use crate::error::ErrorKind;
use crate::error::ErrorKind::{
    Api, Authentication, Conflict, InvalidRequest, NotFound, Overloaded, Permission, RateLimit, Timeout, TooLarge,
};

struct Endpoint {
    path: &'static str,
    method: &'static str,
    tag: &'static str,
    id: &'static str,
    summary: &'static str,
    about: &'static str,
    speaks: Speaks,
    parameters: &'static [&'static str],
    /// The schema of its body.
    takes: Option<&'static str>,
    gives: Gives,
    errors: &'static [ErrorKind],
}

/// What is answered with 200.
enum Gives {
    /// JSON of this schema.
    Json(&'static str),
    /// JSON of one of these, by the dialect.
    OneOf([&'static str; 2]),
    /// JSON of a schema, or events where the request asks for a stream: their schema if there is one, and what is said of them.
    Answer { whole: &'static str, event: Option<&'static str>, stream: &'static str },
    /// Whether a model is in memory now.
    Loaded,
    /// Text of this type.
    Text(&'static str, &'static str),
}

/// What a model answers.
const ANSWER: &[ErrorKind] = &[InvalidRequest, Authentication, Permission, NotFound, TooLarge, RateLimit, Api, Timeout, Overloaded];
/// What is worked out at once from a body and a model.
const COUNT: &[ErrorKind] = &[InvalidRequest, Authentication, Permission, NotFound, TooLarge, RateLimit, Api];
/// What is worked out at once from a body.
const JUDGE: &[ErrorKind] = &[InvalidRequest, Authentication, Permission, TooLarge, RateLimit, Api];
/// What is only looked up.
const LOOK_UP: &[ErrorKind] = &[InvalidRequest, Authentication, Permission, RateLimit, Api];
const FIND: &[ErrorKind] = &[InvalidRequest, Authentication, Permission, NotFound, RateLimit, Api];

const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        path: "/v1/messages",
        method: "post",
        tag: "Messages",
        id: "createMessage",
        summary: "Answer a conversation",
        about: "`thread` is refused with `error.details.error_code` = `thread_unsupported_request`: SDKs then send the whole conversation.",
        speaks: Speaks::Messages,
        parameters: &["anthropic-version", "anthropic-beta", "beta"],
        takes: Some("MessageCreateParams"),
        gives: Gives::Answer {
            whole: "Message",
            event: Some("StreamEvent"),
            stream: "With `stream: true`. Each event has its `type` as its name: `message_start`, then for each block `content_block_start`, \
                     `content_block_delta`s and `content_block_stop`, then `message_delta` and `message_stop`. `ping` may come anywhere. `error` ends a \
                     stream that can't go on.",
        },
        errors: ANSWER,
    },
    Endpoint {
        path: "/v1/messages/count_tokens",
        method: "post",
        tag: "Messages",
        id: "countTokens",
        summary: "Count the tokens of a prompt",
        about: "Loads the model where it is not in memory: its own template and tokenizer count.",
        speaks: Speaks::Messages,
        parameters: &["anthropic-version", "anthropic-beta", "beta"],
        takes: Some("CountTokensParams"),
        gives: Gives::Json("TokensCount"),
        errors: COUNT,
    },
    Endpoint {
        path: "/v1/models",
        method: "get",
        tag: "Models",
        id: "listModels",
        summary: "List the models",
        about: "In the Messages dialect a page of them where the request has `anthropic-version`, `anthropic-beta` or `x-api-key`; else all, in OpenAI's.",
        speaks: Speaks::Either,
        parameters: &["anthropic-version", "anthropic-beta", "limit", "after_id", "before_id"],
        takes: None,
        gives: Gives::OneOf(["ModelPage", "OpenAiModels"]),
        errors: LOOK_UP,
    },
    Endpoint {
        path: "/v1/models/{model}",
        method: "get",
        tag: "Models",
        id: "getModel",
        summary: "Look at a model",
        about: "In the Messages dialect where the request has `anthropic-version`, `anthropic-beta` or `x-api-key`, else in OpenAI's.",
        speaks: Speaks::Either,
        parameters: &["model", "anthropic-version", "anthropic-beta"],
        takes: None,
        gives: Gives::OneOf(["ModelInfo", "OpenAiModel"]),
        errors: FIND,
    },
    Endpoint {
        path: "/v1/chat/completions",
        method: "post",
        tag: "OpenAI",
        id: "createChatCompletion",
        summary: "Answer a conversation",
        about: "",
        speaks: Speaks::OpenAi,
        parameters: &[],
        takes: Some("ChatRequest"),
        gives: Gives::Answer {
            whole: "ChatCompletion",
            event: Some("ChatChunk"),
            stream: "With `stream: true`. Events have no names. The last one is `data: [DONE]`. One that is `{\"error\": …}` ends a stream that can't go on.",
        },
        errors: ANSWER,
    },
    Endpoint {
        path: "/v1/responses",
        method: "post",
        tag: "OpenAI",
        id: "createResponse",
        summary: "Answer a conversation, as items",
        about: "Responses are not kept: `previous_response_id` is refused with the code `previous_response_not_found`.",
        speaks: Speaks::OpenAi,
        parameters: &[],
        takes: Some("ResponsesRequest"),
        gives: Gives::Answer {
            whole: "Response",
            event: None,
            stream: "With `stream: true`. Each event has its `type` as its name, and a `sequence_number`: `response.created`, `response.in_progress`; for \
                     each item `response.output_item.added`, its parts and deltas (`response.content_part.added`, `response.output_text.delta`, \
                     `response.output_text.done`, `response.content_part.done`; `response.reasoning_summary_part.added`, \
                     `response.reasoning_summary_text.delta` and their `done`; `response.function_call_arguments.delta` and `done`; \
                     `response.refusal.delta` and `done`), `response.output_item.done`; then one of `response.completed`, `response.incomplete`, \
                     `response.failed`, each with the whole `Response`. `error` comes instead of all of them.",
        },
        errors: ANSWER,
    },
    Endpoint {
        path: "/v1/completions",
        method: "post",
        tag: "OpenAI",
        id: "createCompletion",
        summary: "Go on from a text",
        about: "No template: the model sees the prompt as it is.",
        speaks: Speaks::OpenAi,
        parameters: &[],
        takes: Some("CompletionsRequest"),
        gives: Gives::Answer {
            whole: "CompletionsCompletion",
            event: Some("CompletionsCompletion"),
            stream: "With `stream: true`. Events have no names. The last one is `data: [DONE]`. One that is `{\"error\": …}` ends a stream that can't go on.",
        },
        errors: ANSWER,
    },
    Endpoint {
        path: "/v1/embeddings",
        method: "post",
        tag: "OpenAI",
        id: "createEmbedding",
        summary: "Make vectors of texts",
        about: "",
        speaks: Speaks::OpenAi,
        parameters: &[],
        takes: Some("EmbeddingsRequest"),
        gives: Gives::Json("Embeddings"),
        errors: ANSWER,
    },
    Endpoint {
        path: "/v1/moderations",
        method: "post",
        tag: "Moderation",
        id: "createModeration",
        summary: "Judge texts, in OpenAI's categories",
        about: "The server's own rules judge, whatever `model` says.",
        speaks: Speaks::OpenAi,
        parameters: &[],
        takes: Some("ModerationsRequest"),
        gives: Gives::Json("Moderations"),
        errors: JUDGE,
    },
    Endpoint {
        path: "/v1/moderate",
        method: "post",
        tag: "Moderation",
        id: "moderate",
        summary: "Judge a text or a conversation, in the rules' own categories",
        about: "What the server does with such a text, and the rule that decided. Not part of either hosted API.",
        speaks: Speaks::OpenAi,
        parameters: &[],
        takes: Some("ModerateRequest"),
        gives: Gives::Json("Moderate"),
        errors: JUDGE,
    },
    Endpoint {
        path: "/v1/organizations/rate_limits",
        method: "get",
        tag: "Limits",
        id: "listRateLimits",
        summary: "Limits of the key that asks",
        about: "Empty where the key is not limited.",
        speaks: Speaks::Messages,
        parameters: &["anthropic-version"],
        takes: None,
        gives: Gives::Json("RateLimitPage"),
        errors: LOOK_UP,
    },
    Endpoint {
        path: "/admin/models/{model}/load",
        method: "post",
        tag: "Administration",
        id: "loadModel",
        summary: "Load a model into memory",
        about: "For keys made with `--admin`. Answers when it is there.",
        speaks: Speaks::Either,
        parameters: &["model", "anthropic-version", "anthropic-beta"],
        takes: None,
        gives: Gives::Loaded,
        errors: FIND,
    },
    Endpoint {
        path: "/admin/models/{model}/unload",
        method: "post",
        tag: "Administration",
        id: "unloadModel",
        summary: "Let go of a model",
        about: "For keys made with `--admin`. A model that is not in memory is let go of already.",
        speaks: Speaks::Either,
        parameters: &["model", "anthropic-version", "anthropic-beta"],
        takes: None,
        gives: Gives::Loaded,
        errors: &[InvalidRequest, Authentication, Permission, NotFound, Conflict, RateLimit, Api],
    },
    Endpoint {
        path: "/healthz",
        method: "get",
        tag: "Operation",
        id: "healthz",
        summary: "Whether the process runs",
        about: "",
        speaks: Speaks::Plain,
        parameters: &[],
        takes: None,
        gives: Gives::Text("text/plain; charset=utf-8", "It does."),
        errors: &[Permission],
    },
    Endpoint {
        path: "/readyz",
        method: "get",
        tag: "Operation",
        id: "readyz",
        summary: "Whether requests are taken",
        about: "",
        speaks: Speaks::Plain,
        parameters: &[],
        takes: None,
        gives: Gives::Text("text/plain; charset=utf-8", "They are."),
        errors: &[Permission],
    },
    Endpoint {
        path: "/metrics",
        method: "get",
        tag: "Operation",
        id: "metrics",
        summary: "What the server counts",
        about: "For Prometheus. Asks for no key: keep it from where strangers are.",
        speaks: Speaks::Plain,
        parameters: &[],
        takes: None,
        gives: Gives::Text("application/openmetrics-text; version=1.0.0; charset=utf-8", "Counters, gauges and histograms."),
        errors: &[Permission],
    },
];

/// Groups of endpoints.
pub(super) fn tags() -> Value {
    json!([
        { "name": "Messages", "description": "The Messages API, in its versions 2023-06-01 and 2026-10-21 and in its beta's shape." },
        { "name": "Models", "description": "What is served, in both dialects." },
        { "name": "OpenAI", "description": "OpenAI's API." },
        { "name": "Moderation", "description": "Judgements by the rules that judge every request and answer here." },
        { "name": "Limits", "description": "What a key may use." },
        { "name": "Administration", "description": "For keys made with `--admin`." },
        { "name": "Operation", "description": "For who runs the server. No key is asked for." },
    ])
}

/// Every endpoint, by path and method.
pub(super) fn paths() -> Map<String, Value> {
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let methods = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        methods[endpoint.method] = operation(endpoint);
    }
    paths
}

/// Every error that an endpoint answers with.
pub(super) fn errors() -> Map<String, Value> {
    let all = ENDPOINTS.iter().flat_map(|endpoint| endpoint.errors.iter().map(|kind| (endpoint.speaks, *kind)));
    let stalls = ENDPOINTS.iter().filter(|endpoint| endpoint.takes.is_some());
    let stalls = stalls.map(|endpoint| (stalled_name(endpoint.speaks), stalled(endpoint.speaks)));
    all.map(|(speaks, kind)| (error_name(speaks, kind), error(speaks, kind))).chain(stalls).collect()
}

fn operation(endpoint: &Endpoint) -> Value {
    let mut operation = Map::new();
    operation.insert("tags".to_owned(), json!([endpoint.tag]));
    operation.insert("operationId".to_owned(), endpoint.id.into());
    operation.insert("summary".to_owned(), endpoint.summary.into());
    if !endpoint.about.is_empty() {
        operation.insert("description".to_owned(), endpoint.about.into());
    }
    if endpoint.speaks == Speaks::Plain {
        operation.insert("security".to_owned(), json!([]));
    }
    if !endpoint.parameters.is_empty() {
        let parameters: Vec<Value> =
            endpoint.parameters.iter().map(|name| json!({ "$ref": format!("#/components/parameters/{name}") })).collect();
        operation.insert("parameters".to_owned(), parameters.into());
    }
    if let Some(name) = endpoint.takes {
        let body = json!({ "required": true, "content": { "application/json": { "schema": schema(name) } } });
        operation.insert("requestBody".to_owned(), body);
    }
    let mut responses = Map::new();
    responses.insert("200".to_owned(), success(endpoint));
    for kind in endpoint.errors {
        let reference = format!("#/components/responses/{}", error_name(endpoint.speaks, *kind));
        responses.insert(kind.status().to_string(), json!({ "$ref": reference }));
    }
    if endpoint.takes.is_some() {
        let reference = format!("#/components/responses/{}", stalled_name(endpoint.speaks));
        responses.insert("408".to_owned(), json!({ "$ref": reference }));
    }
    if endpoint.path == "/readyz" {
        let content = json!({ "text/plain; charset=utf-8": { "schema": { "type": "string" } } });
        responses.insert("503".to_owned(), json!({ "description": "The server is told to stop.", "content": content }));
    }
    operation.insert("responses".to_owned(), responses.into());
    operation.into()
}

fn success(endpoint: &Endpoint) -> Value {
    let mut headers = ids(endpoint.speaks);
    headers.extend(limits(endpoint.speaks));
    let (about, content) = match &endpoint.gives {
        Gives::Json(name) => ("As asked.", json!({ "application/json": { "schema": schema(name) } })),
        Gives::OneOf(names) => {
            let schemas = names.map(schema);
            ("In the dialect that the request's headers say.", json!({ "application/json": { "schema": { "oneOf": schemas } } }))
        }
        Gives::Answer { whole, event, stream } => {
            headers.extend(["firecrest-model", "firecrest-ignored-fields"]);
            let mut events = json!({ "schema": { "type": "string", "description": stream } });
            if let Some(event) = event {
                events["x-event-schema"] = schema(event);
            }
            let content = json!({ "application/json": { "schema": schema(whole) }, "text/event-stream": events });
            ("The answer, whole or as it comes. What was not safe to say ends it with a refusal; that is no error.", content)
        }
        Gives::Loaded => {
            let loaded = json!({
                "type": "object", "required": ["model", "loaded"],
                "properties": { "model": { "type": "string" }, "loaded": { "type": "boolean" } },
            });
            ("It is done.", json!({ "application/json": { "schema": loaded } }))
        }
        Gives::Text(kind, about) => {
            let mut content = Map::new();
            content.insert((*kind).to_owned(), json!({ "schema": { "type": "string" } }));
            (*about, content.into())
        }
    };
    if endpoint.id == "countTokens" {
        headers.push("firecrest-ignored-fields");
    }
    let mut response = json!({ "description": about });
    if !headers.is_empty() {
        response["headers"] = references(&headers).into();
    }
    response["content"] = content;
    response
}

fn schema(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}
