//! Models, limits, and what only an administrator may do.

use firecrest_contract::ask::Dialect;
use firecrest_contract::error::{ApiError, ErrorKind, shown};
use firecrest_contract::{messages, openai};
use firecrest_policy::limits::rfc3339;
use serde_json::json;

use super::{Exchange, Outcomes, Service};
use crate::host::{Host, ModelCard, Principal};

/// Models that a page shows if the caller does not say, and at most.
const PAGE: usize = 20;
const MOST: usize = 1000;

impl<H: Host> Service<H> {
    pub(super) fn model_list(&self, exchange: &mut Exchange<H>, query: Option<&str>) -> Outcomes {
        let cards = self.host.models();
        if exchange.dialect == Dialect::OpenAi {
            return exchange.json(&openai::models::Models::new(cards.iter().map(openai_model).collect()));
        }
        let (page, more) = page(cards, query.unwrap_or_default())?;
        exchange.json(&messages::ModelPage::new(page.iter().map(model_info).collect(), more))
    }

    pub(super) fn model(&self, exchange: &mut Exchange<H>, name: &str) -> Outcomes {
        let id = self.alias(name);
        let card = self.host.models().into_iter().find(|card| card.id == id).ok_or_else(|| self.no_model(name))?;
        match exchange.dialect {
            Dialect::OpenAi => exchange.json(&openai_model(&card)),
            Dialect::Messages(_) => exchange.json(&model_info(&card)),
        }
    }

    fn no_model(&self, name: &str) -> ApiError {
        let known: Vec<String> = self.host.models().into_iter().take(8).map(|card| card.id).collect();
        ApiError::new(ErrorKind::NotFound, format!("model: {} is not served here; there are: {}", shown(name), known.join(", ")))
            .at("model")
    }

    pub(super) fn rate_limits(&self, exchange: &mut Exchange<H>, principal: &Principal) -> Outcomes {
        let limits = &principal.limits;
        let named = [
            ("requests_per_minute", limits.requests),
            ("input_tokens_per_minute_cache_aware", limits.input),
            ("output_tokens_per_minute", limits.output),
        ];
        let values = named
            .into_iter()
            .filter_map(|(name, limit)| Some(messages::RateLimitValue { r#type: name.to_owned(), value: limit?.a_minute() }));
        let group = messages::RateLimitGroup::ModelGroup { id: "all".to_owned(), display_name: "All models".to_owned() };
        let limit = messages::RateLimit {
            id: format!("rl_{}", principal.key),
            r#type: messages::RateLimitTag::RateLimit,
            group,
            limits: values.collect(),
            models: Some(self.host.models().into_iter().map(|card| card.id).collect()),
        };
        let data = if limit.limits.is_empty() { Vec::new() } else { vec![limit] };
        exchange.json(&messages::RateLimitPage { data, next_page: None })
    }

    pub(super) async fn admin(&self, exchange: &mut Exchange<H>, principal: &Principal, model: &str, load: bool) -> Outcomes {
        if !principal.admin {
            return Err(ApiError::new(
                ErrorKind::Permission,
                "this key may not load or unload models; make one with `keys create --admin`",
            ));
        }
        if load {
            self.host.open(self.alias(model)).await?;
        } else {
            self.host.unload(self.alias(model)).await?;
        }
        exchange.json(&json!({ "model": model, "loaded": load }))
    }
}

fn openai_model(card: &ModelCard) -> openai::models::Model {
    openai::models::Model::new(card.id.clone(), card.created, "firecrest")
}

fn model_info(card: &ModelCard) -> messages::ModelInfo {
    let abilities = messages::Abilities { thinking: card.abilities.thinks, structured_outputs: card.abilities.generates, batch: false };
    messages::ModelInfo {
        id: card.id.clone(),
        r#type: messages::ModelTag::Model,
        display_name: card.display_name.clone(),
        created_at: rfc3339(card.created.saturating_mul(1000)),
        lifecycle: messages::Lifecycle::Active,
        line: None,
        max_input_tokens: card.context,
        max_tokens: card.context,
        deprecated_at: None,
        retires_at: None,
        capabilities: Some(messages::ModelCapabilities::new(abilities)),
    }
}

/// What `limit`, `after_id` and `before_id` ask for, and whether there is more that way.
fn page(cards: Vec<ModelCard>, query: &str) -> Result<(Vec<ModelCard>, bool), ApiError> {
    let (mut limit, mut from, mut to) = (PAGE, 0, cards.len());
    let mut backwards = false;
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let at = |id: &str| {
            let found = cards.iter().position(|card| card.id == id);
            found.ok_or_else(|| ApiError::invalid(name, format!("there is no model {}", shown(id))))
        };
        match name {
            "limit" => {
                let asked = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                limit = asked.ok_or_else(|| ApiError::invalid("limit", format!("it is a number from 1 to {MOST}")))?;
            }
            "after_id" => from = at(value)? + 1,
            "before_id" => (to, backwards) = (at(value)?, true),
            _ => {}
        }
    }
    let there = to.saturating_sub(from);
    let (start, count) = if backwards { (to - there.min(limit), there.min(limit)) } else { (from, there.min(limit)) };
    Ok((cards.into_iter().skip(start).take(count).collect(), there > limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Abilities;

    fn cards(count: usize) -> Vec<ModelCard> {
        let card = |n: usize| ModelCard {
            id: format!("m{n}"),
            display_name: String::new(),
            created: 0,
            context: None,
            abilities: Abilities::default(),
            loaded: false,
        };
        (0..count).map(card).collect()
    }

    fn shown(query: &str) -> (Vec<String>, bool) {
        let (page, more) = page(cards(30), query).expect("a page");
        (page.into_iter().map(|card| card.id).collect(), more)
    }

    #[test]
    fn pages() {
        assert_eq!(shown("").0.len(), 20);
        assert!(shown("").1 && !shown("limit=1000").1);
        assert_eq!(shown("limit=2&after_id=m3"), (vec!["m4".into(), "m5".into()], true));
        assert_eq!(shown("before_id=m3&limit=2"), (vec!["m1".into(), "m2".into()], true));
        assert_eq!(shown("before_id=m0"), (vec![], false));
        assert_eq!(shown("after_id=m29"), (vec![], false));
        for wrong in ["limit=0", "limit=x", "after_id=nobody"] {
            assert!(page(cards(3), wrong).is_err(), "{wrong}");
        }
    }
}
