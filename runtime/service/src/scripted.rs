//! A backend that says what it is told to: raw model text, through the parser that real models go through. For tests of agents' loops, of the path
//! and its encoders, and to measure what the path itself costs.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use firecrest_contract::ask::{Ask, Content, RawPrompt, Role, Thinking, ToolChoice};
use firecrest_contract::embed::{EmbedAsk, Embedded};
use firecrest_contract::error::{ApiError, CONTEXT_LENGTH_EXCEEDED, ErrorKind};
use firecrest_contract::event::{Event, Finish, TokenLogprob, TokenText, Usage};
use firecrest_policy::safety::gate::Unjudged;
use firecrest_policy::safety::judge::PromptText;
use futures_util::{Stream, StreamExt, stream};

use crate::aside::Aside;
use crate::backend::{Allowance, Backend, Events, Exactness, Grant, Owner, Price, Queue, StartError};
use crate::length::counted;
use crate::tools::{Ending, HERMES, Parser, Reading, Stops, THOUGHTS, Thoughts, ToolFormat};

/// What is said in one turn of the assistant.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// Raw text, as a model would write it, special tokens as text.
    Says(String),
    /// Raw text, and then the model fails.
    Breaks(String, ApiError),
    /// It does not begin.
    Refuses(StartError),
}

/// How raw text is cut into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pieces {
    /// All at once.
    Whole,
    /// A word at a time.
    Words,
    /// So many characters at a time, at least one.
    Characters(usize),
}

/// What the caller lends for time to pass: awaited before each piece, which it is told the number of.
pub type Pace = Rc<dyn Fn(usize) -> Pin<Box<dyn Future<Output = ()>>>>;

/// Says line `n` to an ask with `n` turns of the assistant behind it, and the last line from there on.
pub struct Scripted {
    lines: Vec<Line>,
    format: &'static ToolFormat,
    thoughts: Option<&'static Thoughts>,
    pieces: Pieces,
    pace: Option<Pace>,
    context: u64,
    calls: Rc<Cell<u64>>,
    starts: Cell<usize>,
}

impl Scripted {
    /// With these lines, in the format of Hermes, a word at a time.
    pub fn new(lines: Vec<Line>) -> Scripted {
        Scripted {
            lines,
            format: &HERMES,
            thoughts: Some(&THOUGHTS[0]),
            pieces: Pieces::Words,
            pace: None,
            context: 1 << 20,
            calls: Rc::default(),
            starts: Cell::new(0),
        }
    }

    /// With lines that only say something.
    pub fn saying(lines: &[&str]) -> Scripted {
        Scripted::new(lines.iter().map(|line| Line::Says((*line).to_owned())).collect())
    }

    /// In another format.
    pub fn with_format(self, format: &'static ToolFormat, thoughts: Option<&'static Thoughts>) -> Scripted {
        Scripted { format, thoughts, ..self }
    }

    /// In other pieces.
    pub fn in_pieces(self, pieces: Pieces) -> Scripted {
        Scripted { pieces, ..self }
    }

    /// In the caller's time.
    pub fn at_pace(self, pace: Pace) -> Scripted {
        Scripted { pace: Some(pace), ..self }
    }

    /// With a context of so many words.
    pub fn with_context(self, context: u64) -> Scripted {
        Scripted { context, ..self }
    }

    /// How many asks were begun.
    pub fn starts(&self) -> usize {
        self.starts.get()
    }

    fn line(&self, ask: &Ask) -> Line {
        let begun = ask.turns.last().is_some_and(|turn| turn.role == Role::Assistant);
        let said = ask.turns.iter().filter(|turn| turn.role == Role::Assistant).count() - usize::from(begun);
        self.lines.get(said).or(self.lines.last()).cloned().unwrap_or_else(|| Line::Says(String::new()))
    }

    fn answers(&self, ask: Arc<Ask>, output: Allowance) -> Result<impl Stream<Item = Event> + 'static, StartError> {
        self.check(&ask).map_err(StartError::Refused)?;
        let (text, fault) = match self.line(&ask) {
            Line::Says(text) => (text, None),
            Line::Breaks(text, error) => (text, Some(error)),
            Line::Refuses(error) => return Err(error),
        };
        self.starts.set(self.starts.get() + 1);
        let prompt = prompt_words(&ask);
        let most = ask.max_tokens.map_or(u64::MAX, u64::from).min(self.context.saturating_sub(prompt));
        let (text, ending) = cut(&text, most, ask.max_tokens.is_some_and(|max| u64::from(max) <= most));
        let stops = Stops::new(&ask.stop);
        let tools = !ask.tools.is_empty() && ask.tool_choice != ToolChoice::None && ask.raw.is_empty();
        let hides_thoughts =
            matches!(ask.thinking, Thinking::Off | Thinking::Adaptive { hidden: true } | Thinking::Budget { hidden: true, .. });
        let readings = (0..ask.answers()).map(|choice| Reading {
            choice,
            format: tools.then_some(self.format),
            tools: ask.tools.iter().map(|tool| tool.name.clone()).collect(),
            thoughts: self.thoughts,
            hides_thoughts,
            continues: !ask.raw.is_empty(),
            one_call: ask.one_call(),
            ends_repeating: ask.tool_choice == ToolChoice::Any,
            stops: stops.clone(),
            ..Reading::default()
        });
        let answers = readings.rev().map(|reading| {
            let calls = Rc::clone(&self.calls);
            let id = move || {
                calls.set(calls.get() + 1);
                format!("toolu_{:024}", calls.get())
            };
            Parser::new(reading, Box::new(id))
        });
        let saying = Saying {
            answers: answers.collect(),
            pieces: pieces(&text, self.pieces),
            next: 0,
            ending,
            fault,
            logprobs: ask.logprobs.is_some(),
            usage: Usage { input: prompt, ..Usage::default() },
            output,
            pace: self.pace.clone(),
            over: false,
        };
        let usage = saying.usage;
        let told = stream::unfold(saying, |mut saying| async move { saying.next().await.map(|events| (stream::iter(events), saying)) });
        Ok(stream::iter([Event::Start { usage }]).chain(told.flatten()))
    }
}

struct Saying {
    /// Those to come, the next one last.
    answers: Vec<Parser>,
    pieces: Vec<String>,
    next: usize,
    ending: Ending,
    fault: Option<ApiError>,
    logprobs: bool,
    usage: Usage,
    output: Allowance,
    pace: Option<Pace>,
    over: bool,
}

impl Saying {
    async fn next(&mut self) -> Option<Vec<Event>> {
        if self.over {
            return None;
        }
        let mut events = Vec::new();
        let piece = self.pieces.get(self.next).cloned();
        let Some(mut parser) = self.answers.pop() else {
            self.over = true;
            return Some(vec![Event::End { usage: self.usage }]);
        };
        let finished = parser.is_finished();
        let Some(piece) = piece.filter(|_| !finished) else {
            if let Some(error) = self.fault.take() {
                self.over = true;
                return Some(vec![Event::Fault(error)]);
            }
            let ending = if finished { Ending::Complete } else { self.ending.clone() };
            parser.finish(ending, &mut events);
            self.next = 0;
            return Some(events);
        };
        if let Some(pace) = &self.pace {
            pace(self.next).await;
        }
        let tokens = words(&piece);
        while self.output.granted() < self.usage.output + tokens {
            if self.output.is_closed() {
                parser.finish(Ending::Cut(Finish::MaxTokens), &mut events);
                self.next = 0;
                return Some(events);
            }
            // What is left is no use to a piece that is larger.
            self.output.use_up_to(self.output.granted());
            self.output.more(self.output.granted()).await;
        }
        self.usage.output += tokens;
        self.usage.thinking += if parser.is_thinking() { tokens } else { 0 };
        self.output.use_up_to(self.usage.output);
        if self.logprobs {
            let token = TokenText(piece.as_bytes().to_vec());
            parser.expect(piece.len(), TokenLogprob { token, logprob: -0.5, top: Vec::new() });
        }
        parser.push(&piece, &mut events);
        self.next += 1;
        self.answers.push(parser);
        Some(events)
    }
}

impl Backend for Scripted {
    fn check(&self, ask: &Ask) -> Result<(), ApiError> {
        match ask.beyond.iter().find(|beyond| !beyond.hint) {
            Some(beyond) => Err(ApiError::invalid(beyond.path.as_str(), &beyond.why)),
            None => Ok(()),
        }
    }

    async fn spelled(&self, ask: &Arc<Ask>, _: &Aside) -> Result<Vec<PromptText>, ApiError> {
        let spelled = |raw: &RawPrompt| match raw {
            RawPrompt::Text(text) => text.clone(),
            RawPrompt::Infill { prefix, suffix } => format!("{prefix} {suffix}"),
            // A script has no vocabulary.
            RawPrompt::Tokens(ids) => ids.iter().map(|id| format!("{id} ")).collect(),
        };
        Ok(ask.raw.iter().map(spelled).map(PromptText::from).collect())
    }

    async fn price(&self, ask: &Arc<Ask>, _: &Aside) -> Result<Price, ApiError> {
        self.check(ask)?;
        let input = prompt_words(ask);
        if input > self.context {
            let why =
                format!("prompt is too long: {} > {} maximum, which is the model's context; shorten it", counted(input), self.context);
            return Err(ApiError::invalid(ask.names.conversation, why).code(CONTEXT_LENGTH_EXCEEDED));
        }
        let cap = ask.max_tokens.map_or(u64::MAX, u64::from).min(self.context - input).saturating_mul(ask.answers().into());
        Ok(Price { input, exactness: Exactness::Exact, output_cap: cap })
    }

    async fn embed_price(&self, _: &Arc<EmbedAsk>, _: &Aside) -> Result<u64, ApiError> {
        Err(ApiError::invalid("model", "a script makes no vectors"))
    }

    fn queue(&self) -> Option<Queue> {
        None
    }

    async fn embed(&self, ask: Arc<EmbedAsk>, _: u8, _: Owner, aside: &Aside) -> Result<Embedded, ApiError> {
        self.embed_price(&ask, aside).await.map(|tokens| Embedded { vectors: Vec::new(), tokens })
    }

    async fn start(&self, ask: Arc<Ask>, grant: Grant) -> Result<Events, StartError> {
        Ok(Box::pin(self.answers(ask, grant.output)?.map(Unjudged::new)))
    }
}

/// A refusal for a script: too much to do.
pub fn busy(seconds: u64) -> Line {
    Line::Refuses(StartError::Busy { retry_after: Duration::from_secs(seconds) })
}

/// A failure for a script, before the first event.
pub fn broken(retry: bool) -> Line {
    Line::Refuses(StartError::Before { error: ApiError::new(ErrorKind::Api, "the script says so"), retry })
}

/// Tokens of a text: its words, with the white space before them.
fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

fn prompt_words(ask: &Ask) -> u64 {
    let parts = ask.turns.iter().flat_map(|turn| &turn.parts).map(|part| match &part.content {
        Content::Text(text) | Content::Thinking { text, .. } | Content::ToolResult { text, .. } => words(text),
        Content::Document { title, context, text } => {
            [title.as_deref(), context.as_deref(), Some(text)].into_iter().flatten().map(words).sum()
        }
        Content::ToolUse { input, .. } => 1 + words(&input.to_string()),
        Content::Beyond => 0,
    });
    let tools = ask.tools.iter().map(|tool| 1 + tool.description.as_deref().map_or(0, words) + words(&tool.schema.to_string()));
    let raw = ask.raw.iter().map(|raw| match raw {
        RawPrompt::Text(text) => words(text),
        RawPrompt::Infill { prefix, suffix } => words(prefix) + words(suffix),
        RawPrompt::Tokens(ids) => ids.len() as u64,
    });
    // Each turn has a head.
    parts.chain(tools).chain(raw).sum::<u64>() + ask.turns.len() as u64
}

/// A text as far as so many words, and why it ends there.
fn cut(text: &str, most: u64, asked: bool) -> (String, Ending) {
    let kept: String = pieces(text, Pieces::Words).into_iter().take(usize::try_from(most).unwrap_or(usize::MAX)).collect();
    let ending = match kept.len() < text.len() || most == 0 {
        true => Ending::Cut(if asked { Finish::MaxTokens } else { Finish::ContextFull }),
        false => Ending::Complete,
    };
    (kept, ending)
}

fn pieces(text: &str, how: Pieces) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    match how {
        _ if text.is_empty() => {}
        Pieces::Whole => pieces.push(text.to_owned()),
        // A word ends with the white space behind it.
        Pieces::Words => {
            let mut spaced = true;
            for c in text.chars() {
                if (spaced && !c.is_whitespace() && pieces.last().is_some_and(|last| !last.trim().is_empty())) || pieces.is_empty() {
                    pieces.push(String::new());
                }
                spaced = c.is_whitespace();
                if let Some(last) = pieces.last_mut() {
                    last.push(c);
                }
            }
        }
        Pieces::Characters(count) => {
            for (at, c) in text.chars().enumerate() {
                if at % count.max(1) == 0 {
                    pieces.push(String::new());
                }
                if let Some(last) = pieces.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use firecrest_contract::event::Block;
    use futures_util::FutureExt;
    use serde_json::json;

    use super::*;
    use crate::asks::{ask, says, tool, turn};

    fn events(scripted: &Scripted, ask: Ask) -> Vec<Event> {
        let answers = scripted.answers(Arc::new(ask), Allowance::unlimited()).unwrap_or_else(|e| panic!("{e:?}"));
        answers.collect::<Vec<_>>().now_or_never().expect("nothing to wait for")
    }

    fn finishes(events: &[Event]) -> Vec<&Finish> {
        let reasons = events.iter().filter_map(|event| match event {
            Event::Finish { reason, .. } => Some(reason),
            _ => None,
        });
        reasons.collect()
    }

    fn text(events: &[Event]) -> String {
        let texts = events.iter().filter_map(|event| match event {
            Event::Text { text, .. } => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    #[test]
    fn a_loop_runs_through_its_lines() {
        let call = "<think>\nI should look.\n</think>\n\nLooking.\n<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"sky\"}}\n</tool_call>";
        for pieces in [Pieces::Whole, Pieces::Words, Pieces::Characters(1), Pieces::Characters(7)] {
            let scripted = Scripted::saying(&[call, "It is blue."]).in_pieces(pieces);
            let mut asked = Ask { tools: vec![tool("look", json!({"type": "object"}))], ..ask(vec![says(Role::User, "What colour?")]) };
            let first = events(&scripted, asked.clone());
            assert_eq!(finishes(&first), [&Finish::ToolUse]);
            let id = first.iter().find_map(|event| match event {
                Event::Open { block: Block::ToolUse { id, .. }, .. } => Some(id.clone()),
                _ => None,
            });
            let id = id.expect("a call");
            let used = Content::ToolUse { id: id.clone(), name: "look".into(), input: json!({"at": "sky"}) };
            asked.turns.push(turn(Role::Assistant, vec![used]));
            asked.turns.push(turn(Role::User, vec![Content::ToolResult { id, text: "blue".into(), is_error: false }]));
            let second = events(&scripted, asked);
            assert_eq!((text(&second).as_str(), finishes(&second)), ("It is blue.", vec![&Finish::EndTurn]));
            assert_eq!(scripted.starts(), 2);
        }
    }

    #[test]
    fn answers_end_where_they_are_told_to() {
        let scripted = Scripted::saying(&["one two three  four"]);
        let asked = || ask(vec![says(Role::User, "Count, please.")]);
        let cut = events(&scripted, Ask { max_tokens: Some(2), choices: 2, ..asked() });
        assert_eq!((text(&cut).as_str(), finishes(&cut)), ("one two one two ", vec![&Finish::MaxTokens; 2]));
        assert_eq!(cut.last(), Some(&Event::End { usage: Usage { input: 3, output: 4, ..Usage::default() } }));
        let whole = events(&scripted, Ask { max_tokens: Some(4), ..asked() });
        assert_eq!((text(&whole).as_str(), finishes(&whole)), ("one two three  four", vec![&Finish::EndTurn]));
        let stopped = events(&scripted, Ask { stop: vec!["four".into(), "two".into()], ..asked() });
        assert_eq!((text(&stopped).as_str(), finishes(&stopped)), ("one ", vec![&Finish::StopSequence("two".into())]));
        let filled = events(&scripted, Ask { max_tokens: Some(0), ..asked() });
        assert_eq!(filled.len(), 3, "{filled:?}");
        let full = events(&scripted.with_context(5), asked());
        assert_eq!(finishes(&full), [&Finish::ContextFull]);
    }

    #[test]
    fn it_can_fail_before_and_within() {
        let error = ApiError::new(ErrorKind::Api, "lost");
        let broken = Scripted::new(vec![Line::Breaks("so".into(), error.clone()), busy(3)]);
        let told = events(&broken, ask(vec![says(Role::User, "Hi")]));
        assert_eq!(told.last(), Some(&Event::Fault(error)));
        let later = ask(vec![says(Role::User, "Hi"), says(Role::Assistant, "so"), says(Role::User, "And?")]);
        assert!(matches!(broken.answers(Arc::new(later), Allowance::unlimited()), Err(StartError::Busy { .. })));
    }

    #[test]
    fn it_waits_for_what_is_granted() {
        let output = Allowance::new(1);
        let scripted = Scripted::saying(&["one two three four"]);
        let asked = Arc::new(ask(vec![says(Role::User, "Count.")]));
        let answers = scripted.answers(asked, output.clone()).unwrap_or_else(|e| panic!("{e:?}"));
        let path = async {
            output.running_low(1).await;
            output.raise(3);
            output.running_low(1).await;
            output.close();
        };
        let (told, ()) = pollster::block_on(futures_util::future::join(answers.collect::<Vec<_>>(), path));
        assert_eq!((text(&told).as_str(), finishes(&told)), ("one two three ", vec![&Finish::MaxTokens]));
    }
}
