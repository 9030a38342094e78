//! The pre-tokenisers that GGUF files name in `tokenizer.ggml.pre`.
//!
//! A pre-tokeniser is a list of patterns, each cutting the pieces of the one before into its matches and what lies between.
//! The patterns are those of the models' own `tokenizer.json`; where a file writes `(?i:'s|…)` the letters are spelled out, because
//! case folding of all of Unicode would let `'ſ` (long s) match too.

use std::ops::Range;

use super::regex::Regex;
use crate::error::{Error, Result};

/// What a name stands for, beside its patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Behaviour {
    /// A piece that is itself a token is that token, whatever the merges say.
    pub(super) ignore_merges: bool,
    /// BOS is added where the file says nothing.
    pub(super) add_bos: bool,
    /// Pieces go to BPE as GPT-2's byte alphabet; otherwise as UTF-8 with "▁" for a space and `<0xNN>` for unknown bytes.
    pub(super) byte_level: bool,
    /// A run of newlines that is itself a token is that token.
    pub(super) whole_newlines: bool,
}

const PLAIN: Behaviour = Behaviour { ignore_merges: false, add_bos: false, byte_level: true, whole_newlines: false };

/// Patterns by the name of the model that first used them.
mod pattern {
    pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
    pub(super) const LLAMA3: &str = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    pub(super) const QWEN2: &str = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    pub(super) const QWEN35: &str = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    /// Qwen2's without contractions, so that Turkish suffixes keep their apostrophe.
    pub(super) const UFAKZEKA: &str = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    pub(super) const MINICPM5: &str = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    pub(super) const JAIS2: &str = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}";
    pub(super) const SEED_CODER: &str = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
    pub(super) const BAILINGMOE: &str =
        r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
    pub(super) const EXAONE_MOE: &str = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+";
    pub(super) const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    pub(super) const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    pub(super) const YOUTU: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    pub(super) const YOUTU_SCRIPTS: &str = "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥\u{3040}-ゟ゠-ヿ]+";
    pub(super) const KIMI_K2: &str = r"\p{Han}+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    pub(super) const DEEPSEEK_V3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
    pub(super) const SPARK: &str =
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"##;
    /// Han and Japanese kana.
    pub(super) const CJK: &str = "[一-龥\u{3040}-ゟ゠-ヿ]+";
    /// The letters that have case, as DeepSeek lists them. By number: some look like others that an editor would normalise them to.
    pub(super) const DEEPSEEK_LETTERS: &str = r"\s?[A-Za-z\u{b5}\u{c0}-\u{d6}\u{d8}-\u{f6}\u{f8}-\u{1ba}\u{1bc}-\u{1bf}\u{1c4}-\u{293}\u{295}-\u{2af}\u{370}-\u{373}\u{376}\u{377}\u{37b}-\u{37d}\u{37f}\u{386}\u{388}-\u{38a}\u{38c}\u{38e}-\u{3a1}\u{3a3}-\u{3f5}\u{3f7}-\u{481}\u{48a}-\u{52f}\u{531}-\u{556}\u{10a0}-\u{10c5}\u{13a0}-\u{13f5}\u{13f8}-\u{13fd}\u{1c90}-\u{1cba}\u{1cbd}-\u{1cbf}\u{1d00}-\u{1d2b}\u{1d6b}-\u{1d77}\u{1d79}-\u{1d9a}\u{1e00}-\u{1f15}\u{1f18}-\u{1f1d}\u{1f20}-\u{1f45}\u{1f48}-\u{1f4d}\u{1f50}-\u{1f57}\u{1f59}\u{1f5b}\u{1f5d}\u{1f5f}-\u{1f7d}\u{1f80}-\u{1fb4}\u{1fb6}-\u{1fbc}\u{1fbe}\u{1fc2}-\u{1fc4}\u{1fc6}-\u{1fcc}\u{1fd0}-\u{1fd3}\u{1fd6}-\u{1fdb}\u{1fe0}-\u{1fec}\u{1ff2}-\u{1ff4}\u{1ff6}-\u{1ffc}\u{2102}\u{2107}\u{210a}-\u{2113}\u{2115}\u{2119}-\u{211d}\u{2124}\u{2126}\u{2128}\u{212a}-\u{212d}\u{212f}-\u{2134}\u{2139}\u{213c}-\u{213f}\u{2145}-\u{2149}\u{214e}\u{2183}\u{2184}\u{2c00}-\u{2c7b}\u{2c7e}-\u{2ce4}\u{2ceb}-\u{2cee}\u{2cf2}\u{2cf3}\u{a640}-\u{a66d}\u{a680}-\u{a69b}\u{a722}-\u{a76f}\u{a771}-\u{a787}\u{a78b}-\u{a78e}\u{ab70}-\u{abbf}\u{fb00}-\u{fb06}\u{fb13}-\u{fb17}\u{ff21}-\u{ff3a}\u{ff41}-\u{ff5a}\u{10400}-\u{1044f}\u{104b0}-\u{104d3}\u{104d8}-\u{104fb}\u{10c80}-\u{10cb2}\u{10cc0}-\u{10cf2}\u{118a0}-\u{118df}\u{1e900}-\u{1e943}]+";
    pub(super) const DEEPSEEK_PUNCTUATION: &str = r"\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+";
    pub(super) const DEEPSEEK_CJK: &str = "[一-龥ࠀ-一가-\u{d7ff}]+";
    pub(super) const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
    pub(super) const PUNCTUATION_AND_BACKTICK: &str = r"[\p{P}$+<=>^~|`]+";
    pub(super) const PUNCTUATION: &str = r"[\p{P}$+<=>^~|]+";
    pub(super) const DIGIT: &str = r"\p{N}";
    pub(super) const DIGITS: &str = r"\p{N}+";
    pub(super) const DIGITS_BY_THREE: &str = r"\p{N}{1,3}";
    pub(super) const ASCII_DIGITS_BY_THREE: &str = "[0-9][0-9][0-9]";
    /// Numbers in groups of three counted from the right. The look-ahead would read the rest of the number again for each group, so
    /// it is done by hand.
    pub(super) const DIGITS_FROM_RIGHT: &str = r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))";
    /// The same where a first group of one or two digits is not cut off from what stands before it.
    pub(super) const THOUSANDS: &str = r"(?=(?:\d{3})+(?!\d))";
    pub(super) const AFMOE_SCRIPTS: &str =
        "[一-鿿㐀-䶿豈-\u{faff}\u{3040}-ゟ゠-ヿ･-ﾟ⼀-\u{2fdf}\u{e40}-\u{e7f}\u{e80}-\u{eff}ក-\u{17ff}က-႟ꩠ-ꩿꧠ-\u{a9ff}가-\u{d7af}ᄀ-ᇿ]+";
    pub(super) const LINES: &str = r"[^\n]+|[\n]+";
}

/// GPT-2's own pattern, which `tokenizer.json` files mean without writing it out.
pub(super) const GPT2: &str = pattern::GPT2;

/// Every name, with what it stands for.
const TABLE: &[(&[&str], &[&str], Behaviour)] = {
    use pattern::*;
    const LLAMA: Behaviour = Behaviour { ignore_merges: true, add_bos: true, ..PLAIN };
    const WHOLE: Behaviour = Behaviour { ignore_merges: true, ..PLAIN };
    const SPACES_ESCAPED: Behaviour = Behaviour { byte_level: false, ..PLAIN };
    &[
        (&["default"], &[PUNCTUATION, GPT2, DIGITS, ASCII_DIGITS_BY_THREE], PLAIN),
        (&["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"], &[LLAMA3], LLAMA),
        (&["dbrx", "smaug-bpe", "chatglm-bpe"], &[LLAMA3], PLAIN),
        (&["glm4", "glm5"], &[LLAMA3], WHOLE),
        (&["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"], &[QWEN2], PLAIN),
        (&["qwen35"], &[QWEN35], PLAIN),
        (&["ufakzeka"], &[UFAKZEKA], PLAIN),
        (&["laguna"], &[LINES, QWEN2], PLAIN),
        (&["minicpm5"], &[DIGITS_BY_THREE, MINICPM5], WHOLE),
        (&["jais-2"], &[JAIS2], PLAIN),
        (&["seed-coder"], &[SEED_CODER], PLAIN),
        (&["bailingmoe", "bailingmoe2", "llada-moe"], &[BAILINGMOE], PLAIN),
        (&["exaone-moe"], &[EXAONE_MOE], PLAIN),
        (&["tekken"], &[TEKKEN], LLAMA),
        (&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], &[GPT4O], PLAIN),
        (&["granite-embed-multi-97m"], &[GPT4O], WHOLE),
        (&["tiny_aya", "cohere2moe"], &[DIGITS_FROM_RIGHT, GPT4O], PLAIN),
        (&["youtu"], &[YOUTU_SCRIPTS, YOUTU], WHOLE),
        (&["kimi-k2"], &[KIMI_K2], PLAIN),
        (&["deepseek-llm"], &["[\r\n]", DEEPSEEK_LETTERS, DEEPSEEK_PUNCTUATION, r"\s+$", DEEPSEEK_CJK, DIGITS], PLAIN),
        (&["deepseek-coder"], &["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_CJK, DIGIT], PLAIN),
        (&["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"], &[DIGITS_BY_THREE, CJK, DEEPSEEK_V3], PLAIN),
        (&["spark2_5"], &[DIGITS_BY_THREE, CJK, SPARK, DIGIT], PLAIN),
        (&["afmoe"], &[DIGITS_FROM_RIGHT, AFMOE_SCRIPTS, DEEPSEEK_V3], PLAIN),
        (&["falcon"], &[PUNCTUATION_AND_BACKTICK, GPT2, ASCII_DIGITS_BY_THREE], PLAIN),
        (&["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"], &[DIGIT, GPT2], PLAIN),
        (
            &[
                "gpt-2",
                "phi-2",
                "mpt",
                "olmo",
                "jais",
                "trillion",
                "granite-docling",
                "exaone4",
                "jina-es",
                "jina-de",
                "jina-v1-en",
                "jina-v2-es",
                "jina-v2-de",
                "jina-v2-code",
                "roberta-bpe",
                "gigachat",
                "a.x-4.0",
                "mellum",
                "modern-bert",
            ],
            &[GPT2],
            PLAIN,
        ),
        (&["poro-chat", "bloom", "gpt3-finnish"], &[BLOOM], PLAIN),
        (&["viking"], &[BLOOM, DIGIT], PLAIN),
        (&["superbpe"], &[DIGITS, THOUSANDS], PLAIN),
        (
            &["chameleon"],
            &["<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z", "[\t\n]|    |  ", DIGIT, r"[\p{P}!-/:-@\[-`{-~]", GPT2],
            Behaviour { add_bos: true, ..PLAIN },
        ),
        (&["gemma4", "granite-embed-multi-311m"], &[LINES], Behaviour { add_bos: true, whole_newlines: true, ..SPACES_ESCAPED }),
        (&["sarvam-moe"], &[LINES], SPACES_ESCAPED),
    ]
};

/// The names that are understood.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|(names, _, _)| names.iter().copied())
}

/// A pre-tokeniser, compiled.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    cuts: Vec<Cut>,
}

#[derive(Debug)]
enum Cut {
    Pattern(Regex),
    /// Runs of what the pattern matches, in groups of three characters from the right.
    FromRight {
        digit: Regex,
        cut_before_run: bool,
    },
}

impl PreTokenizer {
    /// The pre-tokeniser that `name` stands for, and how its tokeniser behaves.
    pub(super) fn named(name: &str) -> Result<(PreTokenizer, Behaviour)> {
        let Some((_, patterns, behaviour)) = TABLE.iter().find(|(names, _, _)| names.contains(&name)) else {
            let known: Vec<&str> = names().collect();
            return Err(Error::unsupported(format!(
                "tokenizer.ggml.pre is {name:?}, a pre-tokeniser that Firecrest does not know (it knows {})",
                known.join(", ")
            )));
        };
        let cut = |pattern: &&str| match *pattern {
            pattern::DIGITS_FROM_RIGHT => Ok(Cut::FromRight { digit: Regex::new(r"\p{N}+")?, cut_before_run: true }),
            pattern::THOUSANDS => Ok(Cut::FromRight { digit: Regex::new(r"\d+")?, cut_before_run: false }),
            pattern => Regex::new(pattern).map(Cut::Pattern),
        };
        Ok((PreTokenizer { cuts: patterns.iter().map(cut).collect::<Result<_>>()? }, *behaviour))
    }

    /// Cuts `text` into pieces that no token crosses.
    pub(super) fn split(&self, text: &str) -> Result<Vec<Range<usize>>> {
        let whole = 0..text.len();
        let mut pieces = vec![whole];
        for cut in &self.cuts {
            let mut finer = Vec::with_capacity(pieces.len());
            for piece in pieces {
                cut.split(text, piece, &mut finer)?;
            }
            pieces = finer;
        }
        Ok(pieces)
    }
}

impl Cut {
    fn split(&self, text: &str, piece: Range<usize>, finer: &mut Vec<Range<usize>>) -> Result<()> {
        let at = |r: Range<usize>| piece.start + r.start..piece.start + r.end;
        match self {
            Cut::Pattern(pattern) => pattern.split(&text[piece.clone()], |r, _| finer.push(at(r))),
            Cut::FromRight { digit, cut_before_run } => {
                let mut start = piece.start;
                let mut cut = |end: usize| {
                    if start < end {
                        finer.push(start..end);
                        start = end;
                    }
                };
                digit.split(&text[piece.clone()], |r, is_run| {
                    let run = at(r);
                    if !is_run {
                        return;
                    }
                    let characters = text[run.clone()].chars().count();
                    if *cut_before_run {
                        cut(run.start);
                    }
                    for (index, (offset, _)) in text[run.clone()].char_indices().enumerate() {
                        if (characters - index).is_multiple_of(3) {
                            cut(run.start + offset);
                        }
                    }
                    if *cut_before_run {
                        cut(run.end);
                    }
                })?;
                cut(piece.end);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_compiles_and_stands_once() {
        let mut all: Vec<&str> = names().collect();
        for name in &all {
            PreTokenizer::named(name).unwrap();
        }
        all.sort_unstable();
        assert!(all.is_sorted_by(|a, b| a < b), "a name stands twice");
        assert!(PreTokenizer::named("no-such").unwrap_err().message().contains("no-such"));
    }

    #[test]
    fn groups_from_the_right_are_those_of_the_look_ahead() {
        for name in ["tiny_aya", "superbpe"] {
            let (pre_tokenizer, _) = PreTokenizer::named(name).unwrap();
            let patterns = TABLE.iter().find(|(names, _, _)| names.contains(&name)).unwrap().1;
            let by_regex = PreTokenizer { cuts: patterns.iter().map(|p| Cut::Pattern(Regex::new(p).unwrap())).collect() };
            for text in ["1", "12", "123", "1234", "a12345b", "½1234567½12 99 1000", "x 123456", "12½", "½123", "٣٤٥٦"] {
                assert_eq!(pre_tokenizer.split(text).unwrap(), by_regex.split(text).unwrap(), "{name}: {text}");
            }
        }
    }
}
