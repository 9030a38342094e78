//! Links a kernel's text: imports, conditions and unrolling, all at build, line by line.
//!
//! A directive is a line of its own that begins with `#`:
//!
//! | directive | meaning |
//! |---|---|
//! | `#import "shared/reduce.wgsl"` | the file's lines stand here, once a kernel however often it is imported |
//! | `#set NAME 1` | a flag for the lines below |
//! | `#if NAME`, `#if !NAME`, `#if NAME == 4 && OTHER > 1` … `#else` … `#end` | lines for some variants only |
//! | `#for J in 0..ROWS` … `#end` | the lines once for each value; drivers need not unroll what the text has unrolled |
//!
//! `$NAME` and `${NAME + 4}` stand for a flag's, constant's or loop variable's number, within identifiers too; `{format}` in
//! an import is the variant's format in lower case. A name that is not defined is an error: conditions cannot be misspelt.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What a variant defines: numbers by name.
pub(crate) type Names = BTreeMap<String, u32>;

/// One line and where it was written.
struct Line {
    file: String,
    number: usize,
    text: String,
}

/// Links `file` (relative to `root`) and everything it imports, without comments and blank lines.
pub(crate) fn link(root: &Path, file: &str, format: &str, names: &Names) -> Result<String, String> {
    let mut linker = Linker { root, format, names: names.clone(), imported: BTreeSet::new(), out: String::new() };
    linker.import(file)?;
    Ok(linker.out)
}

struct Linker<'a> {
    root: &'a Path,
    format: &'a str,
    names: Names,
    imported: BTreeSet<String>,
    out: String,
}

impl Linker<'_> {
    fn import(&mut self, file: &str) -> Result<(), String> {
        if !self.imported.insert(file.to_owned()) {
            return Ok(());
        }
        let path = self.root.join(file);
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let lines: Vec<Line> =
            text.lines().enumerate().map(|(i, text)| Line { file: file.to_owned(), number: i + 1, text: strip(text).to_owned() }).collect();
        self.lines(&lines)
    }

    fn lines(&mut self, lines: &[Line]) -> Result<(), String> {
        let mut at = 0;
        while let Some(line) = lines.get(at) {
            let here = |message: String| format!("{}:{}: {message}", line.file, line.number);
            let text = line.text.trim();
            if let Some(rest) = text.strip_prefix("#import ") {
                self.import(&rest.trim().trim_matches('"').replace("{format}", self.format)).map_err(&here)?;
            } else if let Some(rest) = text.strip_prefix("#set ") {
                let (name, value) = rest.trim().split_once(' ').ok_or_else(|| here("#set wants a name and a number".into()))?;
                let value = number(value.trim(), &self.names).map_err(&here)?;
                self.names.insert(name.to_owned(), value);
            } else if let Some(rest) = text.strip_prefix("#if ") {
                let (otherwise, end) = matching(lines, at).map_err(&here)?;
                let chosen = if condition(rest, &self.names).map_err(&here)? {
                    &lines[at + 1..otherwise.unwrap_or(end)]
                } else {
                    otherwise.map_or(&[][..], |o| &lines[o + 1..end])
                };
                self.lines(chosen)?;
                at = end;
            } else if let Some(rest) = text.strip_prefix("#for ") {
                let (_, end) = matching(lines, at).map_err(&here)?;
                let (variable, range) = rest.split_once(" in ").ok_or_else(|| here("#for wants `NAME in A..B`".into()))?;
                let (from, to) = range.split_once("..").ok_or_else(|| here("#for wants `NAME in A..B`".into()))?;
                let (from, to) = (number(from.trim(), &self.names).map_err(&here)?, number(to.trim(), &self.names).map_err(&here)?);
                let shadowed = self.names.remove(variable.trim());
                for value in from..to {
                    self.names.insert(variable.trim().to_owned(), value);
                    self.lines(&lines[at + 1..end])?;
                }
                self.names.remove(variable.trim());
                self.names.extend(shadowed.map(|value| (variable.trim().to_owned(), value)));
                at = end;
            } else if text.starts_with('#') {
                return Err(here(format!("`{text}` is no directive, or has no opening one")));
            } else if !text.is_empty() {
                self.out += &substitute(text, &self.names).map_err(&here)?;
                self.out.push('\n');
            }
            at += 1;
        }
        Ok(())
    }
}

/// A line without its comment. WGSL has no strings, so `//` always begins one; block comments are not used.
fn strip(line: &str) -> &str {
    line.split("//").next().unwrap_or("").trim_end()
}

/// Where the `#else` (if any) and the `#end` of the directive at `open` stand.
fn matching(lines: &[Line], open: usize) -> Result<(Option<usize>, usize), String> {
    let (mut depth, mut otherwise) = (0, None);
    for (i, line) in lines.iter().enumerate().skip(open) {
        let text = line.text.trim();
        if text.starts_with("#if ") || text.starts_with("#for ") {
            depth += 1;
        } else if text == "#else" && depth == 1 {
            otherwise = Some(i);
        } else if text == "#end" {
            depth -= 1;
            if depth == 0 {
                return Ok((otherwise, i));
            }
        }
    }
    Err("has no #end".into())
}

/// A literal or a defined name.
fn number(text: &str, names: &Names) -> Result<u32, String> {
    text.parse().ok().or_else(|| names.get(text).copied()).ok_or_else(|| format!("`{text}` is neither a number nor defined"))
}

fn condition(text: &str, names: &Names) -> Result<bool, String> {
    text.split("&&").map(str::trim).try_fold(true, |all, term| {
        let holds = if let Some((a, b)) = term.split_once("==") {
            number(a.trim(), names)? == number(b.trim(), names)?
        } else if let Some((a, b)) = term.split_once('>') {
            number(a.trim(), names)? > number(b.trim(), names)?
        } else if let Some(name) = term.strip_prefix('!') {
            number(name, names)? == 0
        } else {
            number(term, names)? != 0
        };
        Ok(all && holds)
    })
}

/// Replaces `$NAME` and `${NAME + n}`.
fn substitute(text: &str, names: &Names) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out += before;
        let (value, left) = if let Some(braced) = after.strip_prefix('{') {
            let (inside, left) = braced.split_once('}').ok_or("`${` has no `}`")?;
            let (name, plus) = inside.split_once('+').unwrap_or((inside, "0"));
            (number(name.trim(), names)? + number(plus.trim(), names)?, left)
        } else {
            let end = after.find(|c: char| !c.is_ascii_uppercase()).unwrap_or(after.len());
            (number(&after[..end], names)?, &after[end..])
        };
        out += &value.to_string();
        rest = left;
    }
    Ok(out + rest)
}
