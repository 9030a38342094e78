//! How results are printed: JSON for machines, aligned text for people.

use std::borrow::Cow;
use std::io::{IsTerminal, StdoutLock, Write};

use super::Outcome;

/// One line of JSON on stdout.
pub(crate) fn json(value: &serde_json::Value) -> Outcome {
    writeln!(std::io::stdout().lock(), "{value}")?;
    Ok(())
}

/// Seconds with the digits that mean something.
pub(crate) fn seconds(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 1e4
}

/// Tokens a second; 0 where nothing ran.
pub(crate) fn rate(tokens: usize, duration: std::time::Duration) -> f64 {
    if tokens == 0 || duration.is_zero() { 0.0 } else { (tokens as f64 / duration.as_secs_f64() * 100.0).round() / 100.0 }
}

/// Bytes as a person says them.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Returns a text that can't steer a terminal: control characters, and those that turn the direction of writing, are escaped.
pub(crate) fn harmless(text: &str) -> String {
    let steers = |c: char| c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match steers(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// Writes a piece of an answer at once: byte for byte, but to a terminal with control characters escaped, since a model may be made to write any.
pub(crate) fn answer(out: &mut StdoutLock<'_>, text: &str) -> std::io::Result<()> {
    let text = if out.is_terminal() { for_terminal(text) } else { Cow::Borrowed(text) };
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Escapes control characters, except ends of lines and tabs. Marks of direction stay: some languages need them.
fn for_terminal(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match steers(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Rows as aligned columns, a header over them. The first column is left-aligned, as are all that hold no numbers.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> Outcome {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| harmless(cell)).collect()).collect();
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = anstream::stdout().lock();
    let bold = anstyle::Style::new().bold();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    writeln!(out, "{bold}{}{bold:#}", line(&mut header.iter().copied()))?;
    for row in &rows {
        writeln!(out, "{}", line(&mut row.iter().map(String::as_str)))?;
    }
    Ok(())
}

/// The most memory this process ever held, in bytes, where the system tells (Linux's VmHWM).
pub(crate) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::{for_terminal, harmless};

    #[test]
    fn nothing_shown_steers_a_terminal() {
        assert_eq!(harmless("a\u{1b}[31m\n\u{9b}2J\r\u{202e}b\0"), "a\\u{1b}[31m\\n\\u{9b}2J\\r\\u{202e}b\\u{0}");
        assert_eq!(harmless("größer \\ \"ok\" 中文 ·"), "größer \\ \"ok\" 中文 ·");
        assert_eq!(for_terminal("a\tb\n\u{1b}]0;x\u{7}\u{200f}"), "a\tb\n\\u{1b}]0;x\\u{7}\u{200f}");
    }
}
