//! What looks alike, as one.
//!
//! Only what reads as another character is folded. Digits for letters (`1gnore`) are not: prices, versions and plain code would turn into words.

use super::tables::{ALIKE, NO_TEXT, UNSEEN};

/// Stands where more than a few invisible characters in a row were left out. No text holds it otherwise: noncharacters are left out.
pub(crate) const HIDDEN: char = '\u{fdd0}';

/// Characters that show nothing. Emoji lose their joiners too, which no rule asks for.
pub(super) fn unseen(c: char) -> bool {
    c != ' ' && within(&UNSEEN, c)
}

/// Characters that are no text, which a model reads past.
pub(super) fn no_text(c: char) -> bool {
    within(&NO_TEXT, c)
}

/// Characters that look like a space, or like nothing, depending on who shows them.
pub(super) const fn blank(c: char) -> bool {
    matches!(c, '\u{1c}'..='\u{1f}' | '\u{115f}'..='\u{1160}' | '\u{180e}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}')
}

fn within(ranges: &[(u32, u32)], c: char) -> bool {
    let code = c as u32;
    let at = ranges.partition_point(|(_, to)| *to < code);
    ranges.get(at).is_some_and(|(from, _)| *from <= code)
}

/// The ASCII letters that Unicode says a character is taken for.
fn alike(c: char) -> Option<[u8; 2]> {
    let at = ALIKE.binary_search_by_key(&(c as u32), |(code, _)| *code).ok()?;
    ALIKE.get(at).map(|(_, seen)| *seen)
}

/// Accents, which are left out: `í` and `i` read alike. Marks of other scripts make other letters and stay.
pub(super) const fn accent(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}'
        | '\u{fe20}'..='\u{fe2f}')
}

/// What a tag character spells in a language model's eyes. People see nothing.
pub(super) fn tag(c: char) -> Option<char> {
    match c {
        '\u{e0020}'..='\u{e007e}' => char::from_u32(c as u32 - 0xe_0000),
        _ => None,
    }
}

/// Folds a character of a compatibility decomposition. Its result is its own fold.
pub(super) fn fold(c: char, mut emit: impl FnMut(char)) {
    if let Some(latin) = capital(c) {
        return emit(latin);
    }
    if small(c).is_none()
        && let Some(seen) = alike(c)
    {
        return spell(seen, emit);
    }
    for low in c.to_lowercase() {
        match low {
            'ß' => {
                emit('s');
                emit('s');
            }
            'æ' => {
                emit('a');
                emit('e');
            }
            'œ' => {
                emit('o');
                emit('e');
            }
            low if low.is_ascii() => emit(low),
            low => match (digit(low).or_else(|| small(low)), alike(low)) {
                (Some(ascii), _) => emit(ascii),
                (None, Some(seen)) => spell(seen, &mut emit),
                (None, None) => {
                    // A small letter that only its capital is taken for, as Coptic's and Cherokee's, which have one size of form.
                    let mut capitals = low.to_uppercase();
                    let of_capital = capitals.next().filter(|capital| *capital != low && capitals.next().is_none());
                    let latin = of_capital.filter(|capital| one_form(*capital)).and_then(|c| capital(c).or_else(|| letter_of(alike(c)?)));
                    emit(latin.unwrap_or(low));
                }
            },
        }
    }
}

/// Scripts whose small letters look like their capitals: Cherokee, Coptic.
const fn one_form(c: char) -> bool {
    matches!(c, '\u{13a0}'..='\u{13ff}' | '\u{2c80}'..='\u{2cff}')
}

fn spell(seen: [u8; 2], mut emit: impl FnMut(char)) {
    seen.iter().filter(|byte| **byte > 0).for_each(|byte| emit(char::from(*byte)));
}

/// What is one letter.
fn letter_of(seen: [u8; 2]) -> Option<char> {
    (seen[1] == 0).then(|| char::from(seen[0]))
}

/// Capitals that read otherwise than their own small letters do. The others are folded behind their case.
pub(super) const fn capital(c: char) -> Option<char> {
    Some(match c {
        // Greek.
        'Η' => 'h',
        'Ν' => 'n',
        'Υ' => 'y',
        // Cherokee.
        'Ꭺ' => 'a',
        'Ᏼ' => 'b',
        'Ꮯ' => 'c',
        'Ꭰ' => 'd',
        'Ꭼ' => 'e',
        'Ꮐ' => 'g',
        'Ꮋ' => 'h',
        'Ꭵ' => 'i',
        'Ꭻ' => 'j',
        'Ꮶ' => 'k',
        'Ꮮ' => 'l',
        'Ꮇ' => 'm',
        'Ꮲ' => 'p',
        'Ꮢ' => 'r',
        'Ꮪ' => 's',
        'Ꭲ' => 't',
        'Ꮩ' => 'v',
        'Ꮃ' => 'w',
        'Ꮓ' => 'z',
        // Canadian syllabics, as they are written for Latin where Unicode's list has none.
        'ᗩ' => 'a',
        'ᑕ' => 'c',
        'ᗴ' | 'ᕮ' => 'e',
        'ᖴ' => 'f',
        'ᘜ' => 'g',
        'ᒍ' => 'j',
        'ᗰ' => 'm',
        'ᑎ' => 'n',
        'ᓍ' => 'o',
        'ᑫ' => 'q',
        'ᖇ' => 'r',
        'ᔕ' => 's',
        'ᑌ' => 'u',
        'ᐯ' => 'v',
        'ᗯ' => 'w',
        '᙭' => 'x',
        'ᘔ' => 'z',
        // Coptic, where Unicode's list has none.
        'Ⲃ' => 'b',
        'Ⲉ' => 'e',
        'Ⲱ' => 'w',
        'Ⲩ' => 'y',
        'Ⲭ' => 'x',
        'Ⲍ' => 'z',
        // Letters in parentheses.
        '\u{249c}'..='\u{24b5}' => letter(c as u32 - 0x249c),
        '\u{1f110}'..='\u{1f129}' => letter(c as u32 - 0x1_f110),
        '\u{1f12a}' => 's',
        // Negative circled and squared letters, and the letters that flags are made of.
        '\u{1f150}'..='\u{1f169}' => letter(c as u32 - 0x1_f150),
        '\u{1f170}'..='\u{1f189}' => letter(c as u32 - 0x1_f170),
        '\u{1f1e6}'..='\u{1f1ff}' => letter(c as u32 - 0x1_f1e6),
        _ => return None,
    })
}

const fn letter(index: u32) -> char {
    (b'a' + (index % 26) as u8) as char
}

/// Small letters and signs, by how they or their capitals look.
const fn small(c: char) -> Option<char> {
    Some(match c {
        // Cyrillic.
        'а' => 'a',
        'в' => 'b',
        'с' => 'c',
        'ԁ' => 'd',
        'е' | 'є' | 'ҽ' => 'e',
        'ԍ' => 'g',
        'н' | 'һ' => 'h',
        'і' | 'ӏ' => 'i',
        'ј' => 'j',
        'к' | 'қ' => 'k',
        'м' => 'm',
        'о' | 'ө' => 'o',
        'р' => 'p',
        'ԛ' => 'q',
        'г' => 'r',
        'ѕ' => 's',
        'т' => 't',
        'ѵ' => 'v',
        'ԝ' | 'ѡ' => 'w',
        'х' | 'ҳ' => 'x',
        'у' | 'ү' | 'ұ' => 'y',
        // Greek.
        'α' => 'a',
        'β' => 'b',
        'ϲ' => 'c',
        'ε' => 'e',
        'η' => 'n',
        'ι' => 'i',
        'ϳ' => 'j',
        'κ' => 'k',
        'μ' => 'm',
        'ν' => 'v',
        'ο' | 'σ' | 'ς' => 'o',
        'ρ' => 'p',
        'τ' => 't',
        'υ' => 'u',
        'ω' => 'w',
        'χ' => 'x',
        'γ' => 'y',
        'ζ' => 'z',
        // Latin that does not decompose.
        'ɑ' | 'ᴀ' => 'a',
        'ƀ' | 'ɓ' | 'ʙ' => 'b',
        'ƈ' | 'ᴄ' => 'c',
        'đ' | 'ɖ' | 'ɗ' | 'ᴅ' => 'd',
        'ɛ' | 'ᴇ' => 'e',
        'ƒ' | 'ꜰ' => 'f',
        'ɡ' | 'ɠ' | 'ɢ' => 'g',
        'ħ' | 'ɦ' | 'ʜ' => 'h',
        'ı' | 'ɩ' | 'ɨ' | 'ɪ' => 'i',
        'ȷ' | 'ʝ' | 'ᴊ' => 'j',
        'ƙ' | 'ᴋ' => 'k',
        'ł' | 'ƚ' | 'ɫ' | 'ʟ' => 'l',
        'ɱ' | 'ᴍ' => 'm',
        'ɲ' | 'ɳ' | 'ɴ' => 'n',
        'ø' | 'ɵ' | 'ᴏ' => 'o',
        'ƥ' | 'ᴘ' => 'p',
        'ʠ' => 'q',
        'ɼ' | 'ɽ' | 'ʀ' => 'r',
        'ʂ' | 'ꜱ' => 's',
        'ŧ' | 'ƭ' | 'ʈ' | 'ᴛ' => 't',
        'ʉ' | 'ᴜ' => 'u',
        'ʋ' | 'ᴠ' => 'v',
        'ᴡ' => 'w',
        'ƴ' | 'ʏ' => 'y',
        'ƶ' | 'ʐ' | 'ᴢ' => 'z',
        // Armenian.
        'ց' => 'g',
        'հ' => 'h',
        'ո' => 'n',
        'օ' => 'o',
        'զ' => 'q',
        'ս' => 'u',
        'ա' => 'w',
        // Signs.
        '\u{2010}'..='\u{2015}' | '\u{2043}' | '\u{2212}' | '\u{2796}' | '\u{58a}' => '-',
        '\u{2018}'..='\u{201b}' | '\u{2b9}' | '\u{2bb}'..='\u{2bd}' | '\u{2032}' | '\u{2035}' => '\'',
        '\u{201c}'..='\u{201f}' | '\u{2033}' | '\u{2036}' => '"',
        '\u{2039}' | '\u{2329}' | '\u{3008}' => '<',
        '\u{203a}' | '\u{232a}' | '\u{3009}' => '>',
        '\u{2044}' | '\u{2215}' | '\u{29f8}' => '/',
        '\u{2223}' | '\u{1c0}' | '\u{2502}' => '|',
        '\u{2236}' | '\u{a789}' | '\u{589}' => ':',
        '\u{3002}' | '\u{6d4}' => '.',
        _ => return None,
    })
}

/// Decimal digits of other scripts, which numbers are written in as well.
fn digit(c: char) -> Option<char> {
    const ZEROS: [u32; 20] = [
        0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xe50, 0xed0, 0xf20, 0x1040, 0x1090, 0x17e0,
        0x1810, 0x19d0,
    ];
    let code = c as u32;
    let zero = ZEROS.iter().find(|zero| (**zero..**zero + 10).contains(&code))?;
    char::from_digit(code - zero, 10)
}
