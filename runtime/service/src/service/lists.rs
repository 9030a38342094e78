//! Models, limits, and what only an administrator may do.

use firecrest_contract::ask::Dialect;
use firecrest_contract::error::{ApiError, ErrorKind, shown};
use firecrest_contract::{messages, openai};
use firecrest_policy::limits::rfc3339;
use serde_json::{Value, json};

use super::{Exchange, Outcomes, Service};
use crate::host::{Host, ModelCard, Principal};
use crate::route::decoded;

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
        let beta = exchange.beta;
        exchange.json(&messages::ModelPage::new(page.iter().map(|card| model_info(card, beta)).collect(), more))
    }

    pub(super) fn model(&self, exchange: &mut Exchange<H>, name: &str) -> Outcomes {
        let id = self.alias(name);
        let card = self.host.models().into_iter().find(|card| card.id == id).ok_or_else(|| self.no_model(name))?;
        let beta = exchange.beta;
        match exchange.dialect {
            Dialect::OpenAi => exchange.json(&openai_model(&card)),
            Dialect::Messages(_) => exchange.json(&model_info(&card, beta)),
        }
    }

    fn no_model(&self, name: &str) -> ApiError {
        let known: Vec<String> = self.host.models().into_iter().take(8).map(|card| card.id).collect();
        ApiError::new(ErrorKind::NotFound, format!("model: {} is not served here; there are: {}", shown(name), known.join(", ")))
            .at("model")
            .code("model_not_found")
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

/// A model as the Messages API tells it. `beta`: in the beta's shape.
fn model_info(card: &ModelCard, beta: bool) -> messages::ModelInfo {
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
        capabilities: Some(messages::ModelCapabilities::new(abilities, beta)),
        allowed_fallback_models: beta.then_some(Value::Null),
    }
}

/// A part of a query with its `%` codes read. `+` is a space there.
fn queried(part: &str) -> Option<String> {
    decoded(&part.replace('+', " "))
}

/// What `limit`, `after_id` and `before_id` ask for, and whether there is more that way.
fn page(cards: Vec<ModelCard>, query: &str) -> Result<(Vec<ModelCard>, bool), ApiError> {
    let (mut limit, mut from, mut to) = (PAGE, 0, cards.len());
    let mut backwards = false;
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let Some(name) = queried(name) else { continue };
        let name = name.as_str();
        let read = || queried(value).ok_or_else(|| ApiError::invalid(name, "it is empty, or its `%` codes are no text"));
        let at = |id: String| {
            let found = cards.iter().position(|card| card.id == id);
            found.ok_or_else(|| ApiError::invalid(name, format!("there is no model {}", shown(&id))))
        };
        match name {
            "limit" => {
                let asked = read()?.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                limit = asked.ok_or_else(|| ApiError::invalid("limit", format!("it is a number from 1 to {MOST}")))?;
            }
            "after_id" => from = at(read()?)? + 1,
            "before_id" => (to, backwards) = (at(read()?)?, true),
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
        for wrong in ["limit=0", "limit=x", "limit=", "after_id=nobody", "after_id=%zz", "after_id=%ff", "after_id="] {
            assert!(page(cards(3), wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        assert_eq!(shown("limit=%31&after_id=m%33"), (vec!["m4".into()], true));
        assert_eq!(shown("%6Cimit=1").0.len(), 1);
        assert_eq!(shown("beta=true&other=%zz&limit=1").0, ["m0"]);
        let mut named = cards(3);
        (named[0].id, named[1].id) = ("org/one".to_owned(), "a b+c".to_owned());
        let after = |query: &str| page(named.clone(), query).expect("a page").0.into_iter().map(|card| card.id).collect::<Vec<_>>();
        assert_eq!(after("after_id=org%2Fone"), ["a b+c", "m2"]);
        assert_eq!(after("after_id=org/one&limit=1"), ["a b+c"]);
        assert_eq!(after("after_id=a+b%2Bc"), ["m2"]);
    }

    /// The beta's types have two members more.
    #[test]
    fn a_model_in_either_shape() {
        let model = |beta| serde_json::to_value(model_info(&cards(1)[0], beta)).expect("JSON");
        let (plain, beta) = (model(false), model(true));
        assert_eq!((beta.get("allowed_fallback_models"), beta["capabilities"].get("compaction")), (Some(&Value::Null), Some(&Value::Null)));
        assert_eq!((plain.get("allowed_fallback_models"), plain["capabilities"].get("compaction")), (None, None));
        for shape in [plain, beta] {
            let read: messages::ModelInfo = serde_json::from_value(shape.clone()).expect("a model");
            assert_eq!(serde_json::to_value(read).expect("JSON"), shape);
        }
    }
}
