//! Keys in what models say: glued, spaced, quoted, headed and cut, and what only looks like one.

use std::sync::Arc;

use firecrest_contract::event::{Block, Event, Finish, Usage};
use firecrest_policy::safety::decision::By;
use firecrest_policy::safety::gate::{Gate, GateOptions, Unjudged};
use firecrest_policy::safety::judge::judge_text;
use firecrest_policy::safety::rules::{Direction, Policy};

const AWS: &str = "AKIAQ3EGRTZL5WXH2KMV";

/// Lines of base64 that no key has.
const BODY: &str = "q1XwT7vK0mZr7TnXw4LbYc1HsJd9GfPe3AaUo6RiQ7k2mVzR9tLwYb4HsJdGfPe3";

/// A key of each vendor that the rules know.
const VENDORS: [&str; 17] = [
    "ghp_V8kQ2mZr7TnXw4LbYc1HsJd9GfPe3AaUo6Ri",
    "github_pat_11ABCDEFG0hIjKlMnOpQrS_NqVwYS81VP7Hb1DX8pPd5khxE3pyIgKpaUnArl63XykWZeiNNCiia3anXn9",
    "glpat-x7Kq_2mVzR9tLwYb4HsJ",
    "xoxb-204918273645-918273645546-q1W2e3R4t5Y6u7I8o9P0a1S2",
    "hooks.slack.com/services/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",
    "sk_live_9aKq3mXv7ZtLwYb2HsJdGfPe",
    "rk_live_51HxQ2mZr7TnXw4LbYc1HsJd9GfPe",
    "AIzaSyQ7k2mVzR9tLwYb4HsJdGfPe3AaUo6RiX1",
    "sk-ant-api03-q7Xn2LwVb0RkT9sYzCf4HjPd8MgUe6AaQ1i5BoKtZp3vKsWq",
    "sk-proj-V8kQ2mZr7TnXw4LbYc1HsJd9GfPe3AaUo6RiQ7k2mVzR9tLw",
    "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",
    "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",
    "npm_V8kQ2mZr7TnXw4LbYc1HsJd9GfPe3AaUo6Ri",
    "pypi-AgEIcHlwaS5vcmcCJDk0ZTRkNWQ4LTNhN2ItNGMxZS1iZjY5LTE",
    "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",
    AWS,
    FIRECREST,
];

/// A key as `firecrest keys create` prints one.
const FIRECREST: &str = "fc-7c1e09d45ab2f386-5d0f3b9a17c24e68f0a1b7d3926c48e5ab1d90f7326e4c8505fa7be13d69c284";

fn blocks(policy: &Policy, text: &str) -> bool {
    judge_text(policy, Direction::Output, text, None).decision.blocks()
}

/// Private keys, and the part of each that is secret.
fn private_keys() -> Vec<(&'static str, String)> {
    let lines = format!("{BODY}\n{BODY}\n");
    let pem = format!("-----BEGIN RSA PRIVATE KEY-----\n{lines}-----END RSA PRIVATE KEY-----");
    let encrypted = format!(
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,3F17F5316E2BAC89D4C0B2A1E6F70815\n\n{lines}-----END RSA PRIVATE KEY-----"
    );
    let quoted = |text: &str| text.lines().map(|line| format!("> {line}\n")).collect::<String>();
    let indented = |text: &str| text.lines().map(|line| format!("      {line}\n")).collect::<String>();
    let escaped = |text: &str| serde_json::to_string(text).expect("JSON");
    let strings = |text: &str| text.lines().map(|line| format!("    \"{line}\\n\" +\n")).collect::<String>();
    vec![
        ("PKCS#8", pem.replace("RSA ", "")),
        ("EC", pem.replace("RSA", "EC")),
        ("DSA", pem.replace("RSA", "DSA")),
        ("encrypted PKCS#8", pem.replace("RSA", "ENCRYPTED")),
        ("OpenSSH", pem.replace("RSA", "OPENSSH").replace(BODY, &format!("b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAE{}", &BODY[36..]))),
        ("headers", encrypted.clone()),
        ("headers, quoted", quoted(&encrypted)),
        ("headers, indented", indented(&encrypted)),
        ("headers, CRLF", encrypted.replace('\n', "\r\n")),
        ("headers, escaped", escaped(&encrypted)),
        ("headers, escaped twice", escaped(&escaped(&encrypted))),
        ("quoted", quoted(&pem)),
        ("quoted twice", quoted(&quoted(&pem))),
        ("indented", indented(&pem)),
        ("in a list", format!("- key:\n{}", indented(&pem))),
        ("escaped", escaped(&pem)),
        ("escaped twice", escaped(&escaped(&pem))),
        ("CRLF, escaped", escaped(&pem.replace('\n', "\r\n"))),
        ("strings of a program", strings(&pem)),
        ("in code", format!("```\n{pem}\n```")),
        ("bold", format!("**-----BEGIN RSA PRIVATE KEY-----**\n`{BODY}`")),
        ("a table", format!("| -----BEGIN RSA PRIVATE KEY----- |\n| {BODY} |")),
        (
            "SSH2",
            format!(
                "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nComment: \"2048-bit rsa, me, Mon Dec 01 2026\"\n{lines}---- END SSH2 ENCRYPTED PRIVATE KEY ----"
            ),
        ),
        ("SSH2 without a comment", format!("---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n{lines}")),
        ("PGP", format!("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{lines}-----END PGP PRIVATE KEY BLOCK-----")),
        (
            "PGP with headers",
            format!("-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2.0.22 (GNU/Linux)\nComment: https://gnupg.org\n\n{lines}"),
        ),
        (
            "PuTTY",
            format!(
                "PuTTY-User-Key-File-2: ssh-rsa\nEncryption: none\nComment: me\nPublic-Lines: 1\nAAAAB3NzaC1yc2EAAAABJQAAAQEA\nPrivate-Lines: 2\n{lines}Private-MAC: 0a1b"
            ),
        ),
        ("PuTTY, quoted", quoted(&format!("Private-Lines: 14\n{lines}"))),
        ("PuTTY, escaped", escaped(&format!("Private-Lines: 14\n{lines}"))),
        ("without dashes", format!("BEGIN RSA PRIVATE KEY\n{lines}")),
        ("long dashes", pem.replace("-----", "\u{2014}\u{2014}\u{2014}\u{2014}")),
        ("without a heading, PKCS#8", format!("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ{BODY}")),
        ("without a heading, OpenSSH", format!("b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZWQyNTUxOQ{BODY}")),
    ]
}

#[test]
fn private_keys_are_found_however_they_are_written() {
    let policy = Policy::standard().expect("rules");
    let missed: Vec<&str> = private_keys().iter().filter(|(_, text)| !blocks(&policy, text)).map(|(name, _)| *name).collect();
    assert!(missed.is_empty(), "{missed:?}");
}

/// A key where it is glued to what stands around it, and where Markdown or blanks stand around it or within.
fn dressed(key: &str) -> Vec<String> {
    let cut = |by: &str, size: usize| {
        key.as_bytes().chunks(size).map(|part| String::from_utf8_lossy(part).into_owned()).collect::<Vec<_>>().join(by)
    };
    let mut all = vec![key.to_owned()];
    for before in ["_", "AWS_", "x", "KEY", "key", "7", "=", "\"", "**", "`", "(", "\u{200b}", "é", "/", "token:"] {
        all.push(format!("{before}{key}"));
    }
    for after in ["_", "x", "X", "Key", "7", "\"", "**", "`", ")", ".", ",", "-", "\u{200b}"] {
        all.push(format!("{key}{after}"));
    }
    for (before, after) in [("x", "x"), ("_", "_"), ("AWS_", "XYZ"), ("**", "**"), ("`", "`"), ("> ", ""), ("\"", "\"")] {
        all.push(format!("{before}{key}{after}"));
    }
    for by in [" ", "\n", "**", " ** ", "\n> ", "-", "\u{a0}\u{a0}", "`", "\" + \"", "\u{200b}"] {
        all.push(cut(by, 4));
        all.push(cut(by, 10));
    }
    let (a, b) = key.split_at(key.len() / 2);
    all.extend([format!("{a}**{b}**"), format!("**{a}**{b}"), format!("{a}<!-- -->{b}").replace("<!-- -->", " | ")]);
    all.push(cut(" ", 1));
    all.push(cut("-", 1));
    all
}

#[test]
fn keys_are_found_glued_and_spaced() {
    let policy = Policy::standard().expect("rules");
    let mut missed = Vec::new();
    for key in VENDORS {
        // A dash is a character of these keys, so one that is put in is one more.
        let dashes = key.contains('-') || key.contains("AIza") || key.contains('_') || key.contains("SG.");
        for text in dressed(key) {
            let text = format!("Here: {text} ");
            if !blocks(&policy, &text) && !(dashes && text.matches('-').count() > key.matches('-').count() + 1) {
                missed.push(text);
            }
        }
    }
    assert!(missed.is_empty(), "{} missed: {missed:#?}", missed.len());
}

const NO_KEYS: [&str; 47] = [
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE",
    "AKIAXXXXXXXXXXXXXXXX",
    "AKIA****************",
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "aws_secret_access_key = os.environ.get('AWS_SECRET_ACCESS_KEY', default_secret_key)",
    "SOUTH EAST ASIA 25 COUNTRIES MET IN THE CAPITAL THIS WEEK",
    "In Slovakia 2 million people live in the country's west.",
    "SLOVAKIA 2 MILLION PEOPLE LIVE IN THE WEST OF THE COUNTRY",
    "#SoutheastAsiaInternationalTradeFair #AsiaPacificEconomicCooperation",
    "southeastasiainternationalschool.example.org",
    "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "ghp_ and then 36 characters, which are drawn at random from letters and digits",
    "The prefixes are ghp_ for personal, gho_ for OAuth, ghu_ and ghs_ for apps, ghr_ for refresh tokens.",
    "patterns = [r'ghp_[0-9a-zA-Z]{36}', r'gho_[0-9a-zA-Z]{36}', r'AKIA[0-9A-Z]{16}', r'sk-ant-[\\w-]{93}']",
    "sk-ant-your-api-key-goes-here-your-api-key-goes-here",
    "sk-ant-... and sk-proj-<your key>",
    "export ANTHROPIC_API_KEY=sk-ant-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "glpat-<your token>, or glpat-xxxxxxxxxxxxxxxxxxxx",
    "xoxb-your-token-here and xoxb-000000000000-000000000000-xxxxxxxxxxxxxxxxxxxxxxxx",
    "SG.xxxxxxxxxxxxxxxxxxxxxx.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "npm_config_registry and npm_package_version and npm_lifecycle_event",
    "hf_hub_download(repo_id, filename) calls hf_raise_for_status",
    "if (flag.ghs_enabled))\n\n\ndef GetEnvironmentResourceSpecification(arguments): pass",
    "phf_cache: PerfectByteHashMapCacheOwned,\n    options: ZeroTrieBuilderOptions,\n    capacity: usize,",
    "msg.author_name_or_nickname.send_message_to_all_of_the_channels_of_the_guild(msg.content.split(' '))",
    "highs_1d, lows_1d, opens_1d, closes_1d, volumes_1d, returns_1d, ranges_1d, averages_1d = load(path)",
    "commit 8f14e45fceea167a5a36dedd4bea2543f1a9b3c7 and tree b71b35436dedd4bea2543f1a9b3c78f14e45fceea",
    "The key looks like `fc-3f2a91c04b7d88e1-…`: fc-<id>-<secret>, 16 and 64 hexadecimal digits.",
    "firecrest keys revoke 3f2a91c04b7d88e1; the log says key=3f2a91c04b7d88e1, and fc-3f2a91c04b7d88e1 is its public half",
    "fc-cache -f, fc-list : family and kfc-2-for-1-deal-of-the-day-every-tuesday-from-11-to-9",
    "550e8400-e29b-41d4-a716-446655440000 and 6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==",
    "A file that begins with -----BEGIN PRIVATE KEY----- holds a private key and must be kept safe by whoever has it.",
    "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----\nSave it as server.key and restart the server.",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA...\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\n<your key here>\n-----END PRIVATE KEY-----",
    "if (text.startsWith('-----BEGIN PRIVATE KEY-----')) return importPkcs8PrivateKeyFromPemString(base64Decode(text), 'RSA-OAEP-256');",
    "BEGIN = \"-----BEGIN PRIVATE KEY-----\"\nEND = \"-----END PRIVATE KEY-----\"\ndef parse_private_key_from_pem_file(path): return path",
    "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu1SU1LfVLPHCozMxH2Mo4lgOEePzNm0tRgeLezV6ffAt0gun",
    "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJRTESMBAGA1UEChMJQmFsdGltb3Jl",
    "---- BEGIN SSH2 PUBLIC KEY ----\nComment: \"2048-bit rsa\"\nAAAAB3NzaC1yc2EAAAABJQAAAQEAiPWx6WM4lhHNedGfBpPJNPpZ7yKu+dnn1SJejgt4596k6YjzGGphH2TUxwKzxc",
    "-----BEGIN PGP PUBLIC KEY BLOCK-----\nVersion: GnuPG v2\n\nmQENBFrq1XwT7vK0mZr7TnXw4LbYc1HsJd9GfPe3AaUo6RiQ7k2mVzR9tLwYb4HsJdGfPe3",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHvDq1XwT7vK0mZr7TnXw4LbYc1HsJd9GfPe3AaU me@host",
    "PuTTY-User-Key-File-2: ssh-rsa\nEncryption: none\nPublic-Lines: 4\nAAAAB3NzaC1yc2EAAAABJQAAAQEAiPWx6WM4lhHNedGf\nPrivate-Lines: 8\n(left out)",
];

/// Bytes that look drawn.
fn drawn(seed: u64, count: usize) -> impl Iterator<Item = u8> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(count)
}

#[test]
fn what_only_looks_like_a_key_is_none() {
    let policy = Policy::standard().expect("rules");
    let wrong: Vec<&str> = NO_KEYS.into_iter().filter(|text| blocks(&policy, text)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // 4 MB of an image in base64, in lines and in one.
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let image: String = drawn(0x9e37_79b9_7f4a_7c15, 4 << 20).map(|byte| char::from(letters[usize::from(byte) % 64])).collect();
    assert!(!blocks(&policy, &format!("data:image/png;base64,{image}")));
    let hex: String = drawn(42, 1 << 19).map(|byte| format!("{byte:02x}")).collect();
    assert!(!blocks(&policy, &hex));
}

const DONE: Event = Event::Finish { choice: 0, reason: Finish::EndTurn };

/// How a text is carried.
#[derive(Clone, Copy, Debug)]
enum Way {
    Text,
    Arguments,
    Escaped,
    Structured,
}

/// What leaves of a text that comes in these pieces, and whether it was refused.
fn stream(policy: &Arc<Policy>, way: Way, pieces: &[&str]) -> (String, bool) {
    let structured = matches!(way, Way::Structured);
    let mut gate = Gate::new(policy.clone(), GateOptions { structured, ..GateOptions::default() });
    let block = match way {
        Way::Text | Way::Structured => Block::Text,
        Way::Arguments | Way::Escaped => Block::ToolUse { id: "call_1".into(), name: "search".into() },
    };
    let piece = |piece: &&str| match way {
        Way::Text | Way::Structured => Event::Text { choice: 0, text: piece.to_string(), logprobs: Vec::new() },
        Way::Arguments | Way::Escaped => Event::Arguments { choice: 0, json: piece.to_string() },
    };
    let events = [Event::Start { usage: Usage::default() }, Event::Open { choice: 0, block }].into_iter();
    let (mut said, mut refused) = (String::new(), false);
    for event in events.chain(pieces.iter().map(piece)).chain([Event::Close { choice: 0 }, DONE]) {
        for judged in gate.push(Unjudged::new(event)) {
            match judged.into_event() {
                Event::Text { text, .. } => said += &text,
                Event::Arguments { json, .. } => said += &json,
                Event::Finish { reason: Finish::Refusal(_), .. } => refused = true,
                _ => {}
            }
        }
    }
    (said, refused)
}

/// Whatever the pieces, the same leaves, and nothing of the secret.
#[test]
fn keys_are_held_back_at_every_cut() {
    let policy = Arc::new(Policy::standard().expect("rules"));
    let mut texts: Vec<(String, &str)> = vec![
        (format!("AWS_{AWS}xyz"), "Q3EG"),
        ("**AKIA** Q3EG **RTZL** 5WXH 2KMV".to_owned(), "Q3EG"),
        ("A K I A Q 3 E G R T Z L 5 W X H 2 K M V".to_owned(), "Q 3"),
        (format!("key{}x", VENDORS[0]), "V8k"),
        ("ghp_V8kQ **2mZr** 7TnX w4Lb Yc1H sJd9 GfPe 3AaU o6Ri".to_owned(), "V8k"),
        (format!("x{}", VENDORS[7]), "Q7k"),
        (format!("x{}", VENDORS[8]), "q7X"),
        (format!("KEY={FIRECREST}"), "5d0f"),
    ];
    texts.extend(private_keys().into_iter().map(|(_, text)| text).filter(|text| text.len() < 700).map(|text| (text, &BODY[..8])));
    for (text, secret) in &texts {
        for way in [Way::Text, Way::Arguments, Way::Escaped, Way::Structured] {
            let carried = match way {
                Way::Text => format!("Well: {text} , hm."),
                Way::Arguments | Way::Structured => serde_json::json!({"a": [1, format!("Well: {text} , hm.")]}).to_string(),
                Way::Escaped => format!("{{\"a\": \"{}\"}}", text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>()),
            };
            let (whole, refused) = stream(&policy, way, &[&carried]);
            assert!(refused && !whole.contains(secret), "{way:?} {text:?}: {whole}");
            let step = if matches!(way, Way::Escaped) || text.len() > 100 { 7 } else { 1 };
            for cut in (1..carried.len()).step_by(step).filter(|cut| carried.is_char_boundary(*cut)) {
                let (a, b) = carried.split_at(cut);
                assert_eq!(stream(&policy, way, &[a, b]), (whole.clone(), true), "{way:?} {text:?}, cut at {cut}");
            }
            let characters: Vec<&str> = carried.split_inclusive(|_: char| true).collect();
            assert_eq!(stream(&policy, way, &characters), (whole, true), "{way:?} {text:?} by characters");
        }
    }
}

/// Characters that show nothing, or only room: one of each range that Unicode has of them, and marks that stand on letters.
const INVISIBLE: [char; 46] = [
    '\u{0}',
    '\u{7}',
    '\u{7f}',
    '\u{80}',
    '\u{9f}',
    '\u{ad}',
    '\u{34f}',
    '\u{61c}',
    '\u{115f}',
    '\u{1160}',
    '\u{17b4}',
    '\u{180b}',
    '\u{180e}',
    '\u{180f}',
    '\u{200b}',
    '\u{200c}',
    '\u{200d}',
    '\u{200e}',
    '\u{202a}',
    '\u{202e}',
    '\u{2060}',
    '\u{2061}',
    '\u{2064}',
    '\u{2065}',
    '\u{2066}',
    '\u{206f}',
    '\u{2800}',
    '\u{3164}',
    '\u{fe00}',
    '\u{fe0f}',
    '\u{feff}',
    '\u{ffa0}',
    '\u{fff0}',
    '\u{fff9}',
    '\u{fdd0}',
    '\u{e000}',
    '\u{378}',
    '\u{1bca0}',
    '\u{1d173}',
    '\u{e0001}',
    '\u{e0061}',
    '\u{e007f}',
    '\u{e0100}',
    '\u{e01ef}',
    '\u{301}',
    '\u{336}',
];

fn finds(policy: &Policy, direction: Direction, text: &str, rule: &str) -> bool {
    let verdict = judge_text(policy, direction, text, None);
    verdict.findings.iter().any(|finding| matches!(&finding.by, By::Rule(id) if id == rule))
}

/// However many there are, and in a row or between all letters: a key is a key, and a word a word.
#[test]
fn what_is_not_seen_hides_nothing() {
    let policy = Arc::new(Policy::standard().expect("rules"));
    for invisible in INVISIBLE {
        for count in [1, 10, 63, 64, 65, 1000] {
            let run = invisible.to_string().repeat(count);
            for (key, rule, secret) in [(VENDORS[0], "secret.github", "V8kQ"), (FIRECREST, "secret.firecrest", "5d0f")] {
                let at = key.find(secret).expect("its secret") + secret.len();
                let mut texts = vec![format!("{}{run}{}", &key[..at], &key[at..]), format!("{}{run}{}", &key[..2], &key[2..])];
                if count < 100 {
                    texts.push(key.split("").filter(|c| !c.is_empty()).collect::<Vec<_>>().join(&run));
                }
                for text in texts {
                    assert!(finds(&policy, Direction::Output, &text, rule), "{count} of {invisible:?}: {rule}");
                    let (said, refused) = stream(&policy, Way::Text, &[&text]);
                    assert!(refused && !said.contains(secret), "{count} of {invisible:?}: {said:?}");
                }
            }
            for word in ["make", "pipe", "bomb"] {
                let (before, behind) = word.split_at(2);
                let text = "How do I make a pipe bomb?".replace(word, &format!("{before}{run}{behind}"));
                assert!(judge_text(&policy, Direction::Input, &text, None).decision.blocks(), "{count} of {invisible:?} in {word}");
            }
        }
    }
}

/// No more is held back than a match may be long, and words don't wait for what is within words.
#[test]
fn what_is_held_back_is_bounded() {
    let policy = Arc::new(Policy::standard().expect("rules"));
    let mut gate = Gate::new(policy.clone(), GateOptions::default());
    gate.push(Unjudged::new(Event::Start { usage: Usage::default() }));
    gate.push(Unjudged::new(Event::Open { choice: 0, block: Block::Text }));
    let (mut came, mut left) = (0, 0);
    let hostile =
        ["A * * * K ", "ghp_", "-----BEGIN PRIVATE KEY----- Comment: ", "a ", "sk-ant- ", "Private-Lines: 2 ", "A A A A ", "\u{a0}* K"];
    for at in 0..4000 {
        let piece = hostile[at * at % hostile.len()];
        came += piece.len();
        for judged in gate.push(Unjudged::new(Event::Text { choice: 0, text: piece.to_owned(), logprobs: Vec::new() })) {
            if let Event::Text { text, .. } = judged.event() {
                left += text.len();
            }
        }
        // Characters of the raw text that one normalised byte stands for: runs of blanks are one.
        assert!(came - left < 4096, "{} bytes are held back after {came}", came - left);
    }
    for word in ["dogs", "high", "Africa", "Max", "GOOD", "stop", "north", "pi", "Sunday"] {
        let mut gate = Gate::new(policy.clone(), GateOptions::default());
        gate.push(Unjudged::new(Event::Start { usage: Usage::default() }));
        gate.push(Unjudged::new(Event::Open { choice: 0, block: Block::Text }));
        let out = gate.push(Unjudged::new(Event::Text { choice: 0, text: word.to_owned(), logprobs: Vec::new() }));
        let said: String = out
            .iter()
            .filter_map(|judged| if let Event::Text { text, .. } = judged.event() { Some(text.as_str()) } else { None })
            .collect();
        assert_eq!(said, word, "a word's end waits");
    }
}
