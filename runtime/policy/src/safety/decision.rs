//! What follows from matches and scores.

use serde::Deserialize;

use super::classifier::{ClassifierFault, Scores};
use super::rules::{Direction, Hit, Policy, Severity};
use crate::safety::rules::Category;
use firecrest_contract::event::Refusal;

/// What a classifier's scores of a category mean. Without thresholds they mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// From here on it is told.
    pub flag: Option<f32>,
    /// From here on it does not pass.
    pub block: Option<f32>,
    /// What follows where the classifier fails: `block`, the default, or `flag`.
    #[serde(default = "closed")]
    pub on_fault: Severity,
}

fn closed() -> Severity {
    Severity::Block
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds { flag: None, block: None, on_fault: Severity::Block }
    }
}

impl Thresholds {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.flag.iter().chain(&self.block).any(|t| !(0.0..=1.0).contains(t)) {
            return Err("thresholds of scores lie between 0 and 1".to_owned());
        }
        if self.on_fault == Severity::Off {
            return Err("`on_fault` is `block` or `flag`: what could not be scored never passes untold".to_owned());
        }
        Ok(())
    }

    fn severity(&self, score: f32) -> Severity {
        if self.block.is_some_and(|threshold| score >= threshold) {
            Severity::Block
        } else if self.flag.is_some_and(|threshold| score >= threshold) {
            Severity::Flag
        } else {
            Severity::Off
        }
    }
}

/// What happens to a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// It passes.
    Pass,
    /// It passes, and is told of.
    Flag,
    /// It does not pass.
    Block,
}

impl Action {
    /// As records say it.
    pub const fn name(self) -> &'static str {
        match self {
            Action::Pass => "pass",
            Action::Flag => "flag",
            Action::Block => "block",
        }
    }
}

impl From<Severity> for Action {
    fn from(severity: Severity) -> Action {
        match severity {
            Severity::Off => Action::Pass,
            Severity::Flag => Action::Flag,
            Severity::Block => Action::Block,
        }
    }
}

/// Something that was found in a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What follows.
    pub action: Action,
    /// The category's id; `None` where something failed.
    pub category: Option<String>,
    /// What found it.
    pub by: By,
    /// Its bytes in the raw text, where a rule matched.
    pub span: Option<(u64, u64)>,
}

/// What found something.
#[derive(Clone, Debug, PartialEq)]
pub enum By {
    /// A rule, by its id.
    Rule(String),
    /// A classifier, with this score.
    Score(f32),
    /// Nothing: this went wrong, and what was not judged does not pass.
    Fault(String),
}

/// The outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happens.
    pub action: Action,
    /// The id of the category that decided.
    pub category: Option<String>,
    /// The id of the rule that decided.
    pub rule: Option<String>,
    /// For the caller and the audit, never what was matched. Empty where the text passes untold.
    pub explanation: String,
    /// The category's name in the contract's closed list.
    pub refusal: Option<&'static str>,
}

impl Decision {
    /// It passes.
    pub fn pass() -> Decision {
        Decision { action: Action::Pass, category: None, rule: None, explanation: String::new(), refusal: None }
    }

    /// Whether the text does not pass.
    pub fn blocks(&self) -> bool {
        self.action == Action::Block
    }

    /// As the end of an answer.
    pub fn into_refusal(self) -> Refusal {
        Refusal { category: self.refusal, explanation: self.explanation }
    }
}

/// A decision and all that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The outcome.
    pub decision: Decision,
    /// What was found: of each rule the first match, of each category the score where it means something.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// Decided by the gravest of findings, the first of several.
    pub(crate) fn of(policy: &Policy, findings: Vec<Finding>) -> Verdict {
        Verdict { decision: decide(policy, &findings), findings }
    }
}

/// The outcome of findings: the gravest decides, the first of several.
pub fn decide<'a>(policy: &Policy, findings: impl IntoIterator<Item = &'a Finding, IntoIter: DoubleEndedIterator>) -> Decision {
    // `max_by_key` takes the last of equals.
    let Some(finding) = findings.into_iter().rev().max_by_key(|finding| finding.action) else { return Decision::pass() };
    let category = finding.category.as_deref().unwrap_or_default();
    let verb = if finding.action == Action::Block { "blocked" } else { "flagged" };
    let (rule, explanation) = match &finding.by {
        By::Rule(rule) => (Some(rule.clone()), format!("{verb} by rule {rule} (category {category})")),
        By::Score(_) => (None, format!("{verb} by the classifier (category {category})")),
        By::Fault(why) => (None, format!("{verb}: the safety check could not be completed ({why})")),
    };
    let refusal = policy.categories().iter().find(|c| Some(&c.id) == finding.category.as_ref()).and_then(Category::refusal);
    Decision { action: finding.action, category: finding.category.clone(), rule, explanation, refusal }
}

/// Matches as findings.
pub(crate) fn matched(policy: &Policy, direction: Direction, hits: &[Hit]) -> Vec<Finding> {
    let severity = |hit: &Hit| policy.rules().get(hit.rule).map_or(Severity::Off, |rule| rule.severity(direction));
    hits.iter().filter_map(|hit| found(policy, hit, severity(hit))).collect()
}

/// A match as a finding of this severity.
pub(crate) fn found(policy: &Policy, hit: &Hit, severity: Severity) -> Option<Finding> {
    let rule = policy.rules().get(hit.rule)?;
    Some(Finding {
        action: severity.into(),
        category: policy.categories().get(rule.category).map(|category| category.id.clone()),
        by: By::Rule(rule.id.clone()),
        span: Some((hit.start, hit.end)),
    })
}

/// Scores as findings. What cannot be understood is a fault: a category that is not declared, a score that is no probability.
pub(crate) fn scored(policy: &Policy, scores: Result<Scores, ClassifierFault>) -> Vec<Finding> {
    let scores = scores.and_then(|scores| {
        let odd = scores.0.iter().find(|(id, score)| !(0.0..=1.0).contains(*score) || !policy.categories().iter().any(|c| c.id == **id));
        match odd {
            // The score's name is the classifier's, and may be anything.
            Some(_) => Err(ClassifierFault("the classifier's scores are not of the policy's categories, or not from 0 to 1".to_owned())),
            None => Ok(scores),
        }
    });
    match scores {
        Ok(scores) => {
            let meaning = |category: &Category| {
                let score = *scores.0.get(&category.id)?;
                let action = Action::from(category.scores.severity(score));
                (action > Action::Pass).then(|| Finding { action, category: Some(category.id.clone()), by: By::Score(score), span: None })
            };
            policy.categories().iter().filter_map(meaning).collect()
        }
        Err(fault) => {
            // One category that must be known is enough.
            let gravest = policy.categories().iter().map(|category| category.scores.on_fault).max().unwrap_or(Severity::Block);
            vec![Finding { action: gravest.into(), category: None, by: By::Fault(fault.0), span: None }]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "format = 1
        revision = ''
        [[category]]
        id = 'a'
        about = ''
        general_harms = true
        scores = { flag = 0.3, block = 0.8 }
        [[category]]
        id = 'b'
        about = ''
        scores = { flag = 0.5, on_fault = 'flag' }";

    fn policy(text: &str) -> Policy {
        Policy::load([text]).expect("rules")
    }

    fn decided(policy: &Policy, scores: &[(&str, f32)]) -> Decision {
        decide(policy, &scored(policy, Ok(Scores(scores.iter().map(|(id, score)| (id.to_string(), *score)).collect()))))
    }

    #[test]
    fn thresholds() {
        let policy = policy(RULES);
        assert_eq!(decided(&policy, &[("a", 0.2), ("b", 0.4)]), Decision::pass());
        assert_eq!(decided(&policy, &[("a", 0.3)]).action, Action::Flag);
        assert_eq!(decided(&policy, &[("b", 1.0)]).category.as_deref(), Some("b"));
        let blocked = decided(&policy, &[("a", 0.8), ("b", 1.0)]);
        assert!(blocked.blocks() && blocked.refusal == Some("general_harms"));
        assert_eq!(blocked.explanation, "blocked by the classifier (category a)");
    }

    #[test]
    fn what_fails_is_closed() {
        let strict = policy(RULES);
        let lenient = policy(&RULES.replace("block = 0.8", "block = 0.8, on_fault = 'flag'"));
        let none = policy("format = 1\nrevision = ''");
        for (policy, action) in [(&strict, Action::Block), (&lenient, Action::Flag), (&none, Action::Block)] {
            let fault = scored(policy, Err(ClassifierFault("it hangs".to_owned())));
            assert_eq!(decide(policy, &fault).action, action);
        }
        for odd in [("a", f32::NAN), ("a", 1.5), ("c", 0.1)] {
            assert!(decided(&strict, &[odd]).blocks(), "{odd:?}");
        }
    }

    #[test]
    fn thresholds_that_mean_nothing_are_refused() {
        for bad in ["flag = 1.5", "block = -0.1", "on_fault = 'off'", "blok = 0.1"] {
            let text = RULES.replace("flag = 0.5, on_fault = 'flag'", bad);
            assert!(Policy::load([text.as_str()]).is_err(), "{bad}");
        }
    }
}
