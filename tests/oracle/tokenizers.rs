//! Every pre-tokeniser that Firecrest names, SentencePiece's BPE and WordPiece, against llama.cpp, on vocabularies and strings made
//! for the purpose (tokenizers.py beside this file).
//!
//! Runs in `cargo xtask test --full`, or where `FIRECREST_TOKENIZER_STRINGS` says how many strings per name.
//! `FIRECREST_TOKENIZER_NAMES` picks names.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use firecrest_engine::file::ModelFile;
use firecrest_engine::text::{EncodeOptions, Tokenizer, pre_tokenizer_names};
use firecrest_tests::{count, oracle, repository, shared_data_or_skip};

const SEED: &str = "1";

#[test]
fn ids_are_those_of_llama_cpp() {
    const VARIABLE: &str = "FIRECREST_TOKENIZER_STRINGS";
    let Some(python) = oracle("the tokenizer oracle") else { return };
    let Some(data) = shared_data_or_skip("the tokenizer oracle") else { return };
    let strings = count(VARIABLE, 100_000);
    let picked = std::env::var("FIRECREST_TOKENIZER_NAMES").unwrap_or_default();
    let picked: Vec<&str> = picked.split_whitespace().collect();
    let names = pre_tokenizer_names().chain(["spm", "spm-no-prefix", "bert"]);
    let names: Vec<&str> = names.filter(|name| picked.is_empty() || picked.contains(name)).collect();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tokenizers");
    std::fs::create_dir_all(&folder).unwrap();

    // One process a core: some patterns take llama.cpp a millisecond a string.
    let shares = std::thread::available_parallelism().map_or(1, usize::from).min(names.len());
    let deal = |share: usize| names.iter().skip(share).step_by(shares).copied().collect::<Vec<_>>();
    let (compared, differing) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..shares)
            .map(|share| {
                let names = deal(share);
                let (python, data, folder) = (&python, &data, &folder);
                scope.spawn(move || judge(python, data, folder, strings, &names))
            })
            .collect();
        let judged = threads.into_iter().map(|thread| thread.join().unwrap());
        judged.fold((0, Vec::new()), |(count, all), (more, differing)| (count + more, [all, differing].concat()))
    });
    assert_eq!(compared, names.len());
    assert!(differing.is_empty(), "these differ: {differing:?}");
}

/// How many of these names were compared, and which of them differ.
fn judge(python: &Path, data: &Path, folder: &Path, strings: usize, names: &[&str]) -> (usize, Vec<String>) {
    let mut oracle = Command::new(python)
        .arg(repository().join("tests/oracle/tokenizers.py"))
        .args([data.join("text").as_os_str(), folder.as_os_str()])
        .args([&strings.to_string(), SEED])
        .args(names)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let ready = BufReader::new(oracle.stdout.take().unwrap());
    let (mut compared, mut differing) = (0, Vec::new());
    for name in ready.lines() {
        let name = name.unwrap();
        let differences = compare(folder, &name);
        println!("{name}: {} of {strings} strings agree", strings - differences.len());
        for difference in differences.iter().take(5) {
            println!("  {difference}");
        }
        if !differences.is_empty() {
            differing.push(name);
        }
        compared += 1;
    }
    assert!(oracle.wait().unwrap().success());
    (compared, differing)
}

fn compare(folder: &Path, name: &str) -> Vec<String> {
    let path = |kind: &str| folder.join(format!("{name}.{kind}"));
    let sources = firecrest_weights::native::open_model(path("gguf")).unwrap();
    let tokenizer = Tokenizer::from_file(&pollster::block_on(ModelFile::open(sources)).unwrap()).unwrap().unwrap();
    let (texts, ids) = (std::fs::read(path("strings")).unwrap(), std::fs::read(path("ids")).unwrap());
    let (mut texts, mut ids) = (texts.as_slice(), ids.as_slice());
    let mut differences = Vec::new();
    for case in 0.. {
        if texts.is_empty() {
            break;
        }
        let len = number(&mut texts);
        let (text, rest) = texts.split_at(len);
        texts = rest;
        let text = std::str::from_utf8(text).unwrap();
        let expected: Vec<u32> = (0..number(&mut ids)).map(|_| number(&mut ids) as u32).collect();
        // As the script asks llama.cpp.
        let options = EncodeOptions { add_special: case % 2 == 0, parse_special: case % 4 < 2 };
        let found = tokenizer.encode(text, options).unwrap();
        if found != expected {
            let names = |ids: &[u32]| ids.iter().map(|&id| tokenizer.token_text(id).unwrap_or("?").to_string()).collect::<Vec<_>>();
            differences.push(format!("{text:?}: {:?}, and llama.cpp has {:?}", names(&found), names(&expected)));
        }
    }
    for kind in ["gguf", "strings", "ids"] {
        std::fs::remove_file(path(kind)).unwrap();
    }
    differences
}

fn number(bytes: &mut &[u8]) -> usize {
    let (head, rest) = bytes.split_at(4);
    *bytes = rest;
    u32::from_le_bytes(head.try_into().unwrap()) as usize
}
