//! From a sequence's tokens to the raw text that the parser reads.

use std::collections::VecDeque;

use firecrest_engine::sequence::StopStrings;
use firecrest_engine::text::{TextStream, TokenKind, Tokenizer};

/// Makes raw text of tokens: the engine's own text, stop strings kept out of it in the same way, and those control tokens written out that mark something.
pub(super) struct Decoder {
    tokenizer: Tokenizer,
    stream: TextStream,
    stops: StopStrings,
    /// Control tokens that are written out.
    marks: Vec<&'static str>,
    /// Marks that came while text before them may still turn out to begin a stop string; each with where it stands among that text.
    waiting: VecDeque<(usize, &'static str)>,
    /// Bytes of text that came, and that were passed on.
    came: usize,
    passed: usize,
}

impl Decoder {
    pub(super) fn new(tokenizer: &Tokenizer, prompt: &[u32], stop: &[String], marks: Vec<&'static str>) -> Decoder {
        Decoder {
            stream: tokenizer.stream_after(prompt),
            tokenizer: tokenizer.clone(),
            stops: StopStrings::new(stop),
            marks,
            waiting: VecDeque::new(),
            came: 0,
            passed: 0,
        }
    }

    /// Raw text that is certain by now, and how many bytes this token stands for in it, now or later.
    pub(super) fn push(&mut self, id: u32) -> (String, usize) {
        if self.tokenizer.token_kind(id) == Some(TokenKind::Control) {
            let name = self.tokenizer.token_text(id);
            let Some(mark) = self.marks.iter().copied().find(|mark| name == Some(*mark)) else { return (String::new(), 0) };
            self.waiting.push_back((self.came, mark));
            return (self.pass(String::new()), mark.len());
        }
        let piece = self.stream.push(id);
        self.came += piece.len();
        // Where one is complete the engine says so.
        let (certain, _) = self.stops.push(&piece);
        (self.pass(certain), piece.len())
    }

    /// What is left at the end; nothing where it ended in a stop string.
    pub(super) fn finish(&mut self, stopped: bool) -> String {
        if stopped {
            return String::new();
        }
        let rest = self.stream.finish();
        self.came += rest.len();
        let (mut certain, _) = self.stops.push(&rest);
        certain.push_str(&self.stops.finish());
        self.pass(certain)
    }

    /// Text that became certain, with the marks that stand in it or behind it.
    fn pass(&mut self, certain: String) -> String {
        let mut raw = String::new();
        let mut rest = certain.as_str();
        while let Some((at, mark)) = self.waiting.pop_front_if(|(at, _)| *at <= self.passed + rest.len()) {
            let (before, behind) = rest.split_at(rest.floor_char_boundary(at.saturating_sub(self.passed)));
            self.passed += before.len();
            rest = behind;
            raw.push_str(before);
            raw.push_str(mark);
        }
        self.passed += rest.len();
        raw.push_str(rest);
        raw
    }
}
