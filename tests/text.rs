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
            let note = tokenizer.notes().concat();
            assert!(note.contains(&key) && note.contains(&id.to_string()) && before.notes().is_empty(), "{note}");
            let options = EncodeOptions { add_special: false, parse_special: false };
            assert_eq!(tokenizer.encode("Once upon a time", options).unwrap(), before.encode("Once upon a time", options).unwrap());
        }
    }
}

/// A vocabulary that can write every byte, with these marks behind: of GPT-2's kind, or SentencePiece's.
fn with_marks(pieces: bool, marks: &[&str], kind: i32, named: &[(&str, usize)]) -> Tokenizer {
    let mut names: Vec<String> = Vec::new();
    let mut kinds: Vec<i32> = Vec::new();
    let mut push = |name: String, kind: i32| {
        names.push(name);
        kinds.push(kind);
    };
    push("<unk>".into(), 2);
    push("<s>".into(), 3);
    push("</s>".into(), 3);
    if pieces {
        (0..=255).for_each(|byte: u8| push(format!("<0x{byte:02X}>"), 6));
        push("▁".into(), 1);
        (b'!'..=b'~').for_each(|byte| push(char::from(byte).to_string(), 1));
    } else {
        // GPT-2's alphabet.
        let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        (0..=255).filter(|byte| printable(*byte)).for_each(|byte: u8| push(char::from(byte).to_string(), 1));
        (0..68).for_each(|at| push(char::from_u32(0x100 + at).unwrap().to_string(), 1));
    }
    let first = names.len();
    for mark in marks {
        names.push((*mark).into());
        kinds.push(kind);
    }
    let mut writer = firecrest_tests::GgufWriter::new()
        .str("general.architecture", "llama")
        .str("tokenizer.ggml.model", if pieces { "llama" } else { "gpt2" })
        .strings("tokenizer.ggml.tokens", &names)
        .i32s("tokenizer.ggml.token_type", &kinds)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2)
        .bool("tokenizer.ggml.add_bos_token", pieces);
    for (key, mark) in named {
        writer = writer.u32(&format!("tokenizer.ggml.{key}_token_id"), (first + mark) as u32);
    }
    writer = match pieces {
        true => writer.f32s("tokenizer.ggml.scores", &vec![0.0; names.len()]),
        false => writer.str("tokenizer.ggml.pre", "gpt-2").strings::<&str>("tokenizer.ggml.merges", &[]),
    };
    let source = firecrest_weights::MemorySource::new("a test", writer.finish());
    let file = pollster::block_on(ModelFile::open(vec![Box::new(source)])).unwrap();
    Tokenizer::from_file(&file).unwrap().unwrap()
}

/// A prompt with a gap, its tokens by name: letters stand for themselves.
fn gap(tokenizer: &Tokenizer, prefix: &str, suffix: &str) -> Option<String> {
    let ids = tokenizer.encode_infill(prefix, suffix).unwrap()?;
    Some(ids.iter().map(|&id| tokenizer.token_text(id).unwrap()).collect())
}

#[test]
fn gaps_are_marked_as_each_family_marks_them() {
    // The marks, and the prompt for the texts "a" and "b".
    let families: [(bool, &[&str], &str); 9] = [
        (false, &["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"], "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"),
        (false, &["<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<file_sep>"], "<fim_prefix>a<fim_suffix>b<fim_middle>"),
        (false, &["<fim-prefix>", "<fim-middle>", "<fim-suffix>", "<fim-pad>"], "<fim-prefix>a<fim-suffix>b<fim-middle>"),
        // A first text has SentencePiece's space, and one that goes on does not.
        (true, &["▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"], "<s>▁<PRE>▁a▁<SUF>b▁<MID>"),
        (false, &["<｜fim▁hole｜>", "<｜fim▁begin｜>", "<｜fim▁end｜>"], "<｜fim▁begin｜>a<｜fim▁hole｜>b<｜fim▁end｜>"),
        (false, &["<|code_prefix|>", "<|code_middle|>", "<|code_suffix|>"], "<|code_prefix|>a<|code_suffix|>b<|code_middle|>"),
        (false, &["<|prefix|>", "<|suffix|>", "<|middle|>"], "<|prefix|>a<|suffix|>b<|middle|>"),
        // The suffix first.
        (false, &["<[fim-suffix]>", "<[fim-prefix]>", "<[fim-middle]>"], "<[fim-suffix]>b<[fim-prefix]>a<[fim-middle]>"),
        (true, &["[PREFIX]", "[MIDDLE]", "[SUFFIX]"], "<s>[SUFFIX]b[PREFIX]▁a"),
    ];
    for (pieces, marks, prompt) in families {
        // Whatever kind of token the file says they are.
        for kind in [1, 3, 4] {
            let tokenizer = with_marks(pieces, marks, kind, &[]);
            assert_eq!(gap(&tokenizer, "a", "b").as_deref(), Some(prompt), "{kind}");
            // Neither text can bring a mark, and both are read as they are.
            let inside = marks.concat();
            let ids = tokenizer.encode_infill(&inside, &inside).unwrap().unwrap();
            let infill = tokenizer.infill().unwrap();
            let count = |of: u32| ids.iter().filter(|id| **id == of).count();
            assert_eq!((count(infill.prefix), count(infill.suffix)), (1, 1), "{marks:?} {kind}");
            assert!(infill.middle.is_none_or(|middle| count(middle) == 1));
            assert_eq!(ids.iter().filter(|id| tokenizer.token_kind(**id) == Some(TokenKind::Control)).count(), {
                usize::from(infill.middle.is_some()) + 2 + usize::from(pieces)
            });
            // SentencePiece writes a space as "▁", and puts one before a text.
            let read = |text: String| if pieces { text.replace(['▁', ' '], "") } else { text };
            assert_eq!(read(tokenizer.decode(&ids, true)), read(format!("{inside}{inside}")), "{kind}");
            // What a chat says can't bring one either; a raw prompt can.
            let plain = tokenizer.encode(&inside, PLAIN).unwrap();
            assert!(!plain.contains(&infill.prefix) && !plain.contains(&infill.suffix), "{marks:?} {kind}");
            assert!(tokenizer.encode(marks[0], PARSED).unwrap().len() <= 2, "{marks:?} {kind}");
        }
    }
    // Padding, the next file and the end of the text end what fills a gap.
    for (pieces, marks) in [(false, families[0].1), (false, families[1].1), (true, families[3].1)] {
        let tokenizer = with_marks(pieces, marks, 3, &[]);
        let end = tokenizer.encode(marks[3], PARSED).unwrap();
        assert!(tokenizer.end_of_generation().contains(end.last().unwrap()), "{marks:?}");
    }
    // Without all marks of one family there is no gap, and what only looks like an end is none.
    for marks in [&["<|fim_prefix|>", "<|fim_suffix|>", "<fim_middle>", "<|file_sep|>"][..], &["[PREFIX]", "<|file_sep|>"], &[]] {
        let tokenizer = with_marks(false, marks, 3, &[]);
        assert_eq!((tokenizer.infill(), gap(&tokenizer, "a", "b")), (None, None), "{marks:?}");
        assert_eq!(tokenizer.end_of_generation().len(), 1, "{marks:?}");
    }
}

#[test]
fn a_file_may_name_the_marks_of_a_gap() {
    let keys = [("fim_pre", 0), ("fim_suf", 1), ("fim_mid", 2)];
    let own = with_marks(false, &["<a>", "<b>", "<c>"], 3, &keys);
    assert_eq!(gap(&own, "x", "y").as_deref(), Some("<a>x<b>y<c>"));
    let old = with_marks(true, &["▁<PRE>", "▁<SUF>", "▁<MID>"], 1, &[("prefix", 0), ("suffix", 1), ("middle", 2)]);
    assert_eq!(gap(&old, "x", "y").as_deref(), Some("<s>▁<PRE>▁x▁<SUF>y▁<MID>"));
    // The ids say nothing of the order, and the names do.
    let mistral = with_marks(true, &["[PREFIX]", "[SUFFIX]", "[MIDDLE]"], 3, &keys);
    assert_eq!(gap(&mistral, "x", "y").as_deref(), Some("<s>[SUFFIX]y[PREFIX]▁x"));
}

#[test]
fn a_tokenizer_json_marks_gaps_too() {
    let Some(data) = shared_data_or_skip("gpt2_tokenizer.json") else { return };
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(data.join("tokenizers/gpt2_tokenizer.json")).unwrap()).unwrap();
    // As Qwen's has them: added, and not special.
    for (at, name) in ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"].into_iter().enumerate() {
        let token = serde_json::json!({ "id": 50_257 + at, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": false });
        json["added_tokens"].as_array_mut().unwrap().push(token);
    }
    let tokenizer = Tokenizer::from_json(json.to_string().as_bytes(), None).unwrap();
    let ids = tokenizer.encode_infill("def f():", "\n  return <|fim_suffix|>1").unwrap().unwrap();
    assert_eq!((ids[0], *ids.last().unwrap()), (50_257, 50_259));
    assert_eq!(ids.iter().filter(|id| **id == 50_258).count(), 1);
    assert_eq!(tokenizer.decode(&ids, true), "def f():\n  return <|fim_suffix|>1");
    assert_eq!(tokenizer.encode("<|fim_prefix|>a<|fim_suffix|>", PARSED).unwrap().len(), 3);
}

#[test]
fn a_real_vocabulary_marks_gaps() {
    let Some(data) = shared_data_or_skip("deepseek-coder") else { return };
    let tokenizer = from_gguf(&data.join("tokenizers/ggml-vocab-deepseek-coder.gguf"));
    let prompt = gap(&tokenizer, "a", "b").expect("marks");
    assert!(prompt.ends_with("<｜fim▁begin｜>a<｜fim▁hole｜>b<｜fim▁end｜>"), "{prompt}");
    let Some(gpt2) = shared("gpt-2") else { return };
    assert_eq!(gap(&gpt2, "a", "b"), None);
}
