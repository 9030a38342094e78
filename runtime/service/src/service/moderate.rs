//! Judgements of text: by the same rules that judge what is asked and answered here.

use std::sync::Arc;

use bytes::Bytes;
use firecrest_contract::ask::{Content, Role, Turn};
use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::moderation::{Category, Decision, ModerateAsk, Moderation};
use firecrest_contract::openai::moderations::{Moderate, ModerateRequest, Moderations, Request};
use firecrest_policy::safety::decision::{Action, By, Finding, decide};
use firecrest_policy::safety::judge::{judge_text, judge_turns};
use firecrest_policy::safety::rules::{Direction, Policy};

use super::{Exchange, Outcomes, Service};
use crate::host::Host;

impl<H: Host> Service<H> {
    pub(super) async fn moderations(&self, exchange: &mut Exchange<H>, body: &Bytes) -> Outcomes {
        let ask = self.read(exchange, body, Request::into_ask).await?;
        let ask = refusable(exchange, ask, self.options.lenient)?;
        let judged = self.judged(exchange, body.len(), ask).await?;
        let id = exchange.ledger.id().to_string();
        exchange.json(&Moderations::new(&id, self.judge_name(), &judged))
    }

    pub(super) async fn moderate(&self, exchange: &mut Exchange<H>, body: &Bytes) -> Outcomes {
        let ask = self.read(exchange, body, ModerateRequest::into_ask).await?;
        let ask = refusable(exchange, ask, self.options.lenient)?;
        let judged = self.judged(exchange, body.len(), ask).await?;
        let Some(judged) = judged.first() else { return Err(ApiError::new(ErrorKind::Api, "nothing was judged")) };
        let id = exchange.ledger.id().to_string();
        exchange.json(&Moderate::new(&id, self.judge_name(), judged))
    }

    /// What judged, with the revision of its rules.
    fn judge_name(&self) -> String {
        format!("firecrest-rules-{}", self.options.safety.revisions().join("+"))
    }

    /// Judges each input of what came in so many bytes.
    async fn judged(&self, exchange: &Exchange<H>, bytes: usize, ask: ModerateAsk) -> Result<Vec<Moderation>, ApiError> {
        let policy = Arc::clone(&self.options.safety);
        exchange.aside.run(bytes, move || ask.inputs.iter().map(|turns| judge(&policy, turns)).collect()).await
    }
}

fn judge(policy: &Policy, turns: &[Turn]) -> Moderation {
    let name = |category: &firecrest_policy::safety::rules::Category| Category {
        name: category.id.clone(),
        openai: category.openai.clone(),
        score: 0.0,
        flagged: false,
    };
    let mut categories: Vec<Category> = policy.categories().iter().map(name).collect();
    let mut findings: Vec<Finding> = Vec::new();
    for turn in turns.iter().filter(|turn| turn.role == Role::Assistant) {
        for text in turn.parts.iter().filter_map(|part| spoken(&part.content)) {
            findings.extend(judge_text(policy, Direction::Output, text, None).findings);
        }
    }
    let asked = judge_turns(policy, turns.iter().filter(|turn| turn.role != Role::Assistant));
    findings.extend(asked.findings.into_iter().map(|(_, finding)| finding));
    for finding in &findings {
        let Some(category) = categories.iter_mut().find(|category| Some(&category.name) == finding.category.as_ref()) else {
            continue;
        };
        let score = match finding.by {
            By::Score(score) => score,
            By::Rule(_) | By::Fault(_) => 1.0,
        };
        category.score = category.score.max(score);
        category.flagged |= finding.action > Action::Pass;
    }
    let decided = decide(policy, &findings);
    let decision = match decided.action {
        Action::Pass => Decision::Allow,
        Action::Flag => Decision::Flag,
        Action::Block => Decision::Block,
    };
    Moderation { categories, decision, rule: decided.rule }
}

/// What is asked, if nothing of it is beyond what is judged here.
fn refusable<H: Host>(exchange: &mut Exchange<H>, ask: ModerateAsk, lenient: bool) -> Result<ModerateAsk, ApiError> {
    if let Some(first) = ask.beyond.iter().find(|beyond| !beyond.hint) {
        return Err(ApiError::invalid(&first.path, &first.why));
    }
    exchange.drop_hints(&ask.beyond, lenient)?;
    Ok(ask)
}

/// The text of a part, where it has any.
fn spoken(content: &Content) -> Option<&str> {
    match content {
        Content::Text(text) | Content::Thinking { text, .. } | Content::Document { text, .. } | Content::ToolResult { text, .. } => {
            Some(text)
        }
        Content::ToolUse { .. } | Content::Beyond => None,
    }
}
