//! Events and errors as JavaScript objects.

use firecrest_engine::engine::{Event, FinishReason, Usage};
use firecrest_engine::{Error, ErrorCode};
use js_sys::{Array, Float32Array, Object, Reflect};
use wasm_bindgen::JsValue;

/// A plain object under construction.
pub(crate) struct Fields(Object);

impl Fields {
    /// An object `{kind}`.
    pub(crate) fn of_kind(kind: &str) -> Fields {
        Fields(Object::new()).with("kind", kind)
    }

    pub(crate) fn with(self, key: &str, value: impl Into<JsValue>) -> Fields {
        // Setting a property of a plain, extensible object cannot fail.
        let _ = Reflect::set(&self.0, &key.into(), &value.into());
        self
    }

    pub(crate) fn finish(self) -> JsValue {
        self.0.into()
    }
}

/// The error as JavaScript throws it: an `Error` with a stable `code`.
pub(crate) fn thrown(error: &Error) -> JsValue {
    let thrown = js_sys::Error::new(error.message());
    let _ = Reflect::set(&thrown, &"code".into(), &error.code().name().into());
    thrown.into()
}

/// A request's last event after a failure.
pub(crate) fn failed(request: u32, code: ErrorCode, message: &str) -> JsValue {
    Fields::of_kind("done").with("request", request).with("reason", "failed").with("code", code.name()).with("message", message).finish()
}

fn usage(usage: Usage) -> JsValue {
    Fields(Object::new())
        .with("prompt_tokens", usage.prompt_tokens)
        .with("generated_tokens", usage.generated_tokens)
        .with("cached_tokens", usage.cached_tokens)
        .with("written_tokens", usage.written_tokens)
        .with("drafted_tokens", usage.drafted_tokens)
        .with("accepted_tokens", usage.accepted_tokens)
        .with("host_waits", usage.host_waits)
        .with("preemptions", usage.preemptions)
        .with("recomputed_tokens", usage.recomputed_tokens)
        .finish()
}

/// An engine's event as an object, for the request it belongs to.
pub(crate) fn object(request: u32, event: &Event) -> JsValue {
    match event {
        Event::Token { id, logprobs, .. } => {
            let fields = Fields::of_kind("token").with("request", request).with("id", *id);
            match logprobs {
                None => fields,
                Some(logprobs) => {
                    let top = logprobs.top.iter().map(|&(id, logprob)| Array::of2(&id.into(), &logprob.into())).collect::<Array>();
                    fields.with("logprob", logprobs.chosen).with("top", top)
                }
            }
        }
        Event::Text { text, .. } => Fields::of_kind("text").with("request", request).with("text", text.as_str()),
        Event::Logits { position, values, .. } => Fields::of_kind("logits")
            .with("request", request)
            .with("position", *position)
            .with("values", Float32Array::from(values.as_slice())),
        // No request of a page asks for these.
        Event::Logprobs { position, .. } => Fields::of_kind("logprobs").with("request", request).with("position", *position),
        Event::Embedding { values, .. } => {
            Fields::of_kind("embedding").with("request", request).with("values", Float32Array::from(values.as_slice()))
        }
        Event::Done { reason, usage: used, .. } => {
            let fields = Fields::of_kind("done").with("request", request).with("reason", reason.name()).with("usage", usage(*used));
            match reason {
                FinishReason::Failed { code, message } => fields.with("code", code.name()).with("message", message.as_str()),
                _ => fields,
            }
        }
    }
    .finish()
}

/// Whose event it is.
pub(crate) fn sequence(event: &Event) -> firecrest_engine::engine::SequenceId {
    match event {
        Event::Token { sequence, .. }
        | Event::Text { sequence, .. }
        | Event::Logits { sequence, .. }
        | Event::Embedding { sequence, .. }
        | Event::Logprobs { sequence, .. }
        | Event::Done { sequence, .. } => *sequence,
    }
}
