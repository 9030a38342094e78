//! Numbers that identify a person, or their money.

use super::Stands;

fn digits(text: &[u8]) -> impl DoubleEndedIterator<Item = u32> {
    text.iter().filter(|b| b.is_ascii_digit()).map(|b| u32::from(b - b'0'))
}

pub(super) fn luhn(text: &[u8]) -> bool {
    let sum: u32 =
        digits(text).rev().enumerate().map(|(place, digit)| if place % 2 == 0 { digit } else { digit / 5 + digit * 2 % 10 }).sum();
    let mut all = digits(text);
    let first = all.next();
    sum.is_multiple_of(10) && all.any(|digit| Some(digit) != first)
}

/// One in ten numbers has Luhn's check digit, so digits without the gaps of a card need a word that says what they are.
pub(super) fn card(text: &[u8]) -> Stands {
    if !luhn(text) {
        return Stands::No;
    }
    let gaps: Vec<u8> = text.iter().copied().filter(|b| !b.is_ascii_digit()).collect();
    let even = gaps.len() >= 2 && gaps.iter().all(|gap| Some(gap) == gaps.first());
    if even { Stands::Yes } else { Stands::Near }
}

pub(super) fn iban(text: &[u8]) -> bool {
    let code: Vec<u8> = text.iter().copied().filter(u8::is_ascii_alphanumeric).collect();
    let Some((country, account)) = code.split_at_checked(4) else { return false };
    let length = IBANS.iter().find(|(codes, _)| codes.split(' ').any(|code| code.as_bytes() == &country[..2])).map(|(_, length)| *length);
    if length != Some(code.len()) {
        return false;
    }
    let rest = account.iter().chain(country).fold(0u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        byte => (rest * 100 + u32::from(byte.to_ascii_lowercase() - b'a') + 10) % 97,
    });
    rest == 1
}

/// How long a country's IBANs are, from the registry of ISO 13616.
const IBANS: [(&str, usize); 18] = [
    ("no", 15),
    ("be", 16),
    ("dk fi fk fo gl nl sd", 18),
    ("mk si", 19),
    ("at ba ee kz lt lu mn xk", 20),
    ("ch hr li lv", 21),
    ("bg bh cr de gb ge ie me rs va", 22),
    ("ae gi il iq om so tl", 23),
    ("ad cz es md pk ro sa se sk tn vg", 24),
    ("ly pt st", 25),
    ("is tr", 26),
    ("bi dj fr gr it mc mr sm", 27),
    ("al az by cy do gt hn hu lb ni pl sv", 28),
    ("br eg ps qa ua", 29),
    ("jo kw mu ye", 30),
    ("mt sc", 31),
    ("lc", 32),
    ("ru", 33),
];

/// A number of the North American plan, without its 1.
fn north_american(number: &[u32]) -> bool {
    number.len() == 10 && number[0] >= 2 && number[3] >= 2 && number[1..3] != [1, 1]
}

pub(super) fn phone(text: &[u8]) -> bool {
    let plus = text.first() == Some(&b'+');
    let number: Vec<u32> = digits(text).collect();
    if !plus {
        return north_american(&number);
    }
    // One point and nothing else is a fraction's.
    let gaps: Vec<u8> = text.iter().skip(1).copied().filter(|b| !b.is_ascii_digit()).collect();
    if gaps == b"." {
        return false;
    }
    if number.first() == Some(&1) {
        return north_american(&number[1..]);
    }
    // Digits up to the first gap hold the country's code, and are no less.
    let head = text.iter().skip(1).take_while(|b| b.is_ascii_digit()).count();
    (2..=3).filter(|length| head >= *length).any(|length| {
        let code = number.iter().take(length).fold(0, |code, digit| code * 10 + digit) as u16;
        let known = COUNTRIES.iter().find(|(codes, ..)| codes.contains(&code));
        // A trunk's zero, as in `+44 (0)20`, is no digit of the number.
        let mut rest = number.get(length..).unwrap_or_default();
        if text.windows(3).any(|part| part == b"(0)") {
            rest = rest.strip_prefix(&[0]).unwrap_or(rest);
        }
        let zero = rest.first() == Some(&0) && !matches!(code, 39 | 378 | 225 | 241 | 242);
        known.is_some_and(|(_, least, most)| !zero && (*least..=*most).contains(&rest.len()))
    }) || (number.first() == Some(&7) && number.len() == 11 && number[1] >= 3)
}

/// Codes of countries (E.164) but 1 and 7, and how many digits their numbers have after it.
#[rustfmt::skip]
const COUNTRIES: [(&[u16], usize, usize); 21] = [
    (&[290, 500, 682, 683, 690, 247, 688], 4, 7),
    (&[298, 299, 508, 672, 681, 687], 6, 6),
    (&[676, 677, 678, 685, 686, 689], 5, 8),
    (&[220, 238, 239, 246, 248, 269, 291, 297, 501, 592, 673, 674, 679, 680, 691, 692, 960], 7, 7),
    (&[230, 231, 241, 245, 252, 265, 267, 354, 372, 376, 423, 507, 597, 599, 670, 675], 7, 9),
    (&[45, 47, 53, 65, 216, 222, 223, 226, 227, 228, 232, 235, 236, 257, 266, 268, 350, 356, 357, 370, 371, 373, 382], 8, 8),
    (&[386, 387, 389, 502, 503, 504, 505, 506, 509, 591, 598, 852, 853, 881, 965, 968, 973, 974, 975, 976, 993], 8, 8),
    (&[32, 34, 41, 51, 66, 213, 218, 224, 253, 258, 264, 355, 359, 374, 377, 381, 383, 385, 593, 855, 886], 8, 9),
    (&[961, 962, 963, 966, 967, 970, 971, 972], 7, 9),
    (&[27, 31, 33, 40, 48, 56, 61, 93, 94, 212, 221, 233, 237, 240, 242, 243, 244, 249, 250, 251, 254, 255, 256], 9, 9),
    (&[260, 261, 262, 263, 351, 375, 380, 420, 421, 590, 594, 595, 596, 870, 992, 994, 995, 996, 998], 9, 9),
    (&[20, 60, 63, 64, 84, 82, 81, 225, 234, 229, 850, 856, 880, 964, 977], 8, 10),
    (&[30, 52, 57, 58, 90, 91, 98], 10, 10),
    (&[44, 92], 9, 10),
    (&[54, 55, 86], 10, 11),
    (&[62], 8, 12),
    (&[36], 8, 9),
    (&[43, 49], 7, 13),
    (&[39, 358, 378], 6, 11),
    (&[46, 95, 353], 7, 10),
    (&[352], 6, 11),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits() {
        assert!(luhn(b"4111 1111 1111 1111") && luhn(b"378282246310005") && luhn(b"7992 7398 713"));
        assert!(!luhn(b"4111 1111 1111 1112") && !luhn(b"0000 0000 0000 0000") && !luhn(b""));
        assert_eq!(
            [card(b"4111-1111-1111-1111"), card(b"4111111111111111"), card(b"4111 1111-1111 1111")],
            [Stands::Yes, Stands::Near, Stands::Near]
        );
        assert!(iban(b"gb82 west 1234 5698 7654 32") && iban(b"de89370400440532013000") && iban(b"no9386011117947"));
        assert!(!iban(b"gb82 west 1234 5698 7654 33") && !iban(b"de") && !iban(b"de8937040044053201300"));
    }

    #[test]
    fn countries_have_codes_and_lengths() {
        for number in [
            "+44 20 7946 0958",
            "+44 (0)20 7946 0958",
            "+14155550132",
            "+33 1 42 68 53 00",
            "+7 912 345 67 89",
            "+503 2123 4567",
            "(415) 555-0132",
        ] {
            assert!(phone(number.as_bytes()), "{number}");
        }
        for number in
            ["+50 300 1195", "+1 234 567", "+44 20 7946", "+39.9526000", "+250 000 000", "+210 123 456 789", "123-456-7890", "300.150.1000"]
        {
            assert!(!phone(number.as_bytes()), "{number}");
        }
        let mut codes: Vec<u16> = COUNTRIES.iter().flat_map(|(codes, ..)| *codes).copied().collect();
        codes.sort_unstable();
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]), "a code stands twice: {codes:?}");
        assert!(codes.iter().all(|code| *code > 99 || !codes.iter().any(|long| long / 10 == *code)), "a code begins another");
    }
}
