//! Text made to be slow: what cutting and normalising it costs follows its length.
//!
//! Processor time is printed, by byte, for each length. What is asserted is a generous fuse: sixteen times the text may take eight times as long by byte,
//! or less than a second. Work that grows with the square of the length takes sixteen times as long.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use firecrest_engine::file::ModelFile;
use firecrest_engine::text::{EncodeOptions, Tokenizer, pre_tokenizer_names};
use firecrest_tests::shared_data_or_skip;

/// A text that takes no longer is no danger, however it grows.
const HARMLESS: Duration = Duration::from_secs(1);

const PARSED: EncodeOptions = EncodeOptions { add_special: true, parse_special: true };
const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };

/// Texts of about so many bytes, by what they are made of.
fn texts(bytes: usize) -> Vec<(String, String)> {
    let of = |name: &str, part: &str| (name.to_owned(), part.repeat(bytes.div_ceil(part.len())));
    let mixed = |name: &str, parts: &[&str]| {
        let mut text = String::with_capacity(bytes + 64);
        for at in 0.. {
            if text.len() >= bytes {
                break;
            }
            text.push_str(parts[at * at % parts.len()]);
        }
        (name.to_owned(), text)
    };
    let lossy = String::from_utf8_lossy(&[0xff, 0xc3, 0x28, 0xf0, 0x9f]).into_owned();
    let all = |name: &str, range: std::ops::RangeInclusive<u32>| {
        let text: String = range.filter_map(char::from_u32).collect();
        of(name, &text)
    };
    let mut texts = vec![
        of("one letter", "a"),
        of("capitals", "A"),
        of("letters in turn", "aA"),
        of("one mark", "\u{301}"),
        of("a letter with marks", &format!("a{}", "\u{301}\u{327}\u{5b0}".repeat(1000))),
        of("marks out of order", "\u{301}\u{316}\u{5b0}\u{345}"),
        of("spaces", " "),
        of("newlines", "\n"),
        of("returns and newlines", "\r\n"),
        of("tabs", "\t"),
        of("spaces and newlines", "   \n"),
        of("wide spaces", "\u{3000}"),
        of("words", "ab "),
        of("alternating scripts", "aб中אक한あ"),
        of("Han", "中文字"),
        of("Hangul taken apart", "\u{1100}\u{1161}\u{11a8}"),
        of("Thai", "ก\u{e33}\u{e49}"),
        of("emoji", "👩\u{200d}👩\u{200d}👧\u{200d}👦"),
        of("joiners", "\u{200d}"),
        of("flags", "🇩🇰"),
        of("invisible", "\u{200b}"),
        of("tags", "\u{e0041}\u{e0042}"),
        of("beginnings of control tokens", "<|im_start|"),
        of("control tokens", "<|im_start|>"),
        of("ends of text", "<|endoftext|>"),
        of("brackets", "<"),
        of("bars", "<|"),
        of("digits", "7"),
        of("digits in groups", "123,456."),
        of("apostrophes", "'s"),
        of("apostrophe", "'"),
        of("punctuation", "!?.,;"),
        of("slashes", "/"),
        of("underscores", "▁"),
        of("no UTF-8, replaced", &lossy),
        of("NUL", "\0"),
        of("ligatures", "ﷺ"),
        of("circled", "①Ⓐ㎏"),
        mixed("words of any length", &["a", " ", "antidisestablishmentarianism", "\n", "中", "7", "''"]),
        all("all of Unicode's first plane", 0..=0xffff),
    ];
    // What begins as one thing and ends as another: an engine that looks ahead looks far.
    for (name, part, end) in [
        ("spaces and a word", " ", "x"),
        ("letters and a newline", "a", "\n"),
        ("capitals and a small letter", "A", "a"),
        ("newlines and a space", "\n", " "),
    ] {
        texts.push((name.to_owned(), format!("{}{end}", part.repeat(bytes.saturating_sub(1)))));
    }
    texts
}

/// How long this thread has computed, whoever else did; where that is not known, the time.
fn processor_time() -> Duration {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let began = BEGAN.get_or_init(Instant::now);
    let known = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = known.and_then(|text| text.split(' ').next().and_then(|first| first.parse().ok()));
    nanoseconds.map_or_else(|| began.elapsed(), Duration::from_nanos)
}

/// Checks that what is done with texts of these lengths follows them.
fn check(what: &str, sizes: [usize; 2], work: impl Fn(&str)) {
    for ((name, small), (_, large)) in texts(sizes[0]).into_iter().zip(texts(sizes[1])) {
        let took = [&small, &large].map(|text| {
            let began = processor_time();
            work(text);
            processor_time() - began
        });
        let by_byte = [took[0].as_nanos() as f64 / small.len() as f64, took[1].as_nanos() as f64 / large.len() as f64];
        eprintln!("{what:32} {name:32} {:8.0} {:8.0} ns a byte", by_byte[0], by_byte[1]);
        let times = sizes[1] / sizes[0];
        assert!(
            took[1] < HARMLESS || by_byte[1] < by_byte[0] * times as f64 / 2.0,
            "{what}: {name} of {} bytes takes {:?}, and of {} bytes {:?}",
            small.len(),
            took[0],
            large.len(),
            took[1]
        );
    }
}

/// A quarter of the lengths where the build is slow.
fn sizes(small: usize) -> [usize; 2] {
    let small = if cfg!(debug_assertions) { small / 4 } else { small };
    [small, 16 * small]
}

fn open(path: &Path) -> Tokenizer {
    let file = pollster::block_on(ModelFile::open(firecrest_weights::native::open_model(path).unwrap())).unwrap();
    Tokenizer::from_file(&file).unwrap().expect("the file has a tokenizer")
}

#[test]
fn shared_vocabularies_take_what_the_text_is_long() {
    let Some(data) = shared_data_or_skip("shared tokenizers") else { return };
    let mut files: Vec<_> = std::fs::read_dir(data.join("tokenizers")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let tokenizer = match path.extension().and_then(|e| e.to_str()) {
            Some("gguf") => open(&path),
            Some("json") if name.ends_with("tokenizer.json") => Tokenizer::from_json(&std::fs::read(&path).unwrap(), None).unwrap(),
            _ => continue,
        };
        check(&name, sizes(1 << 14), |text| drop(tokenizer.encode(text, PARSED)));
    }
}

/// A vocabulary that can write every byte, with tokens that are found in any text, cut by this pre-tokeniser.
fn named(pre_tokenizer: &str, found: &[String]) -> Tokenizer {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut names: Vec<String> = vec!["<unk>".into(), "<s>".into(), "</s>".into(), "▁".into()];
    let mut kinds = vec![2, 3, 3, 1];
    names.extend((0..=255u8).filter(|byte| printable(*byte)).map(|byte| char::from(byte).to_string()));
    names.extend((0..68).filter_map(|at| char::from_u32(0x100 + at)).map(String::from));
    names.extend((0..=255).map(|byte: u8| format!("<0x{byte:02X}>")));
    names.push("aa".into());
    kinds.resize(names.len(), 1);
    names.extend(found.iter().cloned());
    kinds.resize(names.len(), 4);
    let bytes = firecrest_tests::GgufWriter::new()
        .str("general.architecture", "llama")
        .str("tokenizer.ggml.model", "gpt2")
        .strings("tokenizer.ggml.tokens", &names)
        .i32s("tokenizer.ggml.token_type", &kinds)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2)
        .str("tokenizer.ggml.pre", pre_tokenizer)
        .strings("tokenizer.ggml.merges", &["a a"])
        .finish();
    let file = pollster::block_on(ModelFile::open(vec![Box::new(firecrest_weights::MemorySource::new("a test", bytes))])).unwrap();
    Tokenizer::from_file(&file).unwrap().unwrap()
}

#[test]
fn every_pre_tokeniser_takes_what_the_text_is_long() {
    // Each pattern once.
    let each = [
        "default",
        "llama3",
        "qwen35",
        "jais-2",
        "exaone-moe",
        "tekken",
        "youtu",
        "kimi-k2",
        "deepseek-llm",
        "afmoe",
        "superbpe",
        "bloom",
        "chameleon",
        "gemma4",
    ];
    for name in each {
        assert!(pre_tokenizer_names().any(|known| known == name));
        let tokenizer = named(name, &[]);
        check(name, sizes(1 << 14), |text| drop(tokenizer.encode(text, PLAIN)));
    }
}

/// Thousands of tokens that are looked for in every text, and a text that holds them all.
#[test]
fn tokens_that_are_written_out_are_found_in_one_pass() {
    let found: Vec<String> = (0..6000).map(|at| format!("<unused{at}>")).collect();
    let tokenizer = named("gpt-2", &found);
    let all = found.concat();
    let [small, large] = sizes(1 << 16);
    for rest in ["a", "<unused", &all] {
        let took = [small, large].map(|bytes| {
            let text = format!("{all}{}", rest.repeat(bytes / rest.len() + 1));
            let began = processor_time();
            let ids = tokenizer.encode(&text, PLAIN).unwrap();
            let took = processor_time() - began;
            eprintln!("{} bytes, {} tokens: {:.0} ns a byte", text.len(), ids.len(), took.as_nanos() as f64 / text.len() as f64);
            took
        });
        assert!(took[1] < HARMLESS || took[1] < took[0] * 128, "{rest:.10}: {took:?}");
    }
}
