//! From a sequence's tokens to the raw text that the parser reads.

use firecrest_engine::text::{TextStream, TokenKind, Tokenizer};

/// Makes raw text of tokens: the engine's own text, and those control tokens written out that mark something.
pub(super) struct Decoder {
    tokenizer: Tokenizer,
    stream: TextStream,
    /// Control tokens that are written out.
    marks: Vec<&'static str>,
}

impl Decoder {
    pub(super) fn new(tokenizer: &Tokenizer, prompt: &[u32], marks: Vec<&'static str>) -> Decoder {
        Decoder { stream: tokenizer.stream_after(prompt), tokenizer: tokenizer.clone(), marks }
    }

    /// The raw text that a token completes, none where it is only a part of a character. `None` of a control token that marks nothing: it is no text.
    pub(super) fn push(&mut self, id: u32) -> Option<String> {
        if self.tokenizer.token_kind(id) != Some(TokenKind::Control) {
            return Some(self.stream.push(id));
        }
        let name = self.tokenizer.token_text(id)?;
        let mark = self.marks.iter().find(|mark| **mark == name)?;
        // A character that was begun is none.
        Some(self.stream.finish() + mark)
    }

    /// What is left at the end.
    pub(super) fn finish(&mut self) -> String {
        self.stream.finish()
    }
}

#[cfg(test)]
mod tests {
    use firecrest_engine::file::ModelFile;
    use firecrest_engine::text::EncodeOptions;

    use super::*;

    #[test]
    fn marks_stand_where_they_came() {
        let source = firecrest_weights::MemorySource::new("chat", firecrest_models::CHAT);
        let file = pollster::block_on(ModelFile::open(vec![Box::new(source)])).expect("a GGUF file");
        let tokenizer = Tokenizer::from_file(&file).expect("a tokenizer").expect("one with text");
        let control = |id: &u32| tokenizer.token_kind(*id) == Some(TokenKind::Control);
        let controls: Vec<u32> = (0..tokenizer.vocab_size() as u32).filter(control).take(2).collect();
        let [mark, other] = controls[..] else { panic!("two control tokens") };
        let name: &'static str = Box::leak(tokenizer.token_text(mark).expect("a name").to_owned().into_boxed_str());
        let ids = |text: &str| tokenizer.encode(text, EncodeOptions::default()).expect("ids");
        let tokens = [ids("the fo"), vec![other, mark], ids("x ran"), vec![mark], ids("é")].concat();
        let mut decoder = Decoder::new(&tokenizer, &ids("before "), vec![name]);
        let pieces: Vec<Option<String>> = tokens.iter().map(|&id| decoder.push(id)).collect();
        assert_eq!(
            pieces.iter().flatten().map(String::as_str).collect::<String>() + &decoder.finish(),
            format!("the fo{name}x ran{name}é")
        );
        assert_eq!(pieces.iter().filter(|piece| piece.is_none()).count(), 1, "what marks nothing is no text");
    }
}
