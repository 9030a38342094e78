//! Tokenizers: the shared data's vocabularies and expected ids, streams, and texts made to break them.

use std::path::Path;
use std::sync::OnceLock;

use firecrest_engine::file::ModelFile;
use firecrest_engine::text::{EncodeOptions, TokenKind, Tokenizer};
use firecrest_tests::shared_data_or_skip;

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };
const PARSED: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };
const WHOLE: EncodeOptions = EncodeOptions { add_special: true, parse_special: true };

fn from_gguf(path: &Path) -> Tokenizer {
    let sources = firecrest_weights::native::open_model(path).unwrap();
    let file = pollster::block_on(ModelFile::open(sources)).unwrap();
    Tokenizer::from_file(&file).unwrap().expect("the file has a tokenizer")
}

/// A vocabulary of the shared data, loaded once.
fn shared(name: &str) -> Option<Tokenizer> {
    static GPT2: OnceLock<Option<Tokenizer>> = OnceLock::new();
    static LLAMA: OnceLock<Option<Tokenizer>> = OnceLock::new();
    static PHI3: OnceLock<Option<Tokenizer>> = OnceLock::new();
    static BERT: OnceLock<Option<Tokenizer>> = OnceLock::new();
    let cell = match name {
        "gpt-2" => &GPT2,
        "llama-spm" => &LLAMA,
        "phi-3" => &PHI3,
        "bert-bge" => &BERT,
        _ => panic!("no cell for {name}"),
    };
    let load = || Some(from_gguf(&shared_data_or_skip(name)?.join(format!("tokenizers/ggml-vocab-{name}.gguf"))));
    cell.get_or_init(load).clone()
}

fn gpt2_json() -> Option<Tokenizer> {
    let data = shared_data_or_skip("gpt2_tokenizer.json")?;
    Some(Tokenizer::from_json(&std::fs::read(data.join("tokenizers/gpt2_tokenizer.json")).unwrap(), None).unwrap())
}

#[test]
fn every_shared_vocabulary_gives_the_expected_ids() {
    let Some(data) = shared_data_or_skip("shared tokenizers") else { return };
    let mut files = 0;
    for entry in std::fs::read_dir(data.join("tokenizers")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "gguf") {
            continue;
        }
        let tokenizer = from_gguf(&path);
        let input = std::fs::read_to_string(path.with_extension("gguf.inp")).unwrap();
        let output = std::fs::read_to_string(path.with_extension("gguf.out")).unwrap();
        let mut inputs: Vec<&str> = input.split("\n__ggml_vocab_test__\n").collect();
        // Every text has the separator behind it.
        assert_eq!(inputs.pop(), Some(""));
        let outputs: Vec<Vec<u32>> = output.lines().map(|l| l.split_whitespace().map(|id| id.parse().unwrap()).collect()).collect();
        assert_eq!(inputs.len(), outputs.len(), "{}", path.display());
        for (text, expected) in inputs.iter().zip(&outputs) {
            assert_eq!(&tokenizer.encode(text, PLAIN).unwrap(), expected, "{}: {text:?}", path.display());
            assert!(tokenizer.fewest_tokens(text.len()) <= expected.len(), "{}: {text:?}", path.display());
            if !path.to_string_lossy().contains("bert") {
                assert_eq!(&tokenizer.decode(expected, false), text, "{}", path.display());
            }
        }
        files += 1;
    }
    assert!(files >= 5, "only {files} vocabularies found");
}

#[test]
fn gpt2_json_gives_the_expected_ids() {
    let Some(tokenizer) = gpt2_json() else { return };
    let data = shared_data_or_skip("gpt2_encoded_tokens.json").unwrap();
    let expected: serde_json::Value =
        serde_json::from_slice(&std::fs::read(data.join("tokenizers/gpt2_encoded_tokens.json")).unwrap()).unwrap();
    check_expected(&tokenizer, &expected, PLAIN, true);
}

#[test]
fn llama_json_gives_the_expected_ids() {
    let Some(data) = shared_data_or_skip("llama_tokenizer.json") else { return };
    let bytes = std::fs::read(data.join("tokenizers/llama_tokenizer.json")).unwrap();
    let tokenizer = Tokenizer::from_json(&bytes, None).unwrap();
    let expected: serde_json::Value = serde_json::from_slice(&std::fs::read(data.join("tokenizers/llama_encoded.json")).unwrap()).unwrap();
    check_expected(&tokenizer, &expected, WHOLE, false);
}

fn check_expected(tokenizer: &Tokenizer, expected: &serde_json::Value, options: EncodeOptions, skip_special: bool) {
    let text = expected["text"].as_str().unwrap();
    let ids: Vec<u32> = expected["token_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    assert_eq!(tokenizer.encode(text, options).unwrap(), ids);
    assert_eq!(tokenizer.decode(&ids, skip_special), expected["decoded_text"].as_str().unwrap());
    let names: Vec<&str> = ids.iter().map(|&id| tokenizer.token_text(id).unwrap()).collect();
    let expected: Vec<&str> = expected["bpe_tokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    assert!(names.ends_with(&expected));
}

#[test]
fn a_million_spaces_are_cut_and_merged_like_any_text() {
    // The regex engine's default limit would make one piece of them, in silence.
    const N: usize = 1_200_000;
    for tokenizer in [shared("gpt-2"), shared("llama-spm"), gpt2_json()].into_iter().flatten() {
        for text in [" ".repeat(N), format!("{}x", " ".repeat(N)), "\n ".repeat(N / 2), "ab ".repeat(N / 3)] {
            let ids = tokenizer.encode(&text, PLAIN).unwrap();
            assert_eq!(tokenizer.decode(&ids, false), text, "{tokenizer:?}");
        }
    }
    let Some(tokenizer) = shared("gpt-2") else { return };
    let spaces = tokenizer.encode(&format!("{}x", " ".repeat(N)), PLAIN).unwrap();
    // All but the last space are a piece of their own, and that one belongs to the word.
    assert_eq!(spaces.last().and_then(|&id| tokenizer.token_text(id)), Some("Ġx"));
}

#[test]
fn a_text_has_no_fewer_tokens_than_its_bytes_say() {
    for tokenizer in [shared("gpt-2"), shared("llama-spm")].into_iter().flatten() {
        let longest = (0..tokenizer.vocab_size() as u32).max_by_key(|&id| tokenizer.token_bytes(id).map_or(0, <[u8]>::len)).unwrap();
        let longest = std::str::from_utf8(tokenizer.token_bytes(longest).unwrap()).unwrap();
        // A caller may write SentencePiece's own space.
        for text in [longest.repeat(1000), "▁".repeat(16_000), "\u{10FFFF}".repeat(1000), "a".into(), String::new()] {
            let (fewest, ids) = (tokenizer.fewest_tokens(text.len()), tokenizer.encode(&text, PLAIN).unwrap());
            assert!(fewest <= ids.len(), "{tokenizer:?} {fewest} {}", ids.len());
            assert_eq!(fewest == 0, text.is_empty());
        }
    }
    // White space is nothing to it.
    let Some(tokenizer) = shared("bert-bge") else { return };
    assert_eq!(tokenizer.fewest_tokens(1 << 20), 0);
    assert!(tokenizer.encode(&" ".repeat(1 << 10), PLAIN).unwrap().is_empty());
}

#[test]
fn special_tokens_are_read_only_where_asked_for() {
    let Some(tokenizer) = shared("phi-3") else { return };
    let text = "<|user|>\nHi<|end|>";
    let parsed = tokenizer.encode(text, PARSED).unwrap();
    let names: Vec<&str> = parsed.iter().map(|&id| tokenizer.token_text(id).unwrap()).collect();
    // Phi 3's tokens swallow the white space to their right.
    assert_eq!(names, ["<|user|>", "▁Hi", "<|end|>"]);
    let plain = tokenizer.encode(text, PLAIN).unwrap();
    assert!(plain.iter().all(|&id| tokenizer.token_kind(id) != Some(TokenKind::Control)), "{plain:?}");
    assert_eq!(tokenizer.decode(&plain, true), text);
    let whole = tokenizer.encode(text, WHOLE).unwrap();
    assert_eq!(whole[0], tokenizer.bos().unwrap());
    assert_eq!(whole[1..], parsed);
}

#[test]
fn generation_ends_where_templates_end_turns() {
    let Some(tokenizer) = shared("phi-3") else { return };
    let names: Vec<&str> = tokenizer.end_of_generation().iter().map(|&id| tokenizer.token_text(id).unwrap()).collect();
    assert!(names.contains(&"<|end|>") && names.contains(&"<|endoftext|>"), "{names:?}");
    assert_eq!(tokenizer.eos_text(), "<|endoftext|>");
    assert_eq!(tokenizer.bos_text(), "<s>");
}

#[test]
fn streams_never_cut_a_character() {
    let text = "naïve 🦙 — ½ ༄ 한국어\u{200d}👩\u{200d}👩\u{200d}👧 e\u{301}";
    for tokenizer in [shared("gpt-2"), shared("llama-spm"), gpt2_json()].into_iter().flatten() {
        let ids = tokenizer.encode(text, PLAIN).unwrap();
        assert!(ids.len() > text.chars().count() / 2);
        let mut stream = tokenizer.stream();
        let pieces: Vec<String> = ids.iter().map(|&id| stream.push(id)).collect();
        assert!(pieces.iter().any(String::is_empty), "no token ends within a character: {pieces:?}");
        assert!(!pieces.iter().any(|p| p.contains('\u{FFFD}')), "{pieces:?}");
        assert_eq!(pieces.concat() + &stream.finish(), text);
    }
}

#[test]
fn bytes_that_are_no_character_come_out_once_they_cannot_become_one() {
    let Some(tokenizer) = shared("llama-spm") else { return };
    let byte = |b: u8| 3 + u32::from(b);
    assert_eq!(tokenizer.token_text(byte(0xF0)), Some("<0xF0>"));
    let mut stream = tokenizer.stream();
    assert_eq!(stream.push(byte(0xF0)), "");
    assert_eq!(stream.push(byte(0x9F)), "");
    assert!(stream.is_partial());
    // "A" cannot continue the character: both bytes are one replacement.
    assert_eq!(stream.push(byte(b'A')), "\u{FFFD}A");
    assert_eq!(stream.push(byte(0xE2)), "");
    assert_eq!(stream.finish(), "\u{FFFD}");
    assert_eq!(stream.push(u32::MAX), "");
}

#[test]
fn leading_spaces_are_those_of_the_text() {
    let Some(tokenizer) = shared("llama-spm") else { return };
    let hello = tokenizer.encode("Hello", PLAIN).unwrap();
    assert_eq!(tokenizer.token_text(hello[0]), Some("▁Hello"));
    let bos = tokenizer.bos().unwrap();
    // At the start of a text the tokeniser's own space goes, also behind BOS.
    assert_eq!(tokenizer.stream().push(hello[0]), "Hello");
    assert_eq!(tokenizer.stream_after(&[bos]).push(hello[0]), "Hello");
    // Where text stands before, it is a space between words.
    assert_eq!(tokenizer.stream_after(&[bos, hello[0]]).push(hello[0]), " Hello");
    assert_eq!(tokenizer.decode(&tokenizer.encode("  Hello  Hello ", WHOLE).unwrap(), true), "  Hello  Hello ");
}

#[test]
fn bert_wraps_texts_and_knows_what_it_cannot_write() {
    let Some(tokenizer) = shared("bert-bge") else { return };
    let ids = tokenizer.encode("Hello wörld \u{E000}", WHOLE).unwrap();
    let names: Vec<&str> = ids.iter().map(|&id| tokenizer.token_text(id).unwrap()).collect();
    assert_eq!(names, ["[CLS]", "hello", "world", "[SEP]"]);
    let too_long = tokenizer.encode(&"a".repeat(101), PLAIN).unwrap();
    assert_eq!(tokenizer.token_text(too_long[0]), Some("[UNK]"));
    assert_eq!(tokenizer.decode(&ids, true), "hello world");
}

/// Files name ids that their vocabulary does not have. Nothing begins or ends with those; the rest is as it was.
#[test]
fn ids_outside_the_vocabulary_name_nothing() {
    let Some(data) = firecrest_tests::shared_data_or_skip("text: ids outside the vocabulary") else { return };
    let whole = std::fs::read(data.join("models/stories260K.gguf")).unwrap();
    let open = |bytes: Vec<u8>| {
        let source = firecrest_weights::MemorySource::new("a test", bytes);
        let file = pollster::block_on(firecrest_engine::file::ModelFile::open(vec![Box::new(source)])).unwrap();
        Tokenizer::from_file(&file).unwrap().unwrap()
    };
    let before = open(whole.clone());
    for key in ["eos", "bos", "unknown"] {
        let key = format!("tokenizer.ggml.{key}_token_id");
        let Some(at) = whole.windows(key.len()).position(|bytes| bytes == key.as_bytes()) else { continue };
        for id in [512u32, 999_999, u32::MAX - 1] {
            let mut bytes = whole.clone();
            // Behind the key, its type.
            bytes[at + key.len() + 4..][..4].copy_from_slice(&id.to_le_bytes());
            let tokenizer = open(bytes);
            assert!(tokenizer.end_of_generation().iter().all(|&end| (end as usize) < tokenizer.vocab_size()), "{key}");
            let options = EncodeOptions { add_special: false, parse_special: false };
            assert_eq!(tokenizer.encode("Once upon a time", options).unwrap(), before.encode("Once upon a time", options).unwrap());
        }
    }
}
