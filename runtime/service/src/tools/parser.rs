//! From a model's raw text to blocks: thoughts, text, calls of tools.
//!
//! What comes out does not depend on how the text is cut. Of a call nothing is told before it is whole, unless a grammar vouches for it
//! ([`Reading::vouched`]); then its arguments go out as they come. What begins like a call and is none, because it goes on as none can, names no tool
//! that was offered, or has arguments that are no object, becomes text: all of it up to the character by which that shows, opening included. Reading goes on behind it.

use std::collections::VecDeque;

use firecrest_contract::event::{Block, Event, Finish, TokenLogprob};

use super::call::{Calls, Part};
use super::{Thoughts, ToolFormat};

/// What a parser is told once.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Which answer this is.
    pub choice: u32,
    /// How calls are written; `None` where no tools were offered, so that nothing is a call.
    pub format: Option<&'static ToolFormat>,
    /// Names of the tools that may be called.
    pub tools: Vec<String>,
    /// How thoughts are marked; `None` where the model has none.
    pub thoughts: Option<&'static Thoughts>,
    /// Whether the prompt ends within thoughts.
    pub thinks_already: bool,
    /// Whether the prompt ends within the answer's text, so that neither thoughts nor a bare call may begin.
    pub continues: bool,
    /// Whether thoughts are left out.
    pub hides_thoughts: bool,
    /// Whether a grammar holds every call to its form, so that none turns out not to be one.
    pub vouched: bool,
    /// Whether reading ends behind the first call.
    pub one_call: bool,
    /// Whether reading ends before a call that repeats an earlier one of the answer, name and arguments: where a tool must be called, a small
    /// model repeats itself until it has no tokens left.
    pub ends_repeating: bool,
    /// Whether the answer can be calls only, thoughts apart: what is cut within the opening of one is no text.
    pub only_calls: bool,
}

/// Why the text ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The model had said what it wanted to.
    Complete,
    /// It was cut; a call under way is closed, and is not to be run.
    Cut(Finish),
}

/// White space that may belong to what comes next is held back, so many bytes at most.
const MOST_SPACE: usize = 256;

/// Bytes that are read in one go.
const MOST_AT_ONCE: usize = 1024;

/// Reads one answer.
pub struct Parser {
    reading: Reading,
    /// Makes ids of calls.
    ids: Box<dyn FnMut() -> String>,
    state: State,
    /// What came and is not decided yet.
    pending: String,
    /// How many bytes came before it.
    at: u64,
    open: Option<Open>,
    /// Whether white space that comes next belongs to nothing.
    drops_space: bool,
    /// Calls that are whole.
    calls: usize,
    /// Names and arguments of those, where none may be repeated.
    made: Vec<(String, String)>,
    /// Whether arguments of the open call were told.
    argued: bool,
    /// Whether a call broke that was told already.
    broken: bool,
    /// Tokens whose text is not told yet, each with where it ends.
    tokens: VecDeque<(u64, TokenLogprob)>,
    /// Of the open block's thoughts, for their signature.
    digest: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    ToolUse,
}

#[derive(Debug)]
enum State {
    /// Nothing but white space came: thoughts, a bare call or text.
    Start {
        may_think: bool,
    },
    Thinking,
    Text,
    Call(Box<Calling>),
    /// Behind a call, or several.
    After,
    /// Behind what closes it: another bare call, or text.
    Between,
    /// What still comes is not wanted.
    Finished,
}

/// Calls being read.
#[derive(Debug)]
struct Calling {
    calls: Calls,
    /// What was read since the opening, or since the last call that was told.
    raw: String,
    /// Where it starts.
    from: u64,
    /// Whether it opened with the format's own text.
    marked: bool,
    name: Option<String>,
    /// Those that are not told yet, or all of them where a later call may not repeat this one.
    arguments: String,
    /// Earlier calls of the answer that this one may turn out to repeat, by their place in [`Parser::made`].
    repeats: Vec<usize>,
    /// Whether it is told as it comes, and was begun to be.
    told: bool,
}

impl Parser {
    /// Reads from the first character behind the prompt.
    pub fn new(reading: Reading, ids: Box<dyn FnMut() -> String>) -> Parser {
        let state = match (reading.thinks_already, reading.continues) {
            (true, _) => State::Thinking,
            (false, true) => State::Text,
            (false, false) => State::Start { may_think: reading.thoughts.is_some() },
        };
        Parser {
            drops_space: reading.thinks_already,
            reading,
            ids,
            state,
            pending: String::new(),
            at: 0,
            open: None,
            calls: 0,
            made: Vec::new(),
            argued: false,
            broken: false,
            tokens: VecDeque::new(),
            digest: FNV_BASIS,
        }
    }

    /// Whether what comes now is thought.
    pub fn is_thinking(&self) -> bool {
        matches!(self.state, State::Thinking)
    }

    /// Whether nothing that still comes would be told: the one call that may be is whole.
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }

    /// A token whose text comes with the next [`Parser::push`]es, as far as `text` bytes from here.
    pub fn expect(&mut self, text: usize, logprob: TokenLogprob) {
        let before = self.tokens.back().map_or(0, |(end, _)| *end).max(self.at + self.pending.len() as u64);
        self.tokens.push_back((before + text as u64, logprob));
    }

    /// More text.
    pub fn push(&mut self, text: &str, out: &mut Vec<Event>) {
        let mut rest = text;
        while !rest.is_empty() {
            // Whoever gives much at once must not have it copied for every call in it.
            let end = rest.ceil_char_boundary(MOST_AT_ONCE);
            self.pending.push_str(&rest[..end]);
            rest = &rest[end..];
            while self.advance(out) {}
        }
    }

    /// The text has ended. The last event is `Finish`.
    pub fn finish(mut self, ending: Ending, out: &mut Vec<Event>) {
        match std::mem::replace(&mut self.state, State::Finished) {
            State::Start { .. } | State::Text => {
                let rest = self.take(self.pending.len());
                if !(matches!(ending, Ending::Cut(_)) && self.is_opening(&rest)) {
                    self.text(&rest, out);
                }
            }
            State::Thinking => {
                let rest = self.take(self.pending.len());
                self.thought(rest.trim_end(), out);
            }
            State::Call(calling) => self.end_call(*calling, &ending, out),
            State::After | State::Between | State::Finished => {}
        }
        self.close(out);
        let reason = match ending {
            Ending::Cut(reason) => reason,
            Ending::Complete if self.calls > 0 && !self.broken => Finish::ToolUse,
            Ending::Complete => Finish::EndTurn,
        };
        out.push(Event::Finish { choice: self.reading.choice, reason });
    }

    /// Whether a text can only be the beginning of a call.
    fn is_opening(&self, text: &str) -> bool {
        self.reading.format.is_some_and(|format| self.reading.only_calls && format.open.starts_with(text.trim_start()))
    }

    /// A call that the text ended in.
    fn end_call(&mut self, calling: Calling, ending: &Ending, out: &mut Vec<Event>) {
        let cut = matches!(ending, Ending::Cut(_));
        match calling {
            Calling { told: true, .. } => self.broken = true,
            Calling { repeats, .. } if cut && !repeats.is_empty() => {}
            Calling { name: Some(name), arguments, .. } if cut => {
                self.open_call(name, out);
                self.arguments(arguments, out);
            }
            // Nobody could make anything of an opening.
            Calling { marked, .. } if cut && (marked || self.reading.only_calls) => {}
            // A list that was not closed behind its last call.
            Calling { raw, .. } if self.calls > 0 && raw.trim_matches([' ', '\n', '\t', '\r', ',']).is_empty() => {}
            Calling { raw, from, .. } => self.text_from(&raw, from, out),
        }
    }

    /// One decision. False where more must come first.
    fn advance(&mut self, out: &mut Vec<Event>) -> bool {
        if self.drops_space {
            let space = self.pending.len() - self.pending.trim_start().len();
            self.take(space);
            self.drops_space = self.pending.is_empty();
        }
        if self.pending.is_empty() {
            return false;
        }
        match &mut self.state {
            State::Start { may_think } => {
                let may_think = *may_think;
                self.start(may_think)
            }
            State::Thinking => self.think(out),
            State::Text => self.read_text(out),
            State::Call(_) => self.read_call(out),
            State::After => self.close_calls(),
            State::Between => self.between(),
            State::Finished => {
                self.take(self.pending.len());
                false
            }
        }
    }

    fn start(&mut self, may_think: bool) -> bool {
        let begun = self.pending.trim_start();
        let space = self.pending.len() - begun.len();
        let Some(first) = begun.chars().next().filter(|_| space <= MOST_SPACE) else {
            if space > MOST_SPACE {
                self.state = State::Text;
            }
            return space > MOST_SPACE;
        };
        if let Some(thoughts) = self.reading.thoughts.filter(|_| may_think) {
            if begun.starts_with(thoughts.open) {
                self.take(space + thoughts.open.len());
                self.state = State::Thinking;
                self.drops_space = true;
                return true;
            }
            if thoughts.open.starts_with(begun) {
                return false;
            }
        }
        self.state = match self.reading.format {
            Some(format) if format.bare && Calls::may_begin(format, first) => self.call(format, space, false),
            _ => State::Text,
        };
        true
    }

    fn think(&mut self, out: &mut Vec<Event>) -> bool {
        let Some(thoughts) = self.reading.thoughts else {
            self.state = State::Text;
            return true;
        };
        if let Some(end) = self.pending.find(thoughts.close) {
            let space = trailing_space(&self.pending[..end], MOST_SPACE);
            let text = self.take(end - space);
            self.thought(&text, out);
            self.take(space + thoughts.close.len());
            self.close(out);
            self.state = State::Start { may_think: false };
            self.drops_space = true;
            return true;
        }
        let sure = sure(&self.pending, thoughts.close, MOST_SPACE);
        let text = self.take(sure);
        self.thought(&text, out);
        false
    }

    fn read_text(&mut self, out: &mut Vec<Event>) -> bool {
        let Some(format) = self.reading.format else {
            let text = self.take(self.pending.len());
            self.text(&text, out);
            return false;
        };
        let Some(end) = self.pending.find(format.open) else {
            let sure = sure(&self.pending, format.open, MOST_SPACE);
            let text = self.take(sure);
            self.text(&text, out);
            return false;
        };
        // White space before a call is layout.
        let space = trailing_space(&self.pending[..end], MOST_SPACE);
        let text = self.take(end - space);
        self.text(&text, out);
        self.state = self.call(format, space + format.open.len(), true);
        true
    }

    /// A call whose opening is so many bytes of what is pending.
    fn call(&mut self, format: &'static ToolFormat, opening: usize, marked: bool) -> State {
        let from = self.at;
        let raw = self.take(opening);
        let calls = Calls::new(format);
        State::Call(Box::new(Calling { calls, raw, from, marked, name: None, arguments: String::new(), repeats: Vec::new(), told: false }))
    }

    fn read_call(&mut self, out: &mut Vec<Event>) -> bool {
        let State::Call(mut calling) = std::mem::replace(&mut self.state, State::After) else { return false };
        let mut read = 0;
        let mut holds = true;
        let pending = std::mem::take(&mut self.pending);
        for c in pending.chars() {
            read += c.len_utf8();
            calling.raw.push(c);
            holds = calling.calls.push(c);
            holds = holds && (!calling.calls.is_ready() || self.parts(&mut calling, self.at + read as u64, out));
            if !holds || calling.calls.is_done() || self.is_finished() {
                break;
            }
        }
        self.at += read as u64;
        self.pending = pending[read..].to_owned();
        if self.is_finished() {
            return true;
        }
        // Arguments that are not at an end yet.
        holds = holds && self.parts(&mut calling, self.at, out);
        if !holds {
            self.state = State::Text;
            if calling.told {
                // It can't be taken back: it is closed, and the answer does not ask for it to be run.
                for part in calling.calls.take() {
                    if let Part::Arguments(json) = part {
                        self.arguments(json, out);
                    }
                }
                self.close(out);
                self.broken = true;
            } else {
                let Calling { raw, from, .. } = *calling;
                self.text_from(&raw, from, out);
            }
            return true;
        }
        if calling.calls.is_done() {
            return true;
        }
        self.state = State::Call(calling);
        false
    }

    /// What became known of calls. False where they call what was not offered.
    fn parts(&mut self, calling: &mut Calling, at: u64, out: &mut Vec<Event>) -> bool {
        for part in calling.calls.take() {
            match part {
                Part::Name(name) => {
                    if !self.reading.tools.contains(&name) {
                        return false;
                    }
                    calling.repeats = (0..self.made.len()).filter(|at| self.made[*at].0 == name).collect();
                    calling.name = Some(name);
                    self.tell(calling, out);
                }
                Part::Arguments(json) => {
                    let before = calling.arguments.len();
                    calling.repeats.retain(|at| self.made[*at].1.get(before..).is_some_and(|rest| rest.starts_with(&json)));
                    if !calling.told || self.reading.ends_repeating {
                        calling.arguments.push_str(&json);
                    }
                    match calling.told {
                        true => self.arguments(json, out),
                        false => self.tell(calling, out),
                    }
                }
                Part::End => {
                    let name = calling.name.take().unwrap_or_default();
                    let arguments = std::mem::take(&mut calling.arguments);
                    if std::mem::take(&mut calling.repeats).iter().any(|at| self.made[*at].1.len() == arguments.len()) {
                        self.state = State::Finished;
                        return true;
                    }
                    if self.reading.ends_repeating {
                        self.made.push((name.clone(), arguments.clone()));
                    }
                    if !calling.told {
                        self.open_call(name, out);
                        self.arguments(arguments, out);
                    }
                    self.end_arguments(out);
                    self.calls += 1;
                    calling.told = false;
                    calling.raw.clear();
                    calling.from = at;
                    if self.reading.one_call {
                        self.state = State::Finished;
                        return true;
                    }
                }
            }
        }
        true
    }

    /// Begins to tell a call that a grammar vouches for, once it can't be the repetition of an earlier one.
    fn tell(&mut self, calling: &mut Calling, out: &mut Vec<Event>) {
        let Some(name) = calling.name.as_ref().filter(|_| self.reading.vouched && calling.repeats.is_empty()) else { return };
        calling.told = true;
        self.open_call(name.clone(), out);
        self.arguments(calling.arguments.clone(), out);
    }

    fn close_calls(&mut self) -> bool {
        let close = self.reading.format.map_or("", |format| format.close);
        let space = self.pending.len() - self.pending.trim_start().len();
        self.take(space);
        if self.pending.starts_with(close) {
            self.take(close.len());
        } else if close.starts_with(&self.pending) {
            return false;
        }
        self.state = State::Between;
        true
    }

    fn between(&mut self) -> bool {
        let format = self.reading.format.filter(|format| format.bare);
        let layout = |c: char| c.is_whitespace() || format.is_some() && matches!(c, ';' | ',');
        let begun = self.pending.trim_start_matches(layout);
        let skip = self.pending.len() - begun.len();
        let Some(first) = begun.chars().next() else {
            self.take(skip);
            return false;
        };
        self.take(skip);
        self.state = match format {
            Some(format) if Calls::may_begin(format, first) => self.call(format, 0, false),
            _ => State::Text,
        };
        true
    }

    /// The next bytes of what is pending.
    fn take(&mut self, bytes: usize) -> String {
        let rest = self.pending.split_off(bytes);
        self.at += bytes as u64;
        std::mem::replace(&mut self.pending, rest)
    }

    /// Text that was just taken.
    fn text(&mut self, text: &str, out: &mut Vec<Event>) {
        self.text_from(text, self.at - text.len() as u64, out);
    }

    fn text_from(&mut self, text: &str, from: u64, out: &mut Vec<Event>) {
        if text.is_empty() {
            return;
        }
        self.begin(Open::Text, Block::Text, out);
        while self.tokens.pop_front_if(|(end, _)| *end <= from).is_some() {}
        let until = from + text.len() as u64;
        let told = std::iter::from_fn(|| self.tokens.pop_front_if(|(end, _)| *end <= until));
        let logprobs = told.map(|(_, logprob)| logprob).collect();
        out.push(Event::Text { choice: self.reading.choice, text: text.to_owned(), logprobs });
    }

    fn thought(&mut self, text: &str, out: &mut Vec<Event>) {
        if !text.is_empty() && !self.reading.hides_thoughts {
            self.begin(Open::Thinking, Block::Thinking, out);
            self.digest = text.bytes().fold(self.digest, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
            out.push(Event::Thinking { choice: self.reading.choice, text: text.to_owned() });
        }
    }

    fn open_call(&mut self, name: String, out: &mut Vec<Event>) {
        let id = (self.ids)();
        self.close(out);
        self.argued = false;
        self.begin(Open::ToolUse, Block::ToolUse { id, name }, out);
    }

    fn arguments(&mut self, json: String, out: &mut Vec<Event>) {
        if !json.is_empty() {
            self.argued = true;
            out.push(Event::Arguments { choice: self.reading.choice, json });
        }
    }

    /// A call is whole: one without arguments has an empty object of them.
    fn end_arguments(&mut self, out: &mut Vec<Event>) {
        if !self.argued {
            self.arguments("{}".to_owned(), out);
        }
        self.close(out);
    }

    fn begin(&mut self, kind: Open, block: Block, out: &mut Vec<Event>) {
        if self.open != Some(kind) {
            self.close(out);
            out.push(Event::Open { choice: self.reading.choice, block });
            self.open = Some(kind);
        }
    }

    fn close(&mut self, out: &mut Vec<Event>) {
        let open = self.open.take();
        if open == Some(Open::Thinking) {
            let digest = std::mem::replace(&mut self.digest, FNV_BASIS);
            out.push(Event::Signature { choice: self.reading.choice, signature: format!("fc1-{digest:016x}") });
        }
        if open.is_some() {
            out.push(Event::Close { choice: self.reading.choice });
        }
    }
}

/// FNV-1a, 64 bits (G. Fowler, L. C. Noll, P. Vo). Clients keep thoughts only with a signature; nothing here trusts one, so it need not be hard to make.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// How much of `text` can't be part of a `mark` that is not whole yet, nor of up to `most` bytes of white space before what comes.
fn sure(text: &str, mark: &str, most: usize) -> usize {
    let longest = mark.len().saturating_sub(1).min(text.len());
    let held =
        (1..=longest).rev().find(|&n| text.is_char_boundary(text.len() - n) && mark.starts_with(&text[text.len() - n..])).unwrap_or(0);
    let rest = &text[..text.len() - held];
    rest.len() - trailing_space(rest, most)
}

/// Bytes of white space at the end, so many at most.
fn trailing_space(text: &str, most: usize) -> usize {
    let mut space = 0;
    for c in text.chars().rev().take_while(|c| c.is_whitespace()) {
        if space + c.len_utf8() > most {
            break;
        }
        space += c.len_utf8();
    }
    space
}
