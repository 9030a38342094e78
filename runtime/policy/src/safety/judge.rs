//! Judging whole texts: what is asked, and what is shown to a moderation or an embedding.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fmt;

use firecrest_contract::ask::{Ask, Content, Role, Turn};
use serde_json::Value;

use super::classifier::{Classifier, Exchange, Medium, windows};
use super::decision::{Action, By, Decision, Finding, Verdict, decide, found, matched, scored};
use super::normalise::{Blanks, ambiguous, tagged};
use super::rules::{Direction, Hit, Policy, Rule, Scan, Severity, Speaker};

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
    let mut findings: Vec<Finding> = Vec::new();
    for blanks in readings(ambiguous(text)) {
        let found = matched(policy, direction, &Scan::whole_as(matcher, text, blanks));
        findings.extend(found.into_iter().filter(|new| !findings.iter().any(|known| known.by == new.by)).collect::<Vec<_>>());
    }
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
    Prompt(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::System { part } => write!(f, "system.{part}"),
            Place::Turn { turn, part } => write!(f, "messages.{turn}.content.{part}"),
            Place::Tool(tool) => write!(f, "tools.{tool}"),
            Place::Prompt(prompt) => write!(f, "prompt.{prompt}"),
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

/// What a prompt without turns says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromptText {
    /// All of it, control tokens written out.
    pub text: String,
    /// The texts between its control tokens, in order. Empty if it has none.
    pub pieces: Vec<String>,
}

impl From<String> for PromptText {
    fn from(text: String) -> PromptText {
        PromptText { text, pieces: Vec::new() }
    }
}

/// Judges what is asked: every text that a model would read, whoever is said to have written it, in every way in which a template may put texts
/// side by side. `prompts` are the texts of [`Ask::raw`], of which ids say nothing by themselves: where one
/// is missing nothing passes.
pub fn judge_input(policy: &Policy, ask: &Ask, prompts: &[PromptText], mut classifier: Option<&mut dyn Classifier>) -> InputVerdict {
    let mut found: Vec<(Place, Finding)> = Vec::new();
    for (index, prompt) in prompts.iter().enumerate() {
        let findings = text_findings(policy, Direction::Input, Medium::Text, &prompt.text, reborrow(&mut classifier));
        found.extend(findings.into_iter().map(|finding| (Place::Prompt(index), finding)));
        // A model reads on over control tokens, as over the turns that they stand between.
        let said = |text| Said { text: Cow::Borrowed(text), own: true, ..Said::new(Place::Prompt(index), Speaker::User, 1) };
        let said: Vec<Said<'_>> = prompt.pieces.iter().enumerate().map(|(at, piece)| said(unheaded(piece, at))).collect();
        found.extend(judge_said(policy, &said, &mut classifier));
    }
    if prompts.len() != ask.raw.len() {
        let by = By::Fault("a prompt's text is not known".to_owned());
        found.push((Place::Prompt(prompts.len()), Finding { action: Action::Block, category: None, by, span: None }));
    }
    let mut said = Vec::new();
    for (index, tool) in ask.tools.iter().enumerate() {
        let mut texts = vec![tool.name.clone()];
        texts.extend(tool.description.clone());
        value_strings(&tool.schema, &mut texts);
        let declared = |text: String| Said { text: text.into(), ..Said::new(Place::Tool(index), Speaker::User, 0) };
        said.extend(texts.into_iter().map(declared));
    }
    said.extend(all_said(ask.turns.iter()));
    found.extend(judge_said(policy, &said, &mut classifier));
    InputVerdict::of(policy, found)
}

/// A piece without the role's name that templates write after a control token.
fn unheaded(piece: &str, at: usize) -> &str {
    const ROLES: [&str; 10] = ["system", "developer", "user", "human", "assistant", "model", "bot", "tool", "ipython", "function"];
    let (first, rest) = piece.split_once('\n').unwrap_or((piece, ""));
    if at > 0 && ROLES.contains(&first.trim()) { rest } else { piece }
}

/// Judges turns of a conversation that nobody is to go on with, as [`judge_input`] would.
pub fn judge_turns<'a>(policy: &Policy, turns: impl Iterator<Item = &'a Turn>) -> InputVerdict {
    let said = all_said(turns);
    InputVerdict::of(policy, judge_said(policy, &said, &mut None))
}

impl InputVerdict {
    fn of(policy: &Policy, findings: Vec<(Place, Finding)>) -> InputVerdict {
        let decision = decide(policy, findings.iter().map(|(_, finding)| finding));
        let place = findings.iter().find(|(_, finding)| finding.action == decision.action).map(|(place, _)| *place);
        InputVerdict { decision, place, findings }
    }
}

fn reborrow<'a>(classifier: &'a mut Option<&mut dyn Classifier>) -> Option<&'a mut dyn Classifier> {
    match classifier {
        Some(classifier) => Some(&mut **classifier),
        None => None,
    }
}

/// A text of what is asked.
#[derive(Clone)]
struct Said<'a> {
    place: Place,
    speaker: Speaker,
    medium: Medium,
    /// Which side's words it is among, counted from 1: those that are side by side are one message to some templates. 0: it stands alone.
    side: usize,
    /// The user's own words, not a document or what a tool gave.
    own: bool,
    text: Cow<'a, str>,
}

impl<'a> Said<'a> {
    fn new(place: Place, speaker: Speaker, side: usize) -> Said<'a> {
        Said { place, speaker, medium: Medium::Text, side, own: false, text: Cow::Borrowed("") }
    }
}

/// The texts of turns, in order.
fn all_said<'a>(turns: impl Iterator<Item = &'a Turn>) -> Vec<Said<'a>> {
    let turns: Vec<&Turn> = turns.collect();
    let mut said = Vec::new();
    let newest = newest(&turns);
    let (mut number, mut side, mut before) = (0, 0, None);
    for (at, turn) in turns.iter().enumerate() {
        side += usize::from(before != Some(turn.role));
        before = Some(turn.role);
        for (part, content) in turn.parts.iter().map(|part| &part.content).enumerate() {
            let place = match turn.role {
                Role::System => Place::System { part },
                Role::User | Role::Assistant => Place::Turn { turn: number, part },
            };
            let speaker = match (turn.role, content) {
                (Role::System, _) => Speaker::System,
                // An answer that is begun is what the caller wants said.
                (Role::Assistant, _) if at + 1 == turns.len() => Speaker::User,
                (_, Content::ToolUse { .. } | Content::ToolResult { .. }) => Speaker::Tool,
                (Role::Assistant, _) => Speaker::Assistant,
                (Role::User, _) if at < newest => Speaker::Earlier,
                (Role::User, _) => Speaker::User,
            };
            let own = turn.role == Role::User && matches!(content, Content::Text(_));
            for (medium, text, beside) in texts(content) {
                let side = if beside { side } else { 0 };
                said.push(Said { medium, text, own, ..Said::new(place, speaker, side) });
            }
        }
        number += usize::from(turn.role != Role::System);
    }
    said
}

/// The first turn of what is asked now: the last of the user's with words of theirs, and those before it back to an answer. What tools gave
/// since is no question.
fn newest(turns: &[&Turn]) -> usize {
    let words = |turn: &&Turn| turn.parts.iter().any(|part| matches!(part.content, Content::Text(_) | Content::Document { .. }));
    let last = turns.iter().rposition(|turn| turn.role == Role::User && words(turn));
    let before = turns.get(..last.unwrap_or(0)).unwrap_or_default();
    before.iter().rposition(|turn| turn.role == Role::Assistant).map_or(0, |answer| answer + 1)
}

/// The texts of a part, and whether each may stand beside the parts around it with nothing between.
fn texts(content: &Content) -> Vec<(Medium, Cow<'_, str>, bool)> {
    match content {
        Content::Text(text) => vec![(Medium::Text, text.into(), true)],
        Content::Thinking { text, .. } => vec![(Medium::Thinking, text.into(), false)],
        Content::Document { title, context, text } => {
            let about = [title.as_ref(), context.as_ref()].into_iter().flatten().map(|text| (Medium::Text, text.into(), false));
            about.chain([(Medium::Text, text.into(), true)]).collect()
        }
        Content::ToolUse { id, name, input } => {
            let mut strings = vec![id.clone(), name.clone()];
            value_strings(input, &mut strings);
            // What a model reads is the JSON's text, where numbers stand too.
            strings.push(input.to_string());
            strings.into_iter().map(|text| (Medium::Arguments, text.into(), false)).collect()
        }
        Content::ToolResult { id, text, .. } => vec![(Medium::Text, id.into(), false), (Medium::Text, text.into(), true)],
        Content::Beyond => Vec::new(),
    }
}

/// Judges texts as they may stand together in a prompt: in order, each a space from the next; what the user says without what stands between, since
/// a model reads on over it; system text before the last turn, where some templates put it; and one side's with nothing between.
fn judge_said(policy: &Policy, said: &[Said<'_>], classifier: &mut Option<&mut dyn Classifier>) -> Vec<(Place, Finding)> {
    let all: Vec<&Said<'_>> = said.iter().collect();
    let mut found = Found::new(said);
    found.search(policy, &all, true);
    let own: Vec<&Said<'_>> = said.iter().filter(|said| said.own).collect();
    let gaps = said.iter().skip_while(|said| !said.own).skip_while(|said| said.own).any(|said| said.own);
    if gaps {
        found.search(policy, &own, true);
        let last = own.last().map(|said| said.side);
        let led = said.iter().filter(|said| said.side > 0 && (said.speaker == Speaker::System || (said.own && Some(said.side) == last)));
        let led: Vec<&Said<'_>> = led.collect();
        if led.first().is_some_and(|said| said.speaker == Speaker::System) {
            found.search(policy, &led, true);
        }
    }
    let beside: Vec<&Said<'_>> = said.iter().filter(|said| said.side > 0).collect();
    for side in beside.chunk_by(|a, b| a.side == b.side).filter(|side| side.len() > 1) {
        found.search(policy, side, false);
        if beside.len() < said.len() {
            // Ids and titles stood between.
            found.search(policy, side, true);
        }
    }
    if said.iter().any(|said| tagged(&said.text).is_some()) {
        let hidden = said.iter().filter_map(|said| Some(Said { text: tagged(&said.text)?.into(), ..said.clone() }));
        let hidden: Vec<Said<'_>> = hidden.collect();
        found.search(policy, &hidden.iter().collect::<Vec<_>>(), true);
        found.findings.iter_mut().filter(|(place, _)| hidden.iter().any(|said| said.place == *place)).for_each(|(_, f)| f.span = None);
    }
    let mut findings = found.findings;
    if classifier.is_some() {
        for said in said {
            let exchange = Exchange { direction: Direction::Input, medium: said.medium, question: "" };
            for text in [Some(said.text.as_ref()), tagged(&said.text).as_deref()].into_iter().flatten() {
                if let Some(classifier) = reborrow(classifier) {
                    findings.extend(scores(policy, exchange, text, classifier).into_iter().map(|finding| (said.place, finding)));
                }
            }
        }
    }
    findings
}

/// How a text is read that holds characters which are a space or nothing, such that take room and such that take none.
fn readings((room, none): (bool, bool)) -> impl Iterator<Item = Blanks> {
    [Some(Blanks::AsSeen), room.then_some(Blanks::Nothing), none.then_some(Blanks::Spaces)].into_iter().flatten()
}

/// What rules find in what is asked: of each rule the first match of each severity.
struct Found<'a> {
    said: &'a [Said<'a>],
    /// Whether the newest turn asks for what stands elsewhere, once somebody wants to know.
    refers: OnceCell<bool>,
    seen: BTreeSet<(usize, Severity)>,
    findings: Vec<(Place, Finding)>,
}

impl<'a> Found<'a> {
    fn new(said: &'a [Said<'a>]) -> Found<'a> {
        Found { said, refers: OnceCell::new(), seen: BTreeSet::new(), findings: Vec::new() }
    }

    /// What follows from a rule's match in a text. Where the newest turn has no words or asks for what stands elsewhere, all is the user's.
    fn severity(&self, policy: &Policy, rule: &Rule, said: &Said<'_>) -> Severity {
        let severity = rule.input_of(said.speaker);
        let refers = || {
            let now = self.said.iter().filter(|said| said.side > 0 && said.speaker == Speaker::User);
            let worded = now.clone().any(|said| said.text.chars().any(char::is_alphanumeric));
            let begun = |place| matches!(self.said.last(), Some(last) if last.place == place);
            let words: Vec<&str> = now.filter(|said| said.own || begun(said.place)).map(|said| said.text.as_ref()).collect();
            !worded || policy.refers(&words.join(" "))
        };
        if severity < rule.input && *self.refers.get_or_init(refers) { rule.input } else { severity }
    }

    /// Searches texts that stand side by side, `apart`: with a space between.
    fn search(&mut self, policy: &Policy, said: &[&Said<'_>], apart: bool) {
        let found = said.iter().map(|said| ambiguous(&said.text)).fold((false, false), |all, one| (all.0 | one.0, all.1 | one.1));
        for blanks in readings(found) {
            self.search_as(policy, said, apart, blanks);
        }
    }

    fn search_as(&mut self, policy: &Policy, said: &[&Said<'_>], apart: bool, blanks: Blanks) {
        let matcher = policy.matcher(Direction::Input);
        let (mut scan, mut hits) = (Scan::reading(matcher, blanks), Vec::new());
        // Where each text begins and ends.
        let mut bounds: Vec<(u64, u64)> = Vec::with_capacity(said.len());
        let mut at = 0u64;
        for one in said {
            let start = at;
            scan.edge(at);
            for c in one.text.chars() {
                let end = at + c.len_utf8() as u64;
                scan.push(matcher, c, at, end, &mut hits);
                at = end;
            }
            bounds.push((start, at));
            self.take(policy, said, &bounds, &mut hits);
            if apart {
                scan.edge(at);
                scan.push(matcher, ' ', at, at + 1, &mut hits);
                at += 1;
            }
        }
        scan.finish(matcher, &mut hits);
        self.take(policy, said, &bounds, &mut hits);
    }

    fn take(&mut self, policy: &Policy, said: &[&Said<'_>], bounds: &[(u64, u64)], hits: &mut Vec<Hit>) {
        for hit in hits.drain(..) {
            let first = bounds.partition_point(|(_, end)| *end <= hit.start);
            let last = bounds.partition_point(|(start, _)| *start < hit.end).saturating_sub(1).max(first);
            let Some(spoken) = said.get(first..=last) else { continue };
            // What several say together is the gravest's.
            let rule = policy.rules().get(hit.rule);
            let severity = |said: &&Said<'_>| rule.map_or(Severity::Off, |rule| self.severity(policy, rule, said));
            let Some(severity) = spoken.iter().map(severity).max() else { continue };
            let (Some(one), Some((start, end))) = (spoken.first(), bounds.get(first)) else { continue };
            if severity == Severity::Off || !self.seen.insert((hit.rule, severity)) {
                continue;
            }
            let span = (hit.end <= *end).then(|| (hit.start.saturating_sub(*start), hit.end.saturating_sub(*start)));
            self.findings.extend(found(policy, &hit, severity).map(|finding| (one.place, Finding { span, ..finding })));
        }
    }
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
