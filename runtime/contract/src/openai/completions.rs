//! `/v1/completions`: text that goes on from text, without turns.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::beyond::Beyonds;
use super::chat::Usage;
use super::{Input, Stop, StreamOptions, range};
use crate::ask::{Ask, RawPrompt, Sampling, ServiceTier, Thinking, ToolChoice};
use crate::error::ApiError;
use crate::leaf::Unknown;
use crate::names::Names;

/// Prompts of one request, and answers to all of them together.
pub const MOST_CHOICES: usize = 128;

/// What is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "CompletionsRequest"))]
#[serde(expecting = "an object")]
pub struct Request {
    /// The model.
    pub model: String,
    /// What to go on from: each prompt gets `n` answers. Without one the model begins by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Input>,
    /// Answers to draw of which the best `n` are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_of: Option<i64>,
    /// Whether answers begin with their prompt, and `logprobs` with those of its tokens (the first has none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<bool>,
    /// From −2 to 2: less of a token the more often it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// By token id, from −100 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logit_bias: Option<Map<String, Value>>,
    /// Each token's logarithm of probability, and of so many most probable ones: 0 to 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<i64>,
    /// Tokens of each answer at most; 16 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<i64>,
    /// Answers of each prompt, 1 to 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<i64>,
    /// From −2 to 2: less of a token once it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// Same seed, same answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Texts that end an answer, 64 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// Whether the answer is sent as it comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// How.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_options: Option<StreamOptions>,
    /// What comes after the answer: it fills the gap. For models that were trained to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
    /// From 0 (always the most probable token) to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Not OpenAI's: the k most probable tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<i64>,
    /// From 0 to 1: nucleus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Who the caller asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Request {
    /// Whether a stream ends with a chunk that says what it took.
    pub fn include_usage(&self) -> bool {
        self.stream_options.as_ref().is_some_and(|options| options.include_usage == Some(true))
    }

    /// The neutral request: its prompts are in [`Ask::raw`].
    ///
    /// # Errors
    /// `invalid_request_error` with the leaf that is out of bounds or contradicts another.
    pub fn into_ask(self) -> Result<Ask, ApiError> {
        range::model(&self.model)?;
        let mut beyond = Beyonds::default();
        let stream = self.stream.unwrap_or(false);
        StreamOptions::ask(self.stream_options.as_ref(), stream, &mut beyond)?;
        if let Some(prompt) = &self.prompt {
            prompt.check("prompt", MOST_CHOICES, true)?;
        }
        let mut raw = self.prompt.map_or_else(|| vec![RawPrompt::Text(String::new())], Input::into_prompts);
        let echo = self.echo == Some(true);
        if let Some(suffix) = self.suffix.filter(|suffix| !suffix.is_empty()) {
            if echo {
                return Err(ApiError::invalid(
                    "echo",
                    "what fills a gap can't begin with the text around it; leave out `echo` or `suffix`",
                ));
            }
            let infill = |prompt| match prompt {
                RawPrompt::Text(prefix) => Ok(RawPrompt::Infill { prefix, suffix: suffix.clone() }),
                _ => Err(ApiError::invalid("suffix", "it goes with a prompt of text, not of token ids")),
            };
            raw = raw.into_iter().map(infill).collect::<Result<_, _>>()?;
        }
        let choices = range::count("n", self.n, 1, 128)?.unwrap_or(1);
        let total = raw.len().saturating_mul(choices as usize);
        if total > MOST_CHOICES {
            return Err(ApiError::invalid(
                "n",
                format_args!(
                    "{choices} answers to each of {} prompts are {total}; a request may ask for {MOST_CHOICES} in all, so lower `n` or send fewer prompts",
                    raw.len()
                ),
            ));
        }
        match range::count("best_of", self.best_of, 1, 128)? {
            Some(best) if best < choices => return Err(ApiError::invalid("best_of", format_args!("{best} is less than `n`, {choices}"))),
            Some(best) if best > choices => {
                beyond.refuse("best_of", "answers are not drawn to be dropped here; ask for all of them with `n`")
            }
            _ => {}
        }
        let sampling = Sampling {
            temperature: range::number("temperature", self.temperature, 0.0, 2.0)?,
            top_p: range::number("top_p", self.top_p, 0.0, 1.0)?,
            top_k: range::count("top_k", self.top_k, 1, u32::MAX)?,
            seed: self.seed.map(i64::cast_unsigned),
            presence_penalty: range::number("presence_penalty", self.presence_penalty, -2.0, 2.0)?,
            frequency_penalty: range::number("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?,
            logit_bias: range::logit_bias(self.logit_bias.as_ref())?,
        };
        let logprobs = range::count("logprobs", self.logprobs, 0, 20)?;
        let max_tokens = range::count("max_tokens", self.max_tokens, 0, u32::MAX)?.unwrap_or(16);
        let stop = range::stop(self.stop)?;
        beyond.unknown("", &self.unknown);
        Ok(Ask {
            names: Names::COMPLETIONS,
            model: self.model,
            turns: Vec::new(),
            last: "prompt".into(),
            raw,
            echo,
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tools: true,
            format: None,
            thinking: Thinking::Unsaid,
            max_tokens: Some(max_tokens),
            stop,
            sampling,
            logprobs,
            choices,
            stream,
            tier: ServiceTier::Auto,
            user: self.user,
            beyond: beyond.into_list(),
        })
    }
}

/// What is answered, and each chunk of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "CompletionsCompletion"))]
pub struct Completion {
    /// `cmpl-…`.
    pub id: String,
    /// Always `text_completion`.
    pub object: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// Answers: of the first prompt first.
    pub choices: Vec<Choice>,
    /// What it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// One answer, or a piece of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "CompletionsChoice"))]
pub struct Choice {
    /// Which: `n` of the first prompt, then `n` of the second, from 0.
    pub index: u32,
    /// The text.
    pub text: String,
    /// Of its tokens, where asked for.
    pub logprobs: Option<Logprobs>,
    /// `stop`, `length` or `content_filter`; `null` in a piece that is not the last.
    pub finish_reason: Option<String>,
}

/// Of tokens, in lists side by side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "CompletionsLogprobs"))]
pub struct Logprobs {
    /// Tokens as text.
    pub tokens: Vec<String>,
    /// Natural logarithms of their probabilities; `null` for the first token of a prompt, which nothing comes before.
    pub token_logprobs: Vec<Option<f32>>,
    /// Of the most probable ones at each place, by their text.
    pub top_logprobs: Option<Vec<Option<Map<String, Value>>>>,
    /// Where each begins, in characters from the start of the prompt.
    pub text_offset: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf::parse;

    fn ask(body: &str) -> Result<Ask, ApiError> {
        parse::<Request>(body.as_bytes())?.into_ask()
    }

    #[test]
    fn prompts() {
        let raw = |json: &str| ask(&format!(r#"{{"model": "m", "prompt": {json}}}"#)).expect("an ask").raw;
        assert_eq!(raw("null"), [RawPrompt::Text(String::new())]);
        assert_eq!(raw(r#""a""#), [RawPrompt::Text("a".into())]);
        assert_eq!(raw("[[1, 2], [3]]"), [RawPrompt::Tokens(vec![1, 2]), RawPrompt::Tokens(vec![3])]);
        assert_eq!(ask(r#"{"model": "m"}"#).expect("an ask").max_tokens, Some(16));
        assert_eq!(ask(r#"{"model": "m", "max_tokens": 0, "logprobs": 3}"#).expect("an ask").logprobs, Some(3));
    }

    #[test]
    fn bounds() {
        let wrong = |body: &str| ask(body).expect_err("a body that is wrong").message;
        assert!(wrong(r#"{"model": "m", "prompt": [[1], []]}"#).starts_with("prompt.1: "));
        assert!(wrong(r#"{"model": "m", "n": 2, "best_of": 1}"#).starts_with("best_of: 1 is less"));
        assert!(wrong(r#"{"model": "m", "n": 129}"#).starts_with("n: 129 is out of range; give 1 to 128"));
        let many = |n: usize, prompts: usize| format!(r#"{{"model": "m", "n": {n}, "prompt": ["a"{}]}}"#, r#","a""#.repeat(prompts - 1));
        for (n, prompts) in [(1, 128), (128, 1), (2, 64)] {
            assert_eq!(ask(&many(n, prompts)).expect("an ask").raw.len(), prompts);
        }
        // The field that is named is one that was sent.
        let none = many(1, 129).replace(r#""n": 1, "#, "");
        for body in [many(1, 129), many(128, 129), none] {
            let why = wrong(&body);
            assert!(why.starts_with("prompt: ") && why.contains("128"), "{why}");
        }
        for (n, prompts, total) in [(2, 65, "130"), (128, 2, "256")] {
            let why = wrong(&many(n, prompts));
            assert!(why.starts_with("n: ") && why.contains(total) && why.contains("128"), "{why}");
        }
        let beyond = ask(r#"{"model": "m", "best_of": 4}"#).expect("an ask").beyond;
        assert_eq!(beyond.iter().map(|b| (b.path.as_str(), b.hint)).collect::<Vec<_>>(), [("best_of", false)]);
        assert!(wrong(r#"{"model": "m", "prompt": "a", "echo": true, "suffix": "b"}"#).starts_with("echo: "));
        assert!(wrong(r#"{"model": "m", "prompt": [1], "suffix": "b"}"#).starts_with("suffix: "));
        let gap = ask(r#"{"model": "m", "prompt": "a", "suffix": "b"}"#).expect("an ask").raw;
        assert_eq!(gap, [RawPrompt::Infill { prefix: "a".into(), suffix: "b".into() }]);
        assert!(ask(r#"{"model": "m", "prompt": "a", "echo": true}"#).expect("an ask").echo);
    }
}
