//! `firecrest template`: render a chat template.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use firecrest::engine::Error;
use firecrest::engine::text::ChatTemplate;
use serde_json::json;

use super::open::ModelArguments;
use super::tokenize::read_text;
use super::{Outcome, show};

/// Render a chat template.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  firecrest template --template chatml.jinja --context conversation.json\n  firecrest template --model m.gguf --context conversation.json --json"
)]
pub(crate) struct Template {
    #[command(flatten)]
    model: ModelArguments,
    /// A Jinja template; the model's own if not given.
    #[arg(long, value_name = "F")]
    template: Option<PathBuf>,
    /// The variables it sees: messages, add_generation_prompt, bos_token, tools …
    #[arg(long, value_name = "F.json")]
    context: PathBuf,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

impl Template {
    pub(crate) fn run(self) -> Outcome {
        let template = match &self.template {
            Some(path) => ChatTemplate::new(&read_text(path)?)?,
            None => super::chat::model_template(&self.model.open()?)?,
        };
        let context: serde_json::Value =
            serde_json::from_str(&read_text(&self.context)?).map_err(|e| Error::malformed(format!("{}: {e}", self.context.display())))?;
        let text = template.render(&context, Some(super::chat::wall_time()))?;
        if self.json {
            return show::json(&json!({"text": text}));
        }
        std::io::stdout().lock().write_all(text.as_bytes())?;
        Ok(())
    }
}
