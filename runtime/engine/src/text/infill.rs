//! Filling gaps: the tokens that mark one, by family, and prompts made of them.
//!
//! Models were trained on one order of the two texts around a gap. Most have prefix, suffix, middle; some have the suffix first.

use super::tokenizer::{EncodeOptions, Tokenizer};
use super::vocabulary::{TokenKind, Vocabulary};
use crate::error::Result;

/// Tokens that mark a gap in a text, for models that were trained to fill it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Infill {
    /// Before the text before the gap.
    pub prefix: u32,
    /// Before the text after it.
    pub suffix: u32,
    /// Before what fills it, which comes last. `None`: the answer goes on from the prefix.
    pub middle: Option<u32>,
    /// Whether the text after the gap comes first.
    pub suffix_first: bool,
}

/// How a family writes a gap.
struct Family {
    prefix: &'static str,
    suffix: &'static str,
    middle: Option<&'static str>,
    suffix_first: bool,
}

const fn family(prefix: &'static str, suffix: &'static str, middle: &'static str) -> Family {
    Family { prefix, suffix, middle: Some(middle), suffix_first: false }
}

const FAMILIES: [Family; 10] = [
    // Qwen, CodeGemma.
    family("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    // StarCoder, Granite, StableCode.
    family("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    // SantaCoder.
    family("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    // Code Llama, whose SentencePiece names begin with a space.
    family("▁<PRE>", "▁<SUF>", "▁<MID>"),
    family("<PRE>", "<SUF>", "<MID>"),
    // DeepSeek: the gap is a hole.
    family("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    // GLM.
    family("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
    // Falcon.
    family("<|prefix|>", "<|suffix|>", "<|middle|>"),
    // Seed-Coder.
    Family { prefix: "<[fim-prefix]>", suffix: "<[fim-suffix]>", middle: Some("<[fim-middle]>"), suffix_first: true },
    // Codestral. Its vocabularies have a [MIDDLE] too, which its prompts do not.
    Family { prefix: "[PREFIX]", suffix: "[SUFFIX]", middle: None, suffix_first: true },
];

/// What comes after a filled gap in training: the end of the file, padding, another file.
const BEHIND: [&str; 12] = [
    "▁<EOT>",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<reponame>",
    "<|file_sep|>",
    "<file_sep>",
    "<|file_separator|>",
];

impl Infill {
    /// The tokens that mark a gap, and those that end what fills it: known by their names, as in llama.cpp, or `named` by the file (before a prefix, before a
    /// suffix, before the middle). They become control tokens whatever the file calls them: no text may contain them.
    pub(super) fn find(vocabulary: &mut Vocabulary, named: [Option<u32>; 3]) -> (Option<Infill>, Vec<u32>) {
        let mut known: Vec<[Option<u32>; 3]> = vec![[None; 3]; FAMILIES.len()];
        let mut ends = Vec::new();
        for (id, name, _) in vocabulary.iter() {
            for (found, family) in known.iter_mut().zip(&FAMILIES) {
                for (slot, mark) in found.iter_mut().zip([Some(family.prefix), Some(family.suffix), family.middle]) {
                    if mark == Some(name) {
                        *slot = slot.or(Some(id));
                    }
                }
            }
            if BEHIND.contains(&name) {
                ends.push(id);
            }
        }
        let by_name = known.iter().zip(&FAMILIES).find_map(|([prefix, suffix, middle], family)| {
            let (prefix, suffix) = ((*prefix)?, (*suffix)?);
            let middle = if family.middle.is_some() { Some((*middle)?) } else { None };
            Some(Infill { prefix, suffix, middle, suffix_first: family.suffix_first })
        });
        let by_id = match named {
            [Some(prefix), Some(suffix), Some(middle)] => Some(Infill { prefix, suffix, middle: Some(middle), suffix_first: false }),
            _ => None,
        };
        // The ids that a file names say nothing of the order: the family does.
        let infill = match (by_id, by_name) {
            (Some(of_file), Some(of_family)) if (of_file.prefix, of_file.suffix) == (of_family.prefix, of_family.suffix) => Some(of_family),
            (of_file, of_family) => of_file.or(of_family),
        };
        let Some(marks) = infill else { return (None, Vec::new()) };
        for id in [Some(marks.prefix), Some(marks.suffix), marks.middle].into_iter().flatten().chain(ends.iter().copied()) {
            vocabulary.set_kind(id, TokenKind::Control);
        }
        (infill, ends)
    }
}

impl Tokenizer {
    /// The tokens of a text with a gap, for a model that fills it: what it goes on with is the gap's text. Nothing in either text is a control token.
    /// `None` if the model has no tokens that mark a gap.
    ///
    /// # Errors
    /// Those of [`Tokenizer::encode`].
    pub fn encode_infill(&self, prefix: &str, suffix: &str) -> Result<Option<Vec<u32>>> {
        let Some(marks) = self.infill() else { return Ok(None) };
        // Only what every text begins with: an end after nothing would be an end.
        let begins = EncodeOptions { add_special: true, parse_special: false };
        let mut ids: Vec<u32> = self.encode("", begins)?.into_iter().filter(|id| Some(*id) == self.bos()).collect();
        let before = self.encode(prefix, EncodeOptions::default())?;
        // What follows the gap goes on in the middle of a text: no space is put before it.
        let after = self.encode_continuation(suffix)?;
        let before = [vec![marks.prefix], before].concat();
        let after = [vec![marks.suffix], after].concat();
        ids.extend(if marks.suffix_first { [after, before].concat() } else { [before, after].concat() });
        ids.extend(marks.middle);
        Ok(Some(ids))
    }
}
