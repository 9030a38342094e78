//! `firecrest pull`: download a model from the Hugging Face hub; an interrupted download is resumed.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use firecrest::hub::{Cache, HubName};
use serde_json::json;

use super::fetch::Client;
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

impl Pull {
    pub(crate) fn run(self) -> Outcome {
        let name: HubName = self.name.parse()?;
        let patience = Duration::from_secs(self.timeout);
        let client = Client::new(patience)?;
        let cache = Cache::new(&name.repository)?;
        let info = match client.info(&name.repository) {
            Ok(info) => info,
            // Without the hub, what was pulled whole is as good.
            Err(error) => match name.pulled() {
                Ok(path) => {
                    eprintln!("{}; using what was pulled before", error.message());
                    return self.report(&[path]);
                }
                Err(_) => return Err(error.into()),
            },
        };
        let names: Vec<String> = info.siblings.into_iter().map(|file| file.rfilename).collect();
        let mut paths: Vec<PathBuf> = Vec::new();
        for file in name.select(&names)? {
            // All files of one commit: a snapshot with files of two would be no model.
            let path = match cache.pulled(&info.sha, &file)? {
                Some(path) => path,
                None => client.download(&cache, &name.repository, &info.sha, &file)?,
            };
            paths.push(path);
        }
        // Only now: the reference never names a commit of which files are missing.
        cache.set_commit(&info.sha)?;
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
