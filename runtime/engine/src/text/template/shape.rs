//! What a source must look like before it is parsed. The parser and what follows it recurse over the tree, and a tree that is
//! deeper than the stack would end the process.

use minijinja::machinery::{Token, tokenize};

use crate::error::{Error, ErrorCode, Result};

/// Real templates stay under 64 KiB.
const MAX_SOURCE: usize = 1 << 20;
/// Operators of one tag: each may be one level of the tree.
const MAX_OPERATORS: usize = 400;
/// Brackets within brackets.
const MAX_BRACKETS: usize = 32;
/// Blocks within blocks. Every `elif` is one level more than its `if`.
const MAX_BLOCKS: usize = 64;
const MAX_ELIFS: usize = 64;

/// Refuses what is too large or too deep.
pub(super) fn check(source: &str) -> Result<()> {
    let wrong = |line: usize, what: String| Error::new(ErrorCode::Template, format!("chat template, line {line}: {what}"));
    if source.len() > MAX_SOURCE {
        return Err(wrong(1, format!("the template is {} bytes long, and may be {MAX_SOURCE}", source.len())));
    }
    let (mut operators, mut brackets) = (0_usize, 0_usize);
    let mut at_tag_start = false;
    // The `elif`s of each open block.
    let mut blocks: Vec<usize> = Vec::new();
    for token in tokenize(source, false, Default::default()) {
        // What is no token is reported by the parser, with more words.
        let Ok((token, span)) = token else { return Ok(()) };
        let line = usize::from(span.start_line);
        if at_tag_start && let Token::Ident(name) = &token {
            match *name {
                // Not `set`, which mostly has no end.
                "if" | "for" | "macro" | "call" | "filter" | "with" | "autoescape" | "generation" | "block" => blocks.push(0),
                "extends" | "include" | "import" | "from" => {
                    return Err(wrong(line, format!("`{name}` needs other templates, and a chat template stands alone")));
                }
                "elif" => {
                    if let Some(elifs) = blocks.last_mut() {
                        *elifs += 1;
                    }
                }
                name if name.starts_with("end") && name != "endset" => drop(blocks.pop()),
                _ => {}
            }
            if blocks.len() > MAX_BLOCKS {
                return Err(wrong(line, format!("blocks are nested more than {MAX_BLOCKS} deep")));
            }
            if blocks.iter().sum::<usize>() > MAX_ELIFS {
                return Err(wrong(line, format!("more than {MAX_ELIFS} `elif`s within each other")));
            }
        }
        at_tag_start = matches!(token, Token::BlockStart);
        match token {
            Token::BlockStart | Token::VariableStart => (operators, brackets) = (0, 0),
            Token::TemplateData(_) | Token::Comma | Token::Colon | Token::Str(_) | Token::String(_) | Token::Int(_) => {}
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => {
                brackets += 1;
                operators += 1;
            }
            Token::ParenClose | Token::BracketClose | Token::BraceClose => brackets = brackets.saturating_sub(1),
            Token::Ident(name) if !matches!(name, "if" | "else" | "not" | "and" | "or" | "in" | "is") => {}
            _ => operators += 1,
        }
        if operators > MAX_OPERATORS {
            return Err(wrong(line, format!("an expression has more than {MAX_OPERATORS} operators")));
        }
        if brackets > MAX_BRACKETS {
            return Err(wrong(line, format!("brackets are nested more than {MAX_BRACKETS} deep")));
        }
    }
    Ok(())
}
