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
    /// Whether a stop string was completed: nothing behind it is text.
    stopped: bool,
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
            stopped: false,
        }
    }

    /// Whether what came ends in a stop string. The engine says so too, with what it tells next.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// As [`Decoder::push`], of a token that the model did not choose: no stop string lies in it, ends in it or begins in it.
    pub(super) fn write(&mut self, id: u32) -> (String, usize) {
        let held = self.stops.begin_again();
        let mut raw = self.pass(held);
        if let Some(mark) = self.mark(id) {
            self.waiting.push_back((self.came, mark));
            raw.push_str(&self.pass(String::new()));
            return (raw, mark.len());
        }
        let piece = self.piece(id);
        let bytes = piece.len();
        raw.push_str(&self.pass(piece));
        (raw, bytes)
    }

    /// Raw text that is certain by now, and how many bytes this token stands for in it, now or later.
    pub(super) fn push(&mut self, id: u32) -> (String, usize) {
        if self.stopped {
            return (String::new(), 0);
        }
        if let Some(mark) = self.mark(id) {
            self.waiting.push_back((self.came, mark));
            return (self.pass(String::new()), mark.len());
        }
        let piece = self.piece(id);
        let (certain, stopped) = self.stops.push(&piece);
        self.stopped = stopped.is_some();
        (self.pass(certain), piece.len())
    }

    /// The mark that a token is, if it is one.
    fn mark(&self, id: u32) -> Option<&'static str> {
        let name = self.tokenizer.token_text(id).filter(|_| self.is_control(id))?;
        self.marks.iter().copied().find(|mark| *mark == name)
    }

    fn is_control(&self, id: u32) -> bool {
        self.tokenizer.token_kind(id) == Some(TokenKind::Control)
    }

    /// The text of a token; control tokens have none.
    fn piece(&mut self, id: u32) -> String {
        if self.is_control(id) {
            return String::new();
        }
        let piece = self.stream.push(id);
        self.came += piece.len();
        piece
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

#[cfg(test)]
mod tests {
    use firecrest_engine::file::ModelFile;
    use firecrest_engine::text::EncodeOptions;

    use super::*;

    #[test]
    fn marks_stand_where_they_came_and_stops_cut_across_them() {
        let source = firecrest_weights::MemorySource::new("chat", firecrest_models::CHAT);
        let file = pollster::block_on(ModelFile::open(vec![Box::new(source)])).expect("a GGUF file");
        let tokenizer = Tokenizer::from_file(&file).expect("a tokenizer").expect("one with text");
        let control = |id: &u32| tokenizer.token_kind(*id) == Some(TokenKind::Control);
        let controls: Vec<u32> = (0..tokenizer.vocab_size() as u32).filter(control).take(2).collect();
        let [mark, other] = controls[..] else { panic!("two control tokens") };
        let name: &'static str = Box::leak(tokenizer.token_text(mark).expect("a name").to_owned().into_boxed_str());
        let ids = |text: &str| tokenizer.encode(text, EncodeOptions::default()).expect("ids");
        let tokens = [ids("the fo"), vec![other, mark], ids("x ran"), vec![mark], ids("é")].concat();
        let read = |stop: &str, ends: bool| {
            let stops: Vec<String> = [stop].into_iter().filter(|stop| !stop.is_empty()).map(str::to_owned).collect();
            let mut decoder = Decoder::new(&tokenizer, &ids("before "), &stops, vec![name]);
            let mut raw = String::new();
            let mut bytes = 0;
            for &id in &tokens {
                let (text, stands_for) = decoder.push(id);
                raw.push_str(&text);
                bytes += stands_for;
            }
            raw.push_str(&decoder.finish(ends));
            (raw, bytes)
        };
        let whole = format!("the fo{name}x ran{name}é");
        assert_eq!(read("", false), (whole.clone(), whole.len()));
        // A stop that might be beginning holds what follows back, and lets it go in order.
        assert_eq!(read("foy", false).0, whole);
        assert_eq!(read("éx", false).0, whole);
        let (stopped, _) = read("ané", true);
        assert_eq!(stopped, format!("the fo{name}x r"));
    }
}
