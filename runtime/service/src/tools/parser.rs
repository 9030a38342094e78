//! From a model's raw text to blocks: thoughts, text, calls of tools.
//!
//! What comes out does not depend on how the text is cut. A call is told from the first character of its arguments on, as they come; arguments that are
//! written as a string, which some models do, when they are whole. What begins like a call and is none, because it goes on as none can or names no tool
//! that was offered, becomes text: all of it up to the character by which that shows, opening included. Where arguments were told by then, the call is
//! closed instead, and the answer asks for none to be run. Reading goes on behind it. Arguments are whole only where their call is.
//!
//! Stop texts are looked for in the answer's text alone: not in thoughts, nor in calls, nor in what marks them.

use std::collections::VecDeque;

use firecrest_contract::event::{Block, Event, Finish, TokenLogprob};

use super::call::{Calls, Part};
use super::stops::Stops;
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
    /// Whether reading ends behind the first call.
    pub one_call: bool,
    /// Whether reading ends before a call that repeats an earlier one of the answer, name and arguments: where a tool must be called, a small
    /// model repeats itself until it has no tokens left.
    pub ends_repeating: bool,
    /// Whether the answer can be calls only, thoughts apart: what is cut within the opening of one is no text.
    pub only_calls: bool,
    /// Texts that end the answer's text.
    pub stops: Stops,
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
    /// Whether a call broke that was told already.
    broken: bool,
    /// Where the text begins that may be the beginning of a stop text, and the one that ended the answer.
    held_from: u64,
    stopped: Option<String>,
    /// Tokens whose text is not told yet, and up to where the text of all that came reaches.
    tokens: VecDeque<Token>,
    expected: u64,
    /// Where the text that was told ends.
    told: u64,
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

/// A token on its way.
#[derive(Debug)]
struct Token {
    /// Where its text stands. Of one that is a part of a character there is none: it stands where that character begins.
    start: u64,
    end: u64,
    logprob: TokenLogprob,
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
    /// Whether its arguments were begun to be told.
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
            held_from: 0,
            stopped: None,
            reading,
            ids,
            state,
            pending: String::new(),
            at: 0,
            open: None,
            calls: 0,
            made: Vec::new(),
            broken: false,
            tokens: VecDeque::new(),
            expected: 0,
            told: 0,
            digest: FNV_BASIS,
        }
    }

    /// Whether what comes now is thought.
    pub fn is_thinking(&self) -> bool {
        matches!(self.state, State::Thinking)
    }

    /// Whether nothing that still comes would be told: the one call that may be is whole, or a stop text ended the answer.
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }

    /// A token whose text comes with the next [`Parser::push`]es: so many bytes behind those of the tokens before it. A token that is only a part of a
    /// character has none, and belongs to that character.
    pub fn expect(&mut self, text: usize, logprob: TokenLogprob) {
        let start = self.expected;
        self.expected += text as u64;
        self.tokens.push_back(Token { start, end: self.expected.max(start + 1), logprob });
    }

    /// Takes text of the prompt that is repeated before the answer. Stop texts are not looked for in it.
    pub fn echo(&mut self, text: &str, out: &mut Vec<Event>) {
        let stops = std::mem::take(&mut self.reading.stops);
        self.push(text, out);
        self.reading.stops = stops;
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
        self.flush(out);
        self.close(out);
        let reason = match (self.stopped, ending) {
            (Some(stop), _) => Finish::StopSequence(stop),
            (None, Ending::Cut(reason)) => reason,
            (None, Ending::Complete) if self.calls > 0 && !self.broken => Finish::ToolUse,
            (None, Ending::Complete) => Finish::EndTurn,
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
            // Nobody could make anything of an opening, and who runs calls without arguments must not run this one.
            Calling { marked, name, .. } if cut && (marked || name.is_some() || self.reading.only_calls) => {}
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
        if self.is_finished() {
            return true;
        }
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
            if !calling.told {
                calling.raw.push(c);
            }
            holds = calling.calls.push(c);
            holds = holds && (!calling.calls.is_ready() || self.parts(&mut calling, self.at + read as u64, out));
            if !holds || calling.calls.is_done() || self.is_finished() {
                break;
            }
        }
        let before = self.at + (read as u64).saturating_sub(pending[..read].chars().next_back().map_or(0, |c| c.len_utf8() as u64));
        self.at += read as u64;
        self.pending = pending[read..].to_owned();
        if self.is_finished() {
            return true;
        }
        // Arguments that are not at an end yet, or came before what shows that this is no call.
        holds = self.parts(&mut calling, self.at, out) && holds;
        if !holds {
            self.state = State::Text;
            if calling.told {
                // It can't be taken back: it is closed, and the answer does not ask for it to be run. What broke it is text.
                self.close(out);
                self.broken = true;
                let broke = pending[..read].chars().next_back().map(String::from).unwrap_or_default();
                self.text_from(&broke, before, out);
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
                Part::Name(name) if self.reading.tools.contains(&name) => {
                    calling.repeats = (0..self.made.len()).filter(|at| self.made[*at].0 == name).collect();
                    calling.name = Some(name);
                }
                Part::Name(_) => return false,
                Part::Arguments(json) => {
                    let before = calling.arguments.len();
                    calling.repeats.retain(|at| self.made[*at].1.get(before..).is_some_and(|rest| rest.starts_with(&json)));
                    if !calling.told || self.reading.ends_repeating {
                        calling.arguments.push_str(&json);
                    }
                    if calling.told {
                        self.arguments(json, out);
                    } else if calling.repeats.is_empty() {
                        self.open_call(calling.name.clone().unwrap_or_default(), out);
                        calling.told = true;
                        self.arguments(calling.arguments.clone(), out);
                    }
                }
                Part::End => {
                    let name = calling.name.take().unwrap_or_default();
                    let mut arguments = std::mem::take(&mut calling.arguments);
                    if arguments.is_empty() && !calling.told {
                        // A call without arguments has an empty object of them.
                        arguments.push_str("{}");
                    }
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
                    self.close(out);
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
        if text.is_empty() || self.stopped.is_some() {
            return;
        }
        if self.reading.stops.held() == 0 {
            self.held_from = from;
        }
        let (certain, stopped) = self.reading.stops.push(text);
        self.stopped = stopped.map(str::to_owned);
        let begin = self.held_from;
        self.held_from += certain.len() as u64;
        self.tell(&certain, begin, out);
        if self.stopped.is_some() {
            self.state = State::Finished;
            self.cut_token(out);
        }
    }

    /// Text that might have been the beginning of a stop text is none: something else comes behind it.
    fn flush(&mut self, out: &mut Vec<Event>) {
        let held = self.reading.stops.begin_again();
        self.tell(&held, self.held_from, out);
    }

    /// Tells text, with the tokens that end in it.
    fn tell(&mut self, text: &str, from: u64, out: &mut Vec<Event>) {
        if text.is_empty() {
            return;
        }
        self.begin(Open::Text, Block::Text, out);
        while self.tokens.pop_front_if(|token| token.end <= from).is_some() {}
        let goes_on = std::mem::replace(&mut self.told, from + text.len() as u64) == from;
        let until = self.told;
        let told = std::iter::from_fn(|| self.tokens.pop_front_if(|token| token.end <= until));
        let whole = |token: Token| {
            let mut logprob = token.logprob;
            // Of a token that begins in what is not told the rest stands here.
            if token.start < from && !goes_on {
                logprob.token.0.drain(..logprob.token.0.len().min((from - token.start) as usize));
            }
            logprob
        };
        let logprobs = told.map(whole).collect();
        out.push(Event::Text { choice: self.reading.choice, text: text.to_owned(), logprobs });
    }

    /// A stop text ended the text within a token: as much of it as was told has its place too.
    fn cut_token(&mut self, out: &mut Vec<Event>) {
        while self.tokens.pop_front_if(|token| token.end <= self.told).is_some() {}
        let until = self.told;
        if let Some(Token { start, mut logprob, .. }) = self.tokens.pop_front_if(|token| token.start < until)
            && self.open == Some(Open::Text)
        {
            logprob.token.0.truncate((until - start) as usize);
            out.push(Event::Text { choice: self.reading.choice, text: String::new(), logprobs: vec![logprob] });
        }
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
        self.flush(out);
        self.close(out);
        self.begin(Open::ToolUse, Block::ToolUse { id, name }, out);
    }

    fn arguments(&mut self, json: String, out: &mut Vec<Event>) {
        if !json.is_empty() {
            out.push(Event::Arguments { choice: self.reading.choice, json });
        }
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
