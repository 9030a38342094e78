//! Which tokens end a generation.
//!
//! A file names at most EOS, EOT and EOM; many name fewer than their template uses. So tokens are also known by their text, as in
//! llama.cpp, whose list this follows.

use super::vocabulary::{TokenKind, Vocabulary};

const ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Tokens that gpt-oss marks its channels with: shown, though files call them control tokens.
const SHOWN: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// The ids that end a generation, ascending: `named` by the file, or known by their text. Tokens known by text are control tokens
/// whatever the file calls them.
pub(super) fn find(vocabulary: &mut Vocabulary, named: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let by_text: Vec<u32> = vocabulary.iter().filter(|(_, name, _)| ENDS.contains(name)).map(|(id, _, _)| id).collect();
    for &id in &by_text {
        vocabulary.set_kind(id, TokenKind::Control);
    }
    let shown: Vec<u32> = vocabulary.iter().filter(|(_, name, _)| SHOWN.contains(name)).map(|(id, _, _)| id).collect();
    for id in shown {
        vocabulary.set_kind(id, TokenKind::UserDefined);
    }
    // Files name ids that their vocabulary does not have. Nothing ends there.
    let named = named.into_iter().filter(|&id| (id as usize) < vocabulary.len());
    let mut ends: Vec<u32> = by_text.into_iter().chain(named).collect();
    ends.sort_unstable();
    ends.dedup();

    let find = |ends: &[u32], name: &str| ends.iter().copied().find(|&id| vocabulary.name(id) == Some(name));
    // In harmony-like formats <|end|> ends a message, not the turn.
    let calls = find(&ends, "<|call|>").or(find(&ends, "<|calls|>")).is_some();
    let message_end =
        (calls && (find(&ends, "<|return|>").is_some() || find(&ends, "<|flush|>").is_some())).then(|| find(&ends, "<|end|>")).flatten();
    // Gemma 4 and PLaMo have </s> as plain text.
    let text = (find(&ends, "<|tool_response>").is_some() || find(&ends, "<|plamo:eos|>").is_some()).then(|| find(&ends, "</s>")).flatten();
    for (id, kind) in [(message_end, TokenKind::UserDefined), (text, TokenKind::Normal)] {
        if let Some(id) = id {
            ends.retain(|&e| e != id);
            vocabulary.set_kind(id, kind);
        }
    }
    ends
}
