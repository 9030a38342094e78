//! Random models that `tests/oracle/models.py` writes, with llama.cpp's answers beside them (`cargo xtask test --full`).
//!
//! Where llama.cpp does not know a feature (Mistral's and Phi 3's windows) the reference judges. That the reference agrees with
//! llama.cpp everywhere else, and that it stops agreeing when a feature is switched off, is shown here too.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use firecrest_engine::file::ModelFile;
use firecrest_engine::model::Pooling;
use firecrest_engine::model::config::Config;
use firecrest_engine::model::plan::Activation;
use firecrest_engine::model::rope::RopeScaling;
use firecrest_tests::backends::backends;
use firecrest_tests::interpreter::{Inputs, KvPrecision, largest_error, nmse};
use firecrest_tests::runner::{Reference, Session, open};
use firecrest_tests::{oracle, repository, skip};
use serde_json::Value;

/// Where the oracle's files lie: `FIRECREST_ORACLE`, or `target/oracle`. Written once a run; `None` outside the full run, or after a loud skip.
fn folder(what: &str) -> Option<&'static Path> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let python = oracle(what)?;
    let made = FOLDER.get_or_init(|| {
        let base = std::env::var_os("FIRECREST_ORACLE").map_or_else(|| repository().join("target/oracle"), PathBuf::from);
        let out = base.join("models");
        let script = repository().join("tests/oracle/models.py");
        let run = Command::new(python).arg(script).arg(&out).output().map_err(|e| e.to_string())?;
        if !run.status.success() {
            return Err(format!("tests/oracle/models.py: {}\n{}", run.status, String::from_utf8_lossy(&run.stderr)));
        }
        Ok(out)
    });
    match made {
        Ok(path) => Some(path),
        Err(reason) => {
            skip(what, reason);
            None
        }
    }
}

/// One file and llama.cpp's answer to it.
struct Case {
    name: String,
    family: String,
    format: String,
    path: PathBuf,
    prompt: Vec<u32>,
    /// llama.cpp's greedy continuation; empty where it is no judge, and in encoders.
    greedy: Vec<u32>,
    encoder: bool,
    context: u32,
    /// `[prompt + greedy − 1, vocab]`, or one pooled embedding; empty where llama.cpp is no judge.
    answer: Vec<f64>,
}

impl Case {
    fn read(path: &Path) -> Case {
        let record: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let ids = |key: &str| -> Vec<u32> {
            let list = record[key].as_array();
            list.map(|l| l.iter().map(|v| v.as_u64().unwrap() as u32).collect()).unwrap_or_default()
        };
        let text = |key: &str| record[key].as_str().unwrap().to_owned();
        let name = text("case");
        let answer = std::fs::read(path.with_file_name(format!("{name}.f32"))).unwrap_or_default();
        Case {
            path: path.with_file_name(format!("{name}.gguf")),
            family: text("family"),
            format: text("format"),
            prompt: ids("prompt"),
            greedy: ids("greedy"),
            encoder: record["encoder"].as_bool().unwrap(),
            context: record["context"].as_u64().unwrap() as u32,
            answer: answer.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect(),
            name,
        }
    }

    /// Every case, by name.
    fn all(folder: &Path) -> Vec<Case> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        paths.retain(|p| p.extension().is_some_and(|e| e == "json"));
        paths.sort();
        let only = std::env::var("FIRECREST_CASE").unwrap_or_default();
        paths.iter().map(|p| Case::read(p)).filter(|c| c.name.contains(&only)).collect()
    }

    fn file(&self) -> ModelFile {
        open(&self.path).unwrap()
    }

    fn config(&self, file: &ModelFile) -> Config {
        let mut config = Config::from_file(file).unwrap().with_context(self.context).unwrap();
        // llama.cpp runs BERT's GELU by tanh, where BERT means erf.
        if config.feed_forward.activation == Activation::GeluErf {
            config.feed_forward.activation = Activation::GeluTanh;
        }
        config
    }

    fn is_float(&self) -> bool {
        matches!(self.format.as_str(), "F32" | "F16")
    }

    /// The tokens fed after the prompt: all of the continuation but its last, whose logits nobody asks for.
    fn fed(&self) -> &[u32] {
        &self.greedy[..self.greedy.len().saturating_sub(1)]
    }

    /// Everything a session answers: logits of all rows, or the pooled embedding.
    fn ask<R: firecrest_tests::runner::Runner>(&self, session: &mut Session<R>, chunk: usize) -> Vec<f32> {
        if !self.encoder {
            return session.logits(&self.prompt, self.fed(), chunk).unwrap();
        }
        let states = session.states(&self.prompt).unwrap();
        let dim = session.model.config.dim as usize;
        match session.model.config.pooling {
            Some(Pooling::Cls) => states[..dim].to_vec(),
            _ => (0..dim).map(|i| states.iter().skip(i).step_by(dim).sum::<f32>() / self.prompt.len() as f32).collect(),
        }
    }

    fn ask_reference(&self, config: Config, file: &ModelFile) -> Vec<f32> {
        self.ask_reference_with(KvPrecision::F16, config, file)
    }

    fn ask_reference_with(&self, kv: KvPrecision, config: Config, file: &ModelFile) -> Vec<f32> {
        self.ask_rounding(kv, if self.is_float() { Inputs::Exact } else { Inputs::Int8 }, config, file)
    }

    fn ask_rounding(&self, kv: KvPrecision, inputs: Inputs, config: Config, file: &ModelFile) -> Vec<f32> {
        let mut session = Session::open(Reference::new(kv, inputs), file, config).unwrap();
        self.ask(&mut session, 20)
    }
}

fn bound(case: &Case) -> f64 {
    if case.is_float() { 1e-5 } else { 5e-3 }
}

/// A NaN is the worst of errors.
fn exceeds(error: f64, bound: f64) -> bool {
    error.is_nan() || error > bound
}

#[test]
fn the_reference_agrees_with_llama_cpp() {
    let Some(folder) = folder("the reference against llama.cpp") else { return };
    let mut failures = Vec::new();
    for case in Case::all(folder).iter().filter(|c| !c.answer.is_empty()) {
        let file = case.file();
        let got = case.ask_reference(case.config(&file), &file);
        let (error, largest) = (nmse(&got, &case.answer), largest_error(&got, &case.answer));
        // What is left once llama.cpp's own roundings are taken on: f32 sums, and codes that those flip.
        let rounding = nmse(&case.ask_rounding(KvPrecision::F16, Inputs::Ggml, case.config(&file), &file), &case.answer);
        println!("{:24} nmse {error:9.2e}  largest {largest:9.2e}  with its roundings {rounding:9.2e}", case.name);
        if exceeds(error, bound(case)) {
            failures.push(format!("{}: nmse {error:e}", case.name));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// A feature switched off, where a family has it.
type Control = (&'static str, fn(&mut Config) -> bool);

const CONTROLS: [Control; 8] = [
    ("window", |c| {
        let had = c.layers.iter().any(|l| l.window.is_some());
        c.layers.iter_mut().for_each(|l| l.window = None);
        had
    }),
    ("score soft cap", |c| c.attention_softcap.take().is_some()),
    ("logit soft cap", |c| c.final_softcap.take().is_some()),
    ("rope scaling", |c| {
        let had = c.ropes.iter().any(|r| r.scaling != RopeScaling::None);
        c.ropes.iter_mut().for_each(|r| r.scaling = RopeScaling::None);
        had
    }),
    ("the local layers' rope", |c| {
        let had = c.ropes.len() > 1;
        c.layers.iter_mut().for_each(|l| l.rope = l.rope.map(|_| 0));
        had
    }),
    ("attention factor", |c| c.ropes.iter_mut().any(|r| std::mem::replace(&mut r.magnitude, 1.0) != 1.0)),
    ("QK-norm", |c| std::mem::take(&mut c.qk_norm)),
    ("QKV biases", |c| std::mem::take(&mut c.biases.qkv)),
];

#[test]
fn a_feature_switched_off_is_seen() {
    let Some(folder) = folder("negative controls") else { return };
    let mut seen = Vec::new();
    let mut failures = Vec::new();
    for case in Case::all(folder).iter().filter(|c| c.format == "F16") {
        let file = case.file();
        let config = case.config(&file);
        let want: Vec<f64> = if case.answer.is_empty() {
            case.ask_reference(config.clone(), &file).into_iter().map(f64::from).collect()
        } else {
            case.answer.clone()
        };
        for (feature, switch_off) in CONTROLS {
            let mut without = config.clone();
            if !switch_off(&mut without) {
                continue;
            }
            let error = nmse(&case.ask_reference(without, &file), &want);
            println!("{:24} without {feature:22} nmse {error:9.2e}", case.name);
            // Ten times the *quantised* bound, the looser of the two.
            if error.is_nan() || error <= 10.0 * 5e-3 {
                failures.push(format!("{} without {feature}: nmse only {error:e}", case.name));
            }
            seen.push((case.family.clone(), feature));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    let filtered = std::env::var_os("FIRECREST_CASE").is_some();
    for (feature, _) in CONTROLS.iter().filter(|_| !filtered) {
        assert!(seen.iter().any(|(_, f)| f == feature), "no family shows {feature}");
    }
}

/// Where greedy choices part from the judge's: the first step whose own choice the judge scores lower than its own by more
/// than twice the row's measured error, so that error alone cannot explain it.
fn parting(case: &Case, got: &[f32], want: &[f64]) -> Option<usize> {
    let vocab = got.len() / (case.prompt.len() + case.fed().len());
    (0..case.greedy.len()).find(|step| {
        let row = (case.prompt.len() - 1 + step) * vocab..(case.prompt.len() + step) * vocab;
        let (got, want) = (&got[row.clone()], &want[row]);
        let error = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).abs()).fold(0.0, f64::max);
        let choice = (0..vocab).max_by(|a, b| got[*a].total_cmp(&got[*b])).unwrap_or(0);
        let judged = case.greedy[*step] as usize;
        choice != judged && want[judged] - want[choice] > 2.0 * error
    })
}

#[test]
fn every_backend_agrees_with_the_judge() {
    let Some(folder) = folder("whole models on every backend") else { return };
    let mut failures = Vec::new();
    for case in Case::all(folder) {
        let file = case.file();
        let config = case.config(&file);
        let want: Vec<f64> = match case.answer.is_empty() {
            true => case.ask_reference(config.clone(), &file).into_iter().map(f64::from).collect(),
            false => case.answer.clone(),
        };
        for backend in backends("whole models on GPU backends") {
            let mut session = Session::open(backend.take(), &file, config.clone()).unwrap();
            let got = case.ask(&mut session, 20);
            backend.give_back(session.into_runner());
            let (error, largest) = (nmse(&got, &want), largest_error(&got, &want));
            println!("{backend:24} {:24} nmse {error:9.2e}  largest {largest:9.2e}", case.name);
            if exceeds(error, bound(&case)) || (case.is_float() && exceeds(largest, 3e-3)) {
                failures.push(format!("{backend}: {}: nmse {error:e}, largest {largest:e}", case.name));
            }
            if let Some(step) = parting(&case, &got, &want) {
                failures.push(format!("{backend}: {}: greedy ids part at step {step}", case.name));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_hugging_face_folder_gives_the_logits_of_its_gguf() {
    let Some(folder) = folder("Hugging Face folders") else { return };
    let mut folders: Vec<PathBuf> = std::fs::read_dir(folder.join("hf")).unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 7, "{folders:?}");
    let mut failures = Vec::new();
    for path in folders {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let case = Case::read(&folder.join(format!("{name}.F32.json")));
        let answer = |file: &ModelFile| {
            let mut config = case.config(file);
            config.pooling = Some(Pooling::Mean); // config.json does not say
            case.ask_reference_with(KvPrecision::F64, config, file)
        };
        let want: Vec<f64> = answer(&case.file()).into_iter().map(f64::from).collect();
        let error = nmse(&answer(&open(&path).unwrap()), &want);
        println!("{name:24} folder against GGUF: nmse {error:9.2e}");
        // Gemma's norms are kept as g − 1, which rounds; where pairs are halves instead of adjacent, sums run in another order.
        if exceeds(error, 1e-9) {
            failures.push(format!("{name}: nmse {error:e}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
