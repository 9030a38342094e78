//! Vectors of this machine's engine.

use std::sync::Arc;
use std::time::Duration;

use firecrest_contract::ask::RawPrompt;
use firecrest_contract::embed::{EmbedAsk, Embedded};
use firecrest_contract::error::{ApiError, CONTEXT_LENGTH_EXCEEDED};
use firecrest_engine::engine::{Embed, Event, FinishReason, Priority, Request};
use firecrest_engine::text::{EncodeOptions, Tokenizer};
use firecrest_engine::{Error, ErrorCode};
use futures_util::StreamExt;

use crate::aside::Aside;
use crate::backend::{AT_ONCE, Owner, busy};
use crate::length::counted;

use super::{EnginePort, Held, Local, Running, Submitted, Told, failed};

impl<P: EnginePort> Local<P> {
    /// Token ids of what is to become vectors, as the model's file says texts begin and end.
    ///
    /// # Errors
    /// An input that is empty, of ids that the model does not have, or longer than the context.
    pub(super) async fn embed_prompts(&self, ask: &Arc<EmbedAsk>, aside: &Aside) -> Result<Vec<Vec<u32>>, ApiError> {
        match ask.dimensions {
            Some(asked) if asked > self.width => {
                return Err(ApiError::invalid("dimensions", format!("this model's vectors have {} numbers", self.width)));
            }
            Some(asked) if asked < self.width && !self.matryoshka => {
                let why = format!("this model makes vectors of {} numbers and was not trained for fewer; leave this out", self.width);
                return Err(ApiError::invalid("dimensions", why));
            }
            _ => {}
        }
        let tokenizer = self.prompter.tokenizer().clone();
        let (room, bytes) = (self.context as usize, ask.inputs.iter().map(bytes).sum());
        let ask = Arc::clone(ask);
        let ids = move |(at, input): (usize, &RawPrompt)| ids(&tokenizer, input, room, &format!("input.{at}"));
        aside.run(bytes, move || ask.inputs.iter().enumerate().map(ids).collect()).await?
    }

    pub(super) async fn embed_all(&self, ask: &Arc<EmbedAsk>, lane: u8, owner: Owner, aside: &Aside) -> Result<Embedded, ApiError> {
        let _held = Held::new(&self.held, lane, AT_ONCE.min(ask.inputs.len() as u32));
        let prompts = self.embed_prompts(ask, aside).await?;
        let tokens = prompts.iter().map(|ids| ids.len() as u64).sum();
        let mut vectors = Vec::with_capacity(prompts.len());
        for some in prompts.chunks(AT_ONCE as usize) {
            let mut running = Vec::with_capacity(some.len());
            for ids in some {
                let priority = Priority { lane, owner: owner.0, ..Priority::default() };
                let request = Request { priority, adapter: self.adapter, ..Request::embed(ids.clone(), Embed::default()) };
                running.push(match self.port.submit(request, u32::MAX).await {
                    Ok(Submitted::Running(running)) => running,
                    Ok(Submitted::Busy { retry_after }) => return Err(busy(retry_after)),
                    Err(error) => return Err(refused(&error)),
                });
            }
            for running in running {
                let vector = vector(running).await?;
                vectors.push(match ask.dimensions {
                    Some(dimensions) => shortened(vector, dimensions),
                    None => vector,
                });
            }
        }
        Ok(Embedded { vectors, tokens })
    }
}

/// Why the engine did not take an input.
fn refused(error: &Error) -> ApiError {
    match error.code() {
        // Such as a model that makes no vectors.
        ErrorCode::Request | ErrorCode::Unsupported | ErrorCode::UnknownAdapter => ApiError::invalid("model", error.message()),
        ErrorCode::Memory => busy(Duration::from_secs(1)),
        _ => failed(error),
    }
}

fn bytes(input: &RawPrompt) -> usize {
    match input {
        RawPrompt::Text(text) => text.len(),
        RawPrompt::Tokens(ids) => 4 * ids.len(),
        RawPrompt::Infill { prefix, suffix } => prefix.len() + suffix.len(),
    }
}

/// Token ids of an input, which may have so many.
fn ids(tokenizer: &Tokenizer, input: &RawPrompt, room: usize, path: &str) -> Result<Vec<u32>, ApiError> {
    let too_long = |tokens: &str| {
        let message = format!("input is too long: {tokens} > {room} maximum, which is the model's context; shorten it");
        ApiError::invalid(path, message).code(CONTEXT_LENGTH_EXCEEDED)
    };
    let ids = match input {
        RawPrompt::Tokens(ids) => ids.clone(),
        RawPrompt::Infill { .. } => return Err(ApiError::invalid(path, "a gap can't become a vector")),
        RawPrompt::Text(text) => {
            let fewest = tokenizer.fewest_tokens(text.len());
            if fewest > room {
                return Err(too_long(&format!("at least {}", counted(fewest as u64))));
            }
            // What looks like a special token in a caller's text is text.
            let options = EncodeOptions { add_special: true, parse_special: false };
            tokenizer.encode(text, options).map_err(|e| ApiError::invalid(path, e.message()))?
        }
    };
    if ids.is_empty() {
        return Err(ApiError::invalid(path, "there is no token in it"));
    }
    let size = tokenizer.vocab_size();
    if let Some(id) = ids.iter().find(|&&id| id as usize >= size) {
        return Err(ApiError::invalid(path, format!("token {id} is not among the model's {size}")));
    }
    match ids.len() > room {
        true => Err(too_long(&counted(ids.len() as u64))),
        false => Ok(ids),
    }
}

/// The first numbers of a vector, scaled to length 1 again.
fn shortened(mut vector: Vec<f32>, dimensions: u32) -> Vec<f32> {
    if dimensions as usize >= vector.len() {
        return vector;
    }
    vector.truncate(dimensions as usize);
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
    vector
}

async fn vector(mut running: Running) -> Result<Vec<f32>, ApiError> {
    let mut vector = None;
    while let Some(told) = running.next().await {
        match told {
            Told::Event(Event::Embedding { values, .. }) => vector = Some(values),
            Told::Event(Event::Done { reason: FinishReason::Failed { code, message }, .. }) => {
                return Err(refused(&Error::new(code, message)));
            }
            Told::Lost(why) => return Err(failed(&Error::new(ErrorCode::Device, why))),
            Told::Event(_) | Told::Started(_) => {}
        }
    }
    vector.ok_or_else(|| failed(&Error::new(ErrorCode::Device, "the engine is gone")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_not_the_callers_fault() {
        let status = |code| refused(&Error::new(code, "a test")).status();
        for code in [ErrorCode::Device, ErrorCode::Internal, ErrorCode::Source, ErrorCode::Malformed, ErrorCode::Template] {
            assert_eq!(status(code), 500, "{}", code.name());
        }
        assert_eq!((status(ErrorCode::Memory), status(ErrorCode::Request), status(ErrorCode::Unsupported)), (529, 400, 400));
        let error = refused(&Error::new(ErrorCode::Device, "a test"));
        assert_eq!((error.message.as_str(), error.should_retry, error.path), ("the model stopped: a test", Some(true), None));
    }

    #[test]
    fn vectors_are_shortened_to_length_1() {
        let vector = vec![0.6, 0.0, 0.8, 0.0];
        assert_eq!(shortened(vector.clone(), 4), vector);
        assert_eq!(shortened(vector.clone(), 2), vec![1.0, 0.0]);
        assert_eq!(shortened(vec![0.0; 3], 1), vec![0.0]);
    }
}
