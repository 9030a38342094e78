//! `firecrest pull`: download a model from the Hugging Face hub; goes on where it stopped.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use firecrest::engine::{Error, ErrorCode};
use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiRepo};
use indicatif::ProgressBar;
use serde_json::json;

use super::open::progress_bar;
use super::{Outcome, show};

/// Download a model from the Hugging Face hub; goes on where it stopped.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  firecrest pull hf:HuggingFaceTB/SmolLM2-135M-Instruct\n  firecrest pull hf:owner/repo-GGUF/model-q4_k_m.gguf\n\nFiles go to the hub's own cache (HF_HOME); HF_TOKEN and HF_ENDPOINT are honoured. Afterwards --model takes the same name."
)]
pub(crate) struct Pull {
    /// hf:owner/repo for a folder of safetensors, hf:owner/repo/file for one GGUF.
    #[arg(value_name = "hf:owner/repo[/file]")]
    name: String,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

/// A download as a bar.
struct Bar(ProgressBar);

impl Progress for Bar {
    fn init(&mut self, size: usize, _: &str) {
        self.0.set_length(size as u64);
    }
    fn update(&mut self, size: usize) {
        self.0.inc(size as u64);
    }
    fn finish(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Pull {
    pub(crate) fn run(self) -> Outcome {
        let parts: Vec<&str> = self.name.strip_prefix("hf:").unwrap_or_default().splitn(3, '/').collect();
        let (repository, file) = match parts[..] {
            [owner, name] if !owner.is_empty() && !name.is_empty() => (format!("{owner}/{name}"), None),
            [owner, name, file] if !owner.is_empty() && !name.is_empty() && !file.is_empty() => (format!("{owner}/{name}"), Some(file)),
            _ => return Err(Error::request(format!("`{}`: write hf:owner/repo or hf:owner/repo/file.gguf", self.name)).into()),
        };
        let failed = |what: &str, e: hf_hub::api::sync::ApiError| Error::new(ErrorCode::Source, format!("{what}: {e}"));
        let api: Api = ApiBuilder::from_env().with_progress(false).build().map_err(|e| failed("the hub", e))?;
        let repo = api.model(repository.clone());
        let files = match file {
            Some(file) => vec![file.to_owned()],
            None => choose(&repo, &repository)?,
        };
        let mut paths: Vec<PathBuf> = Vec::new();
        for file in &files {
            let cached = hf_hub::Cache::from_env().repo(hf_hub::Repo::model(repository.clone())).get(file);
            let path = match cached {
                Some(path) => path,
                None => {
                    eprintln!("{repository}/{file}");
                    repo.download_with_progress(file, Bar(progress_bar("pulling"))).map_err(|e| failed(file, e))?
                }
            };
            paths.push(path);
        }
        let shown: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
        if self.json {
            return show::json(&json!({"model": self.name, "files": shown}));
        }
        writeln!(std::io::stdout().lock(), "{}", shown.join("\n"))?;
        Ok(())
    }
}

/// Which files of a repository make its model.
fn choose(repo: &ApiRepo, name: &str) -> Outcome<Vec<String>> {
    let info = repo.info().map_err(|e| Error::new(ErrorCode::Source, format!("hf:{name}: {e}")))?;
    let names: Vec<String> = info.siblings.into_iter().map(|s| s.rfilename).collect();
    let top = |suffix: &str| names.iter().filter(|n| !n.contains('/') && n.ends_with(suffix)).cloned().collect::<Vec<_>>();
    let safetensors = top(".safetensors");
    if !safetensors.is_empty() {
        let mut files: Vec<String> =
            ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"]
                .iter()
                .filter(|f| names.iter().any(|n| n == *f))
                .map(|f| (*f).to_owned())
                .collect();
        files.extend(top(".safetensors.index.json"));
        files.extend(safetensors);
        return Ok(files);
    }
    let ggufs = top(".gguf");
    match &ggufs[..] {
        [one] => Ok(vec![one.clone()]),
        [] => Err(Error::unsupported(format!("hf:{name} has neither .safetensors nor .gguf files; Firecrest reads these two")).into()),
        // Split files are one model.
        several if several.iter().all(|f| f.contains("-of-") && f.split("-0").next() == several[0].split("-0").next()) => Ok(ggufs.clone()),
        several => Err(Error::request(format!(
            "hf:{name} has several models; name one, for example hf:{name}/{}:\n  {}",
            several[0],
            several.join("\n  ")
        ))
        .into()),
    }
}
