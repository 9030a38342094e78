//! Thoughts that have become as long as they may be are ended for the model, and its answer goes on behind them.

use firecrest_engine::engine::{Request, Work};
use firecrest_engine::grammar::Trigger;

use crate::tools::Thoughts;

/// What one answer may think, and what it takes to go on without.
pub(super) struct Budget {
    /// Tokens that may still be thought.
    left: u32,
    thoughts: &'static Thoughts,
    /// What ends thoughts, as ids.
    close: Vec<u32>,
    /// As the answer was asked for.
    request: Request,
    /// All tokens that came of it.
    came: Vec<u32>,
}

impl Budget {
    pub(super) fn new(tokens: u32, thoughts: &'static Thoughts, close: Vec<u32>, request: Request) -> Budget {
        Budget { left: tokens, thoughts, close, request, came: Vec::new() }
    }

    /// A token came, and the answer is still thinking, or is not. Whether it has thought enough.
    pub(super) fn spend(&mut self, id: u32, thinking: bool) -> bool {
        self.came.push(id);
        self.left = self.left.saturating_sub(thinking.into());
        thinking && self.left == 0
    }

    /// The tokens that end its thoughts here, of an answer that may have `most` in all, and the request that goes on behind them: all that came is prompt
    /// then, and known to the engine's cache. `None` where the answer may have no more tokens.
    pub(super) fn end(self, most: u32) -> (Vec<u32>, Option<Request>) {
        let Budget { thoughts, mut close, mut request, came, .. } = self;
        let room = (most as usize).saturating_sub(came.len());
        if close.len() >= room {
            close.truncate(room);
            return (close, None);
        }
        let taken = (came.len() + close.len()) as u32;
        request.prompt.extend(came.iter().chain(&close));
        // It waited for its turn before.
        request.priority.patience = None;
        if let Work::Generate(generate) = &mut request.work {
            if let Some(most) = &mut generate.max_tokens {
                *most = most.saturating_sub(taken);
            }
            // What holds the answer from the end of its thoughts on holds it from here on.
            if let Some(constraint) = generate.grammar.as_mut().filter(|constraint| match &constraint.trigger {
                Trigger::Text(text) => text == thoughts.close,
                Trigger::Tokens(ids) => ids.len() == 1 && close.contains(&ids[0]),
                Trigger::Start => false,
            }) {
                constraint.trigger = Trigger::Start;
            }
        }
        (close, Some(request))
    }
}
