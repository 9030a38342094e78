//! What identifies a person, and numbers that only look as if they did.

use firecrest_policy::safety::decision::By;
use firecrest_policy::safety::judge::judge_text;
use firecrest_policy::safety::rules::{Direction, Policy};

/// Rules that flag personal data or a password.
fn flags(policy: &Policy, text: &str) -> Vec<String> {
    let verdict = judge_text(policy, Direction::Output, text, None);
    let rule = |by: By| if let By::Rule(rule) = by { Some(rule) } else { None };
    verdict.findings.into_iter().filter_map(|finding| rule(finding.by)).collect()
}

const HARMLESS: [&str; 96] = [
    // Numbers in the form of a social security number.
    "Part 536-22-8726 is out of stock.",
    "Your reference is 219-09-9999.",
    "Catalogue no. 123-45-6789",
    "536-22-8726",
    "the range 100-20-3000 in the table",
    "CAS 107-07-3 and CAS 7732-18-5",
    "CAS 124-38-9",
    "Model 212-33-4444 rev. B",
    // Numbers with a plus.
    "+50 300 1195",
    "The score was +20 000 000 points.",
    "+100 000 000",
    "+250 000 000 people",
    "+39.9526000, -75.1652000",
    "+48.8566, +2.3522",
    "+40.712776 -74.005974",
    "+1234567",
    "2026-11-21T10:00:00+0100",
    "UTC+01:00",
    "-120 +230 -340 +450 -560",
    "+12 3456 7890",
    "C+12 345 678",
    "a+44207946095",
    "+800 1600 3200",
    "+999 999 9999",
    "@@ -12,7 +12,9 @@",
    "+10000000000000",
    // Numbers in the form of a telephone number.
    "order 304-221-8834",
    "Order #304-221-8834 has shipped.",
    "invoice no. 512-300-4455",
    "123-456-7890",
    "111-222-3333",
    "version 415.555.0132",
    "300.150.1000",
    "192.168.100.2000",
    "Order 112-4839221-8837465",
    "tracking 1Z999AA10123456784",
    // Sixteen digits.
    "4111111111111111",
    "4532015112830366",
    "id 4539578763621486",
    "snowflake 4929896355493470 of the message",
    "order 4111 1111 1111 1111",
    "invoice: 5500-0000-0000-0004",
    "4111 1111 1111 1112",
    "1234 5678 9012 3456",
    "0000 0000 0000 0000",
    "378282246310005",
    "6011000990139424",
    "nonce=4024007103939509",
    "1764547200000000 microseconds",
    "4000056655665556 rows were read",
    "5105105105105100",
    "IMEI 490154203237518",
    "IMEI 35-209900-176148-1",
    // Books, dates, versions, addresses of machines.
    "ISBN 978-0-306-40615-7",
    "ISBN 0-306-40615-2",
    "ISBN-13: 9780306406157",
    "EAN 4006381333931",
    "ISSN 2049-3630",
    "DOI 10.1000/182",
    "arXiv:1706.03762",
    "2026-11-21 10:15:00",
    "20261121T101500Z",
    "1764547200",
    "1764547200123",
    "v1.2.3-beta.4+build.5678",
    "1.2.3.4, 10.0.0.1, 192.0.2.44 and 203.0.113.7",
    "2001:db8:85a3::8a2e:370:7334",
    "00:1a:2b:3c:4d:5e",
    "127.0.0.1:8080",
    "RFC 2119, RFC 8174",
    "52.5200 N, 13.4050 E",
    "3.14159265358979323846",
    "6.02214076e23",
    "0x7ffd5e8a9b40",
    // In the form of an IBAN.
    "GB82 WEST 1234 5698 7654 33",
    "AB12 CDEF GHIJ KLMN",
    "DE12 3456 7890 1234 5678 91",
    "XX00 0000 0000 0000",
    "ab12 cdef 3456 ghij 7890",
    "US64 SVBK US6S 3300 9586 71",
    "in21 days",
    // Digests and identifiers.
    "token: d41d8cd98f00b204e9800998ecf8427e",
    "\"token\": \"da39a3ee5e6b4b0d3255bfef95601890afd80709\"",
    "token=550e8400-e29b-41d4-a716-446655440000",
    "token => e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "next_page_token: 6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "md5: d41d8cd98f00b204e9800998ecf8427e",
    "etag \"33a64df551425fcc55e4d42a148795d9f25f89d4\"",
    "commit b71b35436dedd4bea2543f1a9b3c78f14e45fceea",
    "password = \"correct-horse-battery\"",
    "token: <your token>",
    "secret = os.environ[\"SECRET\"]",
    // What has an at sign.
    "logo@2x.png and logo@3x.webp",
    "git clone git@github.com:owner/name.git",
    "user@1000.service, getty@tty1.service",
    "react@18.2.0, @types/node@20.1.0, me@localhost",
];

const TRUE: [(&str, &str); 72] = [
    ("pii.us-ssn", "SSN: 536-22-8726"),
    ("pii.us-ssn", "ssn 536-22-8726"),
    ("pii.us-ssn", "My social security number is 536-22-8726."),
    ("pii.us-ssn", "536-22-8726 is my social-security number"),
    ("pii.us-ssn", "{\"ssn\": \"219-09-9999\"}"),
    ("pii.us-ssn", "patient_ssn=078-05-1120"),
    ("pii.us-ssn", "Social Security No: 001-01-0001"),
    ("pii.us-ssn", "soc sec 772-45-6789"),
    ("pii.us-ssn", "SS# 536-22-8726"),
    ("pii.us-ssn", "Tax ID 536-22-8726"),
    ("pii.us-ssn", "on the W-2: 536-22-8726"),
    ("pii.us-ssn", "ＳＳＮ： ５３６-２２-８７２６"),
    ("pii.phone", "+44 20 7946 0958"),
    ("pii.phone", "+44 (0)20 7946 0958"),
    ("pii.phone", "+442079460958"),
    ("pii.phone", "+14155550132"),
    ("pii.phone", "+1 (415) 555-0132"),
    ("pii.phone", "+1-415-555-0132"),
    ("pii.phone", "+1.415.555.0132"),
    ("pii.phone", "(415) 555-0132"),
    ("pii.phone", "(415)555-0132"),
    ("pii.phone", "415-555-0132"),
    ("pii.phone", "415.555.0132"),
    ("pii.phone", "1-415-555-0132"),
    ("pii.phone", "Tel.: +33 1 42 68 53 00"),
    ("pii.phone", "+33 6 12 34 56 78"),
    ("pii.phone", "+49 30 901820"),
    ("pii.phone", "+49 151 23456789"),
    ("pii.phone", "+34 612 345 678"),
    ("pii.phone", "+39 06 6982 1234"),
    ("pii.phone", "+31 6 12345678"),
    ("pii.phone", "+353 1 234 5678"),
    ("pii.phone", "+358 40 123 4567"),
    ("pii.phone", "+46 70 123 45 67"),
    ("pii.phone", "+47 22 12 34 56"),
    ("pii.phone", "+45 32 12 34 56"),
    ("pii.phone", "+91 98765 43210"),
    ("pii.phone", "+86 138 0013 8000"),
    ("pii.phone", "+81 90-1234-5678"),
    ("pii.phone", "+82-10-1234-5678"),
    ("pii.phone", "+61 412 345 678"),
    ("pii.phone", "+55 11 91234-5678"),
    ("pii.phone", "+52 55 1234 5678"),
    ("pii.phone", "+7 912 345-67-89"),
    ("pii.phone", "+380 44 123 4567"),
    ("pii.phone", "+503 2123 4567"),
    ("pii.phone", "+971 50 123 4567"),
    ("pii.phone", "+27 82 123 4567"),
    ("pii.phone", "+354 512 3456"),
    ("pii.card", "4111 1111 1111 1111"),
    ("pii.card", "4111-1111-1111-1111"),
    ("pii.card", "card 4111111111111111"),
    ("pii.card", "card_number: 4111111111111111"),
    ("pii.card", "{\"cardNumber\": \"4111111111111111\"}"),
    ("pii.card", "My Visa is 4532015112830366."),
    ("pii.card", "4532015112830366, CVV 123"),
    ("pii.card", "Mastercard 5555555555554444"),
    ("pii.card", "5500 0000 0000 0004"),
    ("pii.card", "2223 0031 2200 3222"),
    ("pii.card", "Amex 378282246310005"),
    ("pii.card", "3782 822463 10005"),
    ("pii.card", "6011 0009 9013 9424"),
    ("pii.card", "credit card: 6011000990139424 exp 12/29"),
    ("pii.iban", "GB82 WEST 1234 5698 7654 32"),
    ("pii.iban", "DE89370400440532013000"),
    ("pii.iban", "FR14 2004 1010 0505 0001 3M02 606"),
    ("pii.iban", "NL91 ABNA 0417 1643 00"),
    ("pii.iban", "NO93 8601 1117 947"),
    ("pii.email", "jane.doe+shop@mail.example.org"),
    ("pii.email", "Jane@Example.com"),
    ("secret.assignment", "access_token: d41d8cd98f00b204e9800998ecf8427e"),
    ("secret.assignment", "api_key = \"a8f5f167f44f4964e6c998dee827110c\""),
];

#[test]
fn harmless_numbers_are_not_flagged() {
    let policy = Policy::standard().expect("rules");
    let wrong: Vec<_> = HARMLESS.iter().map(|text| (text, flags(&policy, text))).filter(|(_, flags)| !flags.is_empty()).collect();
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), HARMLESS.len());
}

#[test]
fn what_identifies_a_person_is_flagged() {
    let policy = Policy::standard().expect("rules");
    let missed: Vec<_> =
        TRUE.iter().filter(|(rule, text)| !flags(&policy, &format!("So: {text}")).iter().any(|flag| flag == rule)).collect();
    assert!(missed.is_empty(), "{} of {}: {missed:#?}", missed.len(), TRUE.len());
}

/// Of numbers without a word beside them hardly any is flagged.
#[test]
fn numbers_by_the_thousand() {
    let policy = Policy::standard().expect("rules");
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut draw = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    };
    let mut flagged = [0; 4];
    for _ in 0..2000 {
        let texts = [
            format!("number {} of the list", 4_000_000_000_000_000 + draw(1_000_000_000_000_000)),
            format!("number {:03}-{:02}-{:04} of the list", draw(1000), draw(100), draw(10_000)),
            format!(
                "number {}{:02} {:04} {:04} {:04} {:04} of the list",
                ["AD", "GB", "DE", "FR", "AB", "IT"][draw(6) as usize],
                draw(100),
                draw(10_000),
                draw(10_000),
                draw(10_000),
                draw(10_000)
            ),
            format!("number {:010} of the list", draw(10_000_000_000)),
        ];
        for (at, text) in texts.iter().enumerate() {
            flagged[at] += usize::from(!flags(&policy, text).is_empty());
        }
    }
    assert_eq!((flagged[0], flagged[1], flagged[3]), (0, 0, 0), "{flagged:?}");
    assert!(flagged[2] <= 20, "one in a hundred has the check digits: {flagged:?}");
}
