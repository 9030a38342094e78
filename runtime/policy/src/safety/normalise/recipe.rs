//! How `tables.rs` is made, for the example that writes it and the test that checks it.

use std::fmt::Write;

use unicode_normalization::UnicodeNormalization;

/// Characters of a class of `regex-syntax`, as ranges.
fn ranges(class: &str) -> Vec<(u32, u32)> {
    let parsed = regex_syntax::Parser::new().parse(class).expect("a class");
    let regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(class)) = parsed.kind() else { panic!("no class") };
    class.ranges().iter().map(|range| (u32::from(range.start()), u32::from(range.end()))).collect()
}

/// The ASCII letters and digits that a character is taken for, where it is for one or two.
fn alike(c: char) -> Option<String> {
    let whole = c.to_string();
    // Signs of Latin-1 stand beside letters that they are none of: `¡hola`, `2×4`.
    if c.is_ascii() || (c <= '\u{ff}' && !c.is_alphabetic()) || whole.nfkd().ne(whole.chars()) {
        return None;
    }
    let seen: String = unicode_security::confusable_detection::skeleton(&whole).collect();
    let seen = match seen.as_str() {
        // What stands for `m` there.
        "rn" => "m".to_owned(),
        // What stands there for `I`, `l`, `1` and `|`. A small letter is an `l`.
        "l" if c.is_lowercase() => "l".to_owned(),
        "l" if c.is_alphabetic() => "i".to_owned(),
        "l" => return None,
        _ => seen.to_ascii_lowercase(),
    };
    (seen != whole && (1..=2).contains(&seen.len()) && seen.bytes().all(|b| b.is_ascii_lowercase())).then_some(seen)
}

/// The file.
pub(crate) fn tables() -> String {
    let mut out = "//! Made by `examples/unicode_tables.rs` from Unicode's data. Not to be edited by hand.\n".to_owned();
    let mut table = |name: &str, about: &str, class: &str| {
        let ranges = ranges(class);
        let _ = write!(out, "\n/// {about}\n#[rustfmt::skip]\npub(super) const {name}: [(u32, u32); {}] = [", ranges.len());
        for (at, (from, to)) in ranges.iter().enumerate() {
            out.push_str(if at % 8 == 0 { "\n    " } else { " " });
            let _ = write!(out, "({from:#x}, {to:#x}),");
        }
        out.push_str("\n];\n");
    };
    table(
        "UNSEEN",
        "Characters that show nothing: controls, joiners, directions, selectors, tags, fillers. White space is none of them.",
        r"[[\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}]--[\p{White_Space}\x{1c}-\x{1f}\x{115f}\x{1160}\x{180e}\x{3164}\x{ffa0}]]",
    );
    table(
        "NO_TEXT",
        "Characters that are no text: of private use, not assigned, noncharacters, replacements.",
        r"[\p{Co}\p{Cn}\x{fffc}\x{fffd}]",
    );
    let alike: Vec<(char, String)> = ('\u{80}'..=char::MAX).filter_map(|c| Some((c, alike(c)?))).collect();
    let _ = write!(
        out,
        "\n/// Characters that are taken for ASCII letters, and for which.\n#[rustfmt::skip]\npub(super) const ALIKE: [(u32, [u8; 2]); {}] = [",
        alike.len()
    );
    for (at, (c, seen)) in alike.iter().enumerate() {
        out.push_str(if at % 6 == 0 { "\n    " } else { " " });
        let padded = format!("{seen:\0<2}").replace('\0', "\\0");
        let _ = write!(out, "({:#x}, *b\"{padded}\"),", u32::from(*c));
    }
    out.push_str("\n];\n");
    out
}
