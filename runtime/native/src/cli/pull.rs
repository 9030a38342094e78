//! `firecrest pull`: download a model from the Hugging Face hub; an interrupted download is resumed.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use clap::Args;
use firecrest::engine::{Error, ErrorCode};
use firecrest::hub::HubName;
use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use indicatif::ProgressBar;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::open::progress_bar;
use super::{Outcome, show};

/// Download a model from the Hugging Face hub; an interrupted download is resumed.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  firecrest pull hf:HuggingFaceTB/SmolLM2-135M-Instruct\n  firecrest pull hf:owner/repo-GGUF:Q4_K_M\n  firecrest pull hf:owner/repo-GGUF/model-q4_k_m.gguf\n\nFiles go to the hub's own cache (HF_HOME); HF_TOKEN and HF_ENDPOINT are honoured. Afterwards --model takes the same name."
)]
pub(crate) struct Pull {
    /// A folder of safetensors or the only GGUF model of a repository; one quantisation; or one file.
    #[arg(value_name = "hf:owner/repo[:QUANT|/FILE]")]
    name: String,
    /// Seconds without a byte after which the hub is given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

/// Downloads of one file that may fail one after the other without a byte in between.
const ATTEMPTS: u32 = 3;

/// A message from the thread that talks with the hub.
enum Message<T> {
    /// Bytes came.
    Alive,
    Done(T),
}

/// Shows a download as a bar, and says that bytes come.
struct Bar<T> {
    bar: ProgressBar,
    alive: SyncSender<Message<T>>,
}

impl<T> Progress for Bar<T> {
    fn init(&mut self, size: usize, _: &str) {
        self.bar.set_length(size as u64);
        self.bar.set_position(0);
    }
    fn update(&mut self, size: usize) {
        self.bar.inc(size as u64);
        // A full channel says it already.
        let _ = self.alive.try_send(Message::Alive);
    }
    fn finish(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Runs what talks with the hub on a thread of its own, for as long as bytes come.
fn watched<T: Send + 'static>(
    what: &str,
    patience: Duration,
    work: impl FnOnce(SyncSender<Message<T>>) -> T + Send + 'static,
) -> Outcome<T> {
    let (sender, messages) = sync_channel(4);
    std::thread::spawn(move || {
        let done = work(sender.clone());
        // The main thread may have given up.
        let _ = sender.send(Message::Done(done));
    });
    loop {
        match messages.recv_timeout(patience) {
            Ok(Message::Alive) => {}
            Ok(Message::Done(done)) => return Ok(done),
            Err(RecvTimeoutError::Timeout) => {
                let why = format!("{what}: the hub sent nothing for {} s; run the same command again to resume", patience.as_secs());
                return Err(Error::new(ErrorCode::Source, why).into());
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::internal(format!("{what}: the download ended early; please report it")).into());
            }
        }
    }
}

/// Says what a failed request means for the person who asked.
fn failed(what: &str, error: &ApiError) -> Error {
    let text = error.to_string();
    let advice = if text.contains("401") || text.contains("403") {
        "; the repository needs access rights, or does not exist: set HF_TOKEN to a token that may read it"
    } else if text.contains("404") {
        "; there is no such repository or file on the hub"
    } else {
        ""
    };
    Error::new(ErrorCode::Source, format!("{what}: {text}{advice}"))
}

impl Pull {
    pub(crate) fn run(self) -> Outcome {
        let name: HubName = self.name.parse()?;
        let patience = Duration::from_secs(self.timeout);
        let mut builder = ApiBuilder::from_env().with_progress(false);
        // The library reads the token's file only.
        if let Some(token) = std::env::var("HF_TOKEN").ok().filter(|token| !token.trim().is_empty()) {
            builder = builder.with_token(Some(token.trim().to_owned()));
        }
        let api: Api = builder.build().map_err(|e| failed("the hub", &e))?;
        let repo = api.model(name.repository.clone());
        let info = watched(&name.to_string(), patience, move |_| repo.info())?;
        let info = match info {
            Ok(info) => info,
            // Without the hub, what was pulled whole is as good.
            Err(error) => match name.pulled() {
                Ok(path) => {
                    eprintln!("{}; using what was pulled before", failed("the hub", &error).message());
                    return self.report(&[path]);
                }
                Err(_) => return Err(failed(&name.to_string(), &error).into()),
            },
        };
        let names: Vec<String> = info.siblings.into_iter().map(|file| file.rfilename).collect();
        let cache = hf_hub::Cache::from_env().model(name.repository.clone());
        let mut paths: Vec<PathBuf> = Vec::new();
        for file in name.select(&names)? {
            // All files of one commit: a snapshot with files of two would be no model.
            let there = cache.pointer_path(&info.sha).join(&file);
            let path = if there.exists() { there } else { download(&api, &name, &file, patience)? };
            paths.push(path);
        }
        // Where every file was there, the reference may still name an older commit.
        cache.create_ref(&info.sha)?;
        self.report(&paths)
    }

    fn report(&self, paths: &[PathBuf]) -> Outcome {
        let shown: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
        if self.json {
            return show::json(&json!({"model": self.name, "files": shown}));
        }
        writeln!(std::io::stdout().lock(), "{}", shown.join("\n"))?;
        Ok(())
    }
}

/// Downloads one file, resumes it when the connection breaks, and checks it.
fn download(api: &Api, name: &HubName, file: &str, patience: Duration) -> Outcome<PathBuf> {
    let what = format!("{}/{file}", name.repository);
    eprintln!("{what}");
    let (mut fruitless, mut restarted) = (0, false);
    loop {
        let bar = progress_bar("pulling");
        let (repo, file, watched_bar) = (api.model(name.repository.clone()), file.to_owned(), bar.clone());
        let outcome = watched(&what, patience, move |alive| repo.download_with_progress(&file, Bar { bar: watched_bar, alive }))?;
        let size = bar.length().unwrap_or(0);
        match outcome {
            Ok(path) => match check(&path, size) {
                Ok(()) => return Ok(path),
                Err(why) => {
                    discard(&path);
                    // A part of an older version, or a hub that can't resume: once more from the beginning.
                    if std::mem::replace(&mut restarted, true) {
                        return Err(Error::new(ErrorCode::Source, format!("{what}: {why}; run the same command again")).into());
                    }
                }
            },
            Err(ApiError::IoError(error)) if fruitless < ATTEMPTS => {
                fruitless = if bar.position() > 0 && !bar.is_finished() { 1 } else { fruitless + 1 };
                eprintln!("{what}: {error}; resuming");
                std::thread::sleep(Duration::from_millis(250 << fruitless));
            }
            Err(error) => return Err(failed(&what, &error).into()),
        }
    }
}

/// Checks a file's size, and its hash if the hub names it by one.
fn check(path: &Path, size: u64) -> Result<(), String> {
    let shown = |e: std::io::Error| format!("the file can't be read back: {e}");
    let blob = path.canonicalize().map_err(shown)?;
    let found = blob.metadata().map_err(shown)?.len();
    if found != size {
        return Err(format!("{found} bytes came of {size}"));
    }
    let expected = blob.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    // Large files are named by their SHA-256, small ones by git's hash.
    if expected.len() != 64 || !expected.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(());
    }
    let bar = progress_bar("checking");
    bar.set_length(size);
    let mut file = std::fs::File::open(&blob).map_err(shown)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer).map_err(shown)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        bar.inc(read as u64);
    }
    bar.finish_and_clear();
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found == expected { Ok(()) } else { Err("what came does not have the hash that the hub says".to_owned()) }
}

/// Removes a download that is wrong, so that it can't be opened or resumed.
fn discard(path: &Path) {
    if let Ok(blob) = path.canonicalize() {
        let _ = std::fs::remove_file(blob);
    }
    let _ = std::fs::remove_file(path);
}
