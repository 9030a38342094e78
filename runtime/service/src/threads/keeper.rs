//! What makes a conversation of a request and its answer.

use std::rc::Rc;
use std::time::Duration;

use firecrest_contract::event::Event;
use firecrest_contract::messages::{ContentBlock, StopReason};
use firecrest_contract::openai::responses::{Echo, OutputItem, OutputPart};
use firecrest_policy::safety::gate::Judged;
use serde::Serialize;
use serde_json::json;

use super::{Claim, Conversation, Fingerprint, New, Threads};
use crate::encode::{Head, messages, responses};

/// Keeps one answer, once the caller was told all of it: it hears what the caller hears, and nothing else. Dropped before that it keeps nothing.
pub(crate) struct Keeper {
    threads: Rc<Threads>,
    key: Rc<str>,
    /// Of the answer.
    id: String,
    asked: Asked,
    answer: Answered,
    /// Of the prompt, where another is to be held against it.
    print: Option<Fingerprint>,
}

/// What an answer is kept behind.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) before: Option<Conversation>,
    pub(crate) claim: Option<Claim>,
    /// What is the same in all of the conversation, where nothing was before.
    pub(crate) fixed: Option<Vec<u8>>,
    /// A JSON array of what is new.
    pub(crate) new: Vec<u8>,
}

impl Asked {
    /// Of what is new alone.
    pub(crate) fn of(new: Vec<u8>) -> Asked {
        Asked { new, ..Asked::default() }
    }
}

/// As the dialect's own encoder collects it, so that what is kept is what was told.
enum Answered {
    Message(Box<messages::Whole>),
    Response(Box<responses::Whole>),
    /// Only the prompt's fingerprint is kept.
    Nothing,
}

impl Keeper {
    /// For an answer in the Messages dialect. Thoughts are kept though the caller may not see them.
    pub(crate) fn message(threads: &Rc<Threads>, key: &Rc<str>, id: &str, asked: Asked) -> Keeper {
        let whole = messages::Whole::new(head(id), messages::Shape::default());
        let answer = Answered::Message(Box::new(whole));
        Keeper { threads: Rc::clone(threads), key: Rc::clone(key), id: format!("msg_{id}"), asked, answer, print: None }
    }

    /// For an answer in the Messages dialect of which nobody goes on.
    pub(crate) fn nothing(threads: &Rc<Threads>, key: &Rc<str>, id: &str) -> Keeper {
        let (threads, key, id) = (Rc::clone(threads), Rc::clone(key), format!("msg_{id}"));
        Keeper { threads, key, id, asked: Asked::default(), answer: Answered::Nothing, print: None }
    }

    /// And the prompt's fingerprint is kept.
    pub(crate) fn with_print(self, print: Fingerprint) -> Keeper {
        Keeper { print: Some(print), ..self }
    }

    /// For a response.
    pub(crate) fn response(threads: &Rc<Threads>, key: &Rc<str>, id: &str, echo: Echo, asked: Asked) -> Keeper {
        let answer = Answered::Response(Box::new(responses::Whole::new(head(id), responses::Shape { echo })));
        Keeper { threads: Rc::clone(threads), key: Rc::clone(key), id: format!("resp_{id}"), asked, answer, print: None }
    }

    /// The caller is told this.
    pub(crate) fn hears(&mut self, judged: &Judged) {
        if let (Event::End { usage }, Some(print)) = (judged.event(), &mut self.print) {
            print.tokens = usage.prompt();
        }
        let event = judged.event().clone();
        match &mut self.answer {
            Answered::Message(whole) => whole.take(event),
            Answered::Response(whole) => whole.take(event),
            Answered::Nothing => {}
        }
    }

    /// The caller was told all.
    pub(crate) fn keep(self, now: Duration) {
        if let Some(said) = self.print.and_then(|print| serde_json::to_vec(&[print]).ok()) {
            self.threads.keep(now, &self.key, print_id(&self.id), New { before: None, fixed: None, said });
        }
        let Asked { before, claim, fixed, new } = self.asked;
        let said = match self.answer {
            Answered::Message(whole) => message(*whole, new),
            Answered::Response(whole) => response(*whole, new),
            Answered::Nothing => None,
        };
        let Some(said) = said else { return };
        self.threads.keep(now, &self.key, self.id, New { before, fixed, said });
        if let Some(claim) = claim {
            claim.kept();
        }
    }
}

/// Under which the fingerprint of an answer's prompt is kept: no answer has such an id.
fn print_id(id: &str) -> String {
    format!("prompt of {id}")
}

impl Threads {
    /// The fingerprint of an answer's prompt.
    pub(crate) fn print(&self, now: Duration, key: &str, id: &str) -> Option<Fingerprint> {
        self.find(now, key, &print_id(id)).ok()?.latest().said::<Fingerprint>()?.pop()
    }
}

fn head(id: &str) -> Head {
    Head { id: id.to_owned(), model: String::new(), created: 0, tier: "standard" }
}

/// `None` where nobody is to go on from it: it failed, or was refused, and clients then send the conversation without it.
fn message(whole: messages::Whole, asked: Vec<u8>) -> Option<Vec<u8>> {
    let message = whole.message().ok()?;
    if message.stop_reason == Some(StopReason::Refusal) {
        return None;
    }
    // Blocks of nothing but white space may be told, but not be sent back.
    let said = |block: &ContentBlock| !matches!(block, ContentBlock::Text(text) if text.text.trim().is_empty());
    let content: Vec<ContentBlock> = message.content.into_iter().filter(said).collect();
    let answer = (!content.is_empty()).then(|| json!({ "role": "assistant", "content": content }));
    joined(asked, answer.as_slice())
}

fn response(whole: responses::Whole, asked: Vec<u8>) -> Option<Vec<u8>> {
    let mut output = whole.response().ok()?.output;
    for item in &mut output {
        if let OutputItem::Message { content, .. } = item {
            for part in content {
                if let OutputPart::OutputText { logprobs, .. } = part {
                    logprobs.clear();
                }
            }
        }
    }
    joined(asked, &output)
}

/// A JSON array with more members.
fn joined(mut array: Vec<u8>, more: &[impl Serialize]) -> Option<Vec<u8>> {
    let more = serde_json::to_vec(more).ok()?;
    if more.len() > 2 {
        array.pop();
        if array.len() > 1 {
            array.push(b',');
        }
        array.extend_from_slice(more.get(1..)?);
    }
    Some(array)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_join() {
        let join = |asked: &str, answered: &[u32]| joined(asked.into(), answered).map(|json| String::from_utf8(json).expect("UTF-8"));
        assert_eq!(join("[1,2]", &[3]).as_deref(), Some("[1,2,3]"));
        assert_eq!(
            (join("[]", &[3]).as_deref(), join("[1]", &[]).as_deref(), join("[]", &[]).as_deref()),
            (Some("[3]"), Some("[1]"), Some("[]"))
        );
    }
}
