//! Judging whole texts: what is asked, and what is shown to a moderation or an embedding.

use std::borrow::Cow;
use std::fmt;

use firecrest_contract::ask::{Ask, Content, RawPrompt, Role};
use serde_json::Value;

use super::classifier::{Classifier, Exchange, Medium, windows};
use super::decision::{Decision, Finding, Verdict, decide, matched, scored};
use super::normalise::tagged;
use super::rules::{Direction, Found, Policy, Scan};

/// Judges a text.
pub fn judge_text(policy: &Policy, direction: Direction, text: &str, classifier: Option<&mut dyn Classifier>) -> Verdict {
    Verdict::of(policy, text_findings(policy, direction, Medium::Text, text, classifier))
}

/// What is found in a text: by rules, also in what tag characters spell, and by the classifier.
pub(super) fn text_findings(
    policy: &Policy,
    direction: Direction,
    medium: Medium,
    text: &str,
    mut classifier: Option<&mut dyn Classifier>,
) -> Vec<Finding> {
    let matcher = policy.matcher(direction);
    let mut findings = matched(policy, direction, &Scan::whole(matcher, text));
    for text in [Some(text), tagged(text).as_deref()].into_iter().flatten() {
        if let Some(classifier) = classifier.as_deref_mut() {
            findings.extend(scores(policy, Exchange { direction, medium, question: "" }, text, classifier));
        }
    }
    if let Some(hidden) = tagged(text) {
        findings.extend(
            matched(policy, direction, &Scan::whole(matcher, &hidden)).into_iter().map(|finding| Finding { span: None, ..finding }),
        );
    }
    findings
}

/// What a classifier finds in a text of any length.
pub(super) fn scores(policy: &Policy, exchange: Exchange<'_>, text: &str, classifier: &mut dyn Classifier) -> Vec<Finding> {
    let mut findings = Vec::new();
    for window in windows(text) {
        findings.extend(scored(policy, classifier.score(window, &exchange)));
        if decide(policy, &findings).blocks() {
            break;
        }
    }
    findings
}

/// Where something was found in what is asked, as its parts count in [`Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A part of the system text.
    System {
        /// Which, from 0.
        part: usize,
    },
    /// A part of a turn.
    Turn {
        /// Which turn, from 0, the system's left out.
        turn: usize,
        /// Which of its parts, from 0.
        part: usize,
    },
    /// A tool's declaration.
    Tool(usize),
    /// A prompt without turns.
    Raw(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::System { part } => write!(f, "system.{part}"),
            Place::Turn { turn, part } => write!(f, "messages.{turn}.content.{part}"),
            Place::Tool(tool) => write!(f, "tools.{tool}"),
            Place::Raw(prompt) => write!(f, "prompt.{prompt}"),
        }
    }
}

/// Whether something may be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct InputVerdict {
    /// The outcome.
    pub decision: Decision,
    /// The part that decided.
    pub place: Option<Place>,
    /// All that was found, and where.
    pub findings: Vec<(Place, Finding)>,
}

/// Judges what is asked: every text that a model would read, whoever is said to have written it. Parts of a turn are judged alone and
/// as one text, because a template may put them side by side.
pub fn judge_input(policy: &Policy, ask: &Ask, mut classifier: Option<&mut dyn Classifier>) -> InputVerdict {
    let mut found: Vec<(Place, Finding)> = Vec::new();
    let mut number = 0;
    for turn in &ask.turns {
        let place = |part| match turn.role {
            Role::System => Place::System { part },
            Role::User | Role::Assistant => Place::Turn { turn: number, part },
        };
        for (index, part) in turn.parts.iter().enumerate() {
            for (medium, text) in texts(&part.content) {
                let findings = text_findings(policy, Direction::Input, medium, &text, reborrow(&mut classifier));
                found.extend(findings.into_iter().map(|finding| (place(index), finding)));
            }
        }
        found.extend(joined(policy, turn.parts.iter().map(|part| &part.content)).into_iter().map(|(part, finding)| (place(part), finding)));
        number += usize::from(turn.role != Role::System);
    }
    for (index, prompt) in ask.raw.iter().enumerate() {
        // Ids of tokens are no text to anybody but their model: what comes of them is judged as output.
        let RawPrompt::Text(text) = prompt else { continue };
        let findings = text_findings(policy, Direction::Input, Medium::Text, text, reborrow(&mut classifier));
        found.extend(findings.into_iter().map(|finding| (Place::Raw(index), finding)));
    }
    for (index, tool) in ask.tools.iter().enumerate() {
        let mut texts = vec![tool.name.clone()];
        texts.extend(tool.description.clone());
        value_strings(&tool.schema, &mut texts);
        for text in texts {
            let findings = text_findings(policy, Direction::Input, Medium::Text, &text, reborrow(&mut classifier));
            found.extend(findings.into_iter().map(|finding| (Place::Tool(index), finding)));
        }
    }
    let findings: Vec<Finding> = found.iter().map(|(_, finding)| finding.clone()).collect();
    let decision = decide(policy, &findings);
    let place = found.iter().find(|(_, finding)| finding.action == decision.action).map(|(place, _)| *place);
    InputVerdict { decision, place, findings: found }
}

fn reborrow<'a>(classifier: &'a mut Option<&mut dyn Classifier>) -> Option<&'a mut dyn Classifier> {
    match classifier {
        Some(classifier) => Some(&mut **classifier),
        None => None,
    }
}

/// The texts of a part.
fn texts(content: &Content) -> Vec<(Medium, Cow<'_, str>)> {
    match content {
        Content::Text(text) => vec![(Medium::Text, text.into())],
        Content::Thinking { text, .. } => vec![(Medium::Thinking, text.into())],
        Content::Document { title, context, text } => {
            [title.as_ref(), context.as_ref(), Some(text)].into_iter().flatten().map(|text| (Medium::Text, text.into())).collect()
        }
        Content::ToolUse { name, input, .. } => {
            let mut strings = vec![name.clone()];
            value_strings(input, &mut strings);
            // What a model reads is the JSON's text, where numbers stand too.
            strings.push(input.to_string());
            strings.into_iter().map(|text| (Medium::Arguments, text.into())).collect()
        }
        Content::ToolResult { text, .. } => vec![(Medium::Text, text.into())],
        Content::Beyond => Vec::new(),
    }
}

/// What only shows where a turn's parts stand side by side, by the part where it begins.
fn joined<'a>(policy: &Policy, parts: impl Iterator<Item = &'a Content>) -> Vec<(usize, Finding)> {
    let matcher = policy.matcher(Direction::Input);
    let (mut scan, mut found, mut hits, mut borders) = (Scan::new(matcher), Found::default(), Vec::new(), Vec::new());
    let mut at = 0u64;
    for (index, content) in parts.enumerate() {
        let (Content::Text(text) | Content::Document { text, .. } | Content::ToolResult { text, .. }) = content else { continue };
        borders.push((index, at));
        for c in text.chars() {
            let end = at + c.len_utf8() as u64;
            scan.push(matcher, c, at, end, &mut hits);
            // What lies in one part was found there.
            hits.retain(|hit| borders.iter().rev().take(1).all(|(_, border)| hit.start < *border));
            found.take(&mut hits);
            at = end;
        }
    }
    scan.finish(matcher, &mut hits);
    hits.retain(|hit| borders.iter().rev().take(1).all(|(_, border)| hit.start < *border));
    found.take(&mut hits);
    let part = |start: u64| borders.iter().rev().find(|(_, border)| *border <= start).map_or(0, |(part, _)| *part);
    let places: Vec<usize> = found.hits.iter().map(|hit| part(hit.start)).collect();
    let findings = matched(policy, Direction::Input, &found.hits).into_iter().map(|finding| Finding { span: None, ..finding });
    places.into_iter().zip(findings).collect()
}

/// Keys and strings of a value, without recursion: it may be as deep as a body may.
fn value_strings(value: &Value, into: &mut Vec<String>) {
    let mut left = vec![value];
    while let Some(value) = left.pop() {
        match value {
            Value::String(text) => into.push(text.clone()),
            Value::Array(items) => left.extend(items.iter().rev()),
            Value::Object(members) => {
                into.extend(members.keys().cloned());
                left.extend(members.values().rev());
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}
