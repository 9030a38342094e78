//! `/v1/moderations`, OpenAI's, and `/v1/moderate`, ours: the same judgement, told in OpenAI's categories or in the policy's own.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::beyond::Beyonds;
use super::chat;
use crate::ask::{Content, Part, Role, Turn};
use crate::error::ApiError;
use crate::leaf::{Unknown, either, tagged};
use crate::moderation::{ModerateAsk, Moderation};

/// Inputs of one request.
pub const MOST_INPUTS: usize = 1024;

/// What is sent to `/v1/moderations`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "ModerationsRequest"))]
#[serde(expecting = "an object")]
pub struct Request {
    /// What is to be judged.
    pub input: Input,
    /// The model. Whatever it says, the service's own policy judges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

either! {
    /// What is to be judged.
    #[cfg_attr(feature = "schema", schemars(rename = "ModerationsInput"))]
    pub enum Input {
        /// One text.
        String => Text(String),
        /// Texts, each by itself, or parts of one input.
        Array => List(Vec<InputPart>),
    }
    expected "a string, an array of strings or an array of parts"
}

either! {
    /// A member of a list.
    #[cfg_attr(feature = "schema", schemars(rename = "ModerationsInputPart"))]
    pub enum InputPart {
        /// A text by itself.
        String => Text(String),
        /// A part of one input.
        Object => Part(TypedPart),
    }
    expected "a string or a part"
}

tagged! {
    /// A part of one input. Images (`image_url`) have no neutral form.
    pub enum TypedPart named "ModerationsTypedPart" {
        /// Text.
        "text" => Text(chat::TextPart),
    }
}

impl Request {
    /// The neutral request.
    ///
    /// # Errors
    /// `invalid_request_error` with the leaf that is out of bounds.
    pub fn into_ask(self) -> Result<ModerateAsk, ApiError> {
        let mut beyond = Beyonds::default();
        let inputs = match self.input {
            Input::Text(text) => vec![said(Role::User, text)],
            Input::List(list) if list.is_empty() => return Err(ApiError::invalid("input", "the array is empty; give at least one text")),
            Input::List(list) if list.len() > MOST_INPUTS => {
                return Err(ApiError::invalid("input", format_args!("{} are too many; give at most {MOST_INPUTS}", list.len())));
            }
            Input::List(list) => inputs(list, &mut beyond)?,
        };
        beyond.unknown("", &self.unknown);
        Ok(ModerateAsk { model: self.model, inputs, beyond: beyond.into_list() })
    }
}

fn said(role: Role, text: String) -> Vec<Turn> {
    vec![Turn { role, parts: vec![Part { content: Content::Text(text), cache: None }] }]
}

/// Strings are inputs of their own, parts are one input together; both at once are neither.
fn inputs(list: Vec<InputPart>, beyond: &mut Beyonds) -> Result<Vec<Vec<Turn>>, ApiError> {
    let strings = matches!(list.first(), Some(InputPart::Text(_)));
    let mut texts = Vec::new();
    let mut parts = Vec::new();
    for (index, member) in list.into_iter().enumerate() {
        let path = format!("input.{index}");
        match member {
            InputPart::Text(text) if strings => texts.push(said(Role::User, text)),
            InputPart::Text(_) => return Err(ApiError::invalid(path, "expected a part, as the members before it are")),
            InputPart::Part(_) if strings => return Err(ApiError::invalid(path, "expected a string, as the members before it are")),
            InputPart::Part(TypedPart::Text(part)) => {
                beyond.unknown(&path, &part.unknown);
                parts.push(Part { content: Content::Text(part.text), cache: None });
            }
            InputPart::Part(other) => {
                beyond.refuse(path, chat::ask::no_part(other.tag(), "`text`"));
                parts.push(Part { content: Content::Beyond, cache: None });
            }
        }
    }
    Ok(if strings { texts } else { vec![vec![Turn { role: Role::User, parts }]] })
}

/// OpenAI's categories, and the names under which a policy may have them that does not say itself which of OpenAI's each is. Such a name
/// counts for every
/// category that lists it, and for the one that is called like it (`_`, `-`, `/`, `.` and blanks count as the same).
pub const CATEGORIES: [(&str, &[&str]); 13] = [
    ("harassment", &["abuse", "bullying", "insult", "insults", "toxicity", "toxic"]),
    ("harassment/threatening", &["threat", "threats"]),
    ("hate", &["hate_speech", "discrimination", "identity_hate"]),
    ("hate/threatening", &["extremism", "terrorism"]),
    ("illicit", &["illegal", "crime", "crimes", "non_violent_crimes", "drugs", "fraud", "malware", "cybercrime", "weapons", "cbrn"]),
    ("illicit/violent", &["violent_crimes", "weapons", "cbrn", "explosives", "terrorism"]),
    ("self-harm", &["suicide", "self_harm_or_suicide"]),
    ("self-harm/intent", &["suicide_intent"]),
    ("self-harm/instructions", &["suicide_instructions"]),
    ("sexual", &["sexual_content", "adult", "nsfw", "obscene"]),
    ("sexual/minors", &["csam", "csae", "child_exploitation", "child_sexual_exploitation", "child_safety", "minors"]),
    ("violence", &["violent", "violence_and_threats"]),
    ("violence/graphic", &["gore"]),
];

/// Whether two names are spelled alike: case and what stands between words don't count.
fn alike(a: &str, b: &str) -> bool {
    let fold = |c: u8| if matches!(c, b'-' | b'/' | b' ' | b'.') { b'_' } else { c.to_ascii_lowercase() };
    a.len() == b.len() && a.bytes().map(fold).eq(b.bytes().map(fold))
}

/// What is answered by `/v1/moderations`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Moderations {
    /// `modr-…`.
    pub id: String,
    /// What judged.
    pub model: String,
    /// One for each input, in its order.
    pub results: Vec<ModerationResult>,
}

/// A judgement of one input, in OpenAI's categories.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModerationResult {
    /// Whether any of the 13 categories is. What a policy finds that is of none of them, `/v1/moderate` tells.
    pub flagged: bool,
    /// Whether each of the 13 is.
    pub categories: Map<String, Value>,
    /// How much of each, from 0 to 1. 0 also where the policy does not look for it.
    pub category_scores: Map<String, Value>,
    /// What each was looked for in: `["text"]`, or nothing where the policy does not look for it.
    pub category_applied_input_types: Map<String, Value>,
}

impl Moderations {
    /// Judgements as OpenAI tells them. `id` is without its prefix.
    pub fn new(id: &str, model: String, judged: &[Moderation]) -> Moderations {
        Moderations { id: format!("modr-{id}"), model, results: judged.iter().map(ModerationResult::from).collect() }
    }
}

impl From<&Moderation> for ModerationResult {
    fn from(judged: &Moderation) -> ModerationResult {
        let mut result = ModerationResult {
            flagged: false,
            categories: Map::new(),
            category_scores: Map::new(),
            category_applied_input_types: Map::new(),
        };
        for (name, ours) in CATEGORIES {
            let of = judged.categories.iter().filter(|c| match &c.openai {
                Some(said) => said == name,
                None => alike(&c.name, name) || ours.iter().any(|our| alike(&c.name, our)),
            });
            let (mut flagged, mut score, mut looked) = (false, 0.0_f64, Vec::new());
            for category in of {
                flagged |= category.flagged;
                // `max` drops a score that is no number.
                score = score.max(f64::from(category.score));
                looked = vec![Value::from("text")];
            }
            result.flagged |= flagged;
            result.categories.insert(name.to_owned(), Value::from(flagged));
            result.category_scores.insert(name.to_owned(), Value::from(score));
            result.category_applied_input_types.insert(name.to_owned(), Value::from(looked));
        }
        result
    }
}

/// What is sent to `/v1/moderate`: a text, or messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(expecting = "an object")]
pub struct ModerateRequest {
    /// A text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Whose text it is: of the `user` (judged as input, the default) or of the `assistant` (judged as output).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Side>,
    /// Instead of a text: a conversation, as `/v1/chat/completions` takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<chat::Message>>,
    /// The model. Whatever it says, the service's own policy judges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Other members.
    #[serde(flatten)]
    pub unknown: Unknown,
}

words! {
    /// Whose text it is.
    #[derive(Default)]
    #[cfg_attr(feature = "schema", schemars(rename = "ModerationsSide"))]
    pub enum Side {
        /// Who asks.
        #[default]
        "user" => User,
        /// The model.
        "assistant" => Assistant,
    }
}

impl ModerateRequest {
    /// The neutral request, of one input.
    ///
    /// # Errors
    /// `invalid_request_error` with the leaf that is out of bounds or contradicts another.
    pub fn into_ask(self) -> Result<ModerateAsk, ApiError> {
        let mut beyond = Beyonds::default();
        let turns = match (self.text, self.messages) {
            (Some(_), Some(_)) => return Err(ApiError::invalid("text", "give either `text` or `messages`, not both")),
            (None, None) => return Err(ApiError::invalid("text", "field required; give `text` or `messages`")),
            (None, Some(_)) if self.role.is_some() => {
                return Err(ApiError::invalid("role", "messages have roles of their own; leave this out"));
            }
            (None, Some(messages)) => chat::ask::turns(messages, &mut beyond)?,
            (Some(text), None) => match self.role.unwrap_or_default() {
                Side::User => said(Role::User, text),
                Side::Assistant => said(Role::Assistant, text),
            },
        };
        beyond.unknown("", &self.unknown);
        Ok(ModerateAsk { model: self.model, inputs: vec![turns], beyond: beyond.into_list() })
    }
}

/// What is answered by `/v1/moderate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Moderate {
    /// `modr-…`.
    pub id: String,
    /// Always `moderation`.
    pub object: String,
    /// What judged.
    pub model: String,
    /// `allow`, `flag` or `block`.
    pub decision: String,
    /// The rule that decided; none where it was the scores or nothing was found.
    pub rule: Option<String>,
    /// Whether each of the policy's categories is more than it bears.
    pub categories: Map<String, Value>,
    /// How much of each, from 0 to 1.
    pub scores: Map<String, Value>,
}

impl Moderate {
    /// A judgement in the policy's own categories. `id` is without its prefix.
    pub fn new(id: &str, model: String, judged: &Moderation) -> Moderate {
        let categories = judged.categories.iter().map(|c| (c.name.clone(), Value::from(c.flagged))).collect();
        let scores = judged.categories.iter().map(|c| (c.name.clone(), Value::from(c.score))).collect();
        Moderate {
            id: format!("modr-{id}"),
            object: "moderation".to_owned(),
            model,
            decision: judged.decision.name().to_owned(),
            rule: judged.rule.clone(),
            categories,
            scores,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf::parse;
    use crate::moderation::{Category, Decision};

    fn ask(body: &str) -> Result<ModerateAsk, ApiError> {
        parse::<Request>(body.as_bytes())?.into_ask()
    }

    #[test]
    fn inputs_of_each_shape() {
        assert_eq!(ask(r#"{"input": "a"}"#).expect("an ask").inputs, [said(Role::User, "a".into())]);
        assert_eq!(ask(r#"{"input": ["a", "b"]}"#).expect("an ask").inputs.len(), 2);
        let parts = r#"{"input": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:,"}}]}"#;
        let parts = ask(parts).expect("an ask");
        assert_eq!((parts.inputs.len(), parts.beyond.len()), (1, 1));
        assert_eq!((parts.beyond[0].path.as_str(), parts.beyond[0].hint), ("input.1", false));
        let wrong = |body: &str| ask(body).expect_err("a body that is wrong").message;
        assert!(wrong(r#"{"input": []}"#).starts_with("input: the array is empty"));
        assert!(wrong(r#"{"input": ["a", {"type": "text", "text": "b"}]}"#).starts_with("input.1: expected a string"));
        assert!(wrong(r#"{"input": [{"type": "text", "text": 1}]}"#).starts_with("input.0.text: invalid type"));
        assert!(wrong(r#"{"input": ["a", 3]}"#).starts_with("input.1: expected a string or a part, found a number"));
    }

    #[test]
    fn categories() {
        let category = |name: &str, score, flagged| Category { name: name.into(), openai: None, score, flagged };
        let said = Category { openai: Some("illicit/violent".into()), ..category("weapons", 0.125, false) };
        let judged = Moderation {
            categories: vec![
                category("Self-Harm", 0.25, false),
                category("self_harm/intent", 0.75, true),
                category("csam", 0.5, false),
                said,
            ],
            decision: Decision::Block,
            rule: Some("self-harm-1".into()),
        };
        let result = ModerationResult::from(&judged);
        assert!(result.flagged);
        assert_eq!(result.categories.len(), 13);
        assert_eq!(result.category_scores["self-harm"], 0.25);
        assert_eq!(result.category_scores["self-harm/intent"], 0.75);
        assert_eq!((result.categories["self-harm/intent"].clone(), result.categories["self-harm"].clone()), (true.into(), false.into()));
        assert_eq!(result.category_scores["sexual/minors"], 0.5);
        assert_eq!(
            (result.category_scores["illicit/violent"].clone(), result.category_scores["illicit"].clone()),
            (0.125.into(), 0.0.into())
        );
        assert_eq!(result.category_applied_input_types["hate"], serde_json::json!([]));
        let ours = serde_json::to_value(Moderate::new("1", "m".into(), &judged)).expect("JSON");
        assert_eq!(
            (ours["decision"].as_str(), ours["rule"].as_str(), ours["id"].as_str()),
            (Some("block"), Some("self-harm-1"), Some("modr-1"))
        );
        assert_eq!(ours["scores"]["csam"], 0.5);
    }

    #[test]
    fn flagged_says_that_a_category_is() {
        let of = |name: &str, openai: Option<&str>| Moderation {
            categories: vec![Category { name: name.into(), openai: openai.map(str::to_owned), score: 1.0, flagged: true }],
            decision: Decision::Flag,
            rule: Some("r".into()),
        };
        for (judged, flagged) in [
            (of("pii", None), false),
            (of("secrets", None), false),
            (of("threats", None), true),
            (of("project", Some("illicit")), true),
            (Moderation { decision: Decision::Block, ..of("project", None) }, false),
        ] {
            let result = ModerationResult::from(&judged);
            assert_eq!(result.flagged, flagged, "{judged:?}");
            assert_eq!(result.flagged, result.categories.values().any(|is| is.as_bool() == Some(true)), "{judged:?}");
            let ours = Moderate::new("1", "m".into(), &judged);
            assert!(ours.decision != "allow" && ours.categories.values().all(|is| is.as_bool() == Some(true)), "{ours:?}");
        }
    }

    #[test]
    fn ours() {
        let ask = |body: &str| parse::<ModerateRequest>(body.as_bytes()).and_then(ModerateRequest::into_ask);
        assert_eq!(ask(r#"{"text": "a", "role": "assistant"}"#).expect("an ask").inputs, [said(Role::Assistant, "a".into())]);
        assert_eq!(
            ask(r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#).expect("an ask").inputs[0]
                .len(),
            2
        );
        assert!(ask("{}").expect_err("nothing").message.starts_with("text: field required"));
        assert!(ask(r#"{"text": "a", "messages": []}"#).expect_err("both").message.starts_with("text: give either"));
    }
}
