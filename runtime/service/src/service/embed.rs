//! Vectors.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use firecrest_contract::ask::ServiceTier;
use firecrest_contract::error::ApiError;
use firecrest_contract::event::Usage;
use firecrest_contract::openai::embeddings;
use firecrest_policy::limits::{Exactness, Price};

use super::{Exchange, Outcomes, Service};
use crate::backend::{AT_ONCE, Backend, Owner};
use crate::host::{Host, Principal};
use crate::lease::Lease;

impl<H: Host> Service<H> {
    pub(super) async fn embeddings(&self, exchange: &mut Exchange<H>, principal: &Rc<Principal>, body: &Bytes) -> Outcomes {
        let read = self.read(exchange, body, |params: embeddings::Request| {
            let encoding = params.encoding_format.unwrap_or_default();
            Ok((encoding, Arc::new(params.into_ask()?)))
        });
        let (encoding, ask) = read.await?;
        if let Some(first) = ask.beyond.iter().find(|beyond| !beyond.hint) {
            return Err(ApiError::invalid(&first.path, &first.why));
        }
        exchange.drop_hints(&ask.beyond, self.options.lenient)?;
        let (model, backend) = self.backend(&ask.model).await?;
        let place = self.options.lanes.place(principal.class, ServiceTier::Auto);
        let lane = place.lane.index();
        exchange.ledger.runs(&model, lane);
        let since = exchange.ledger.now();
        let tokens = backend.embed_price(&ask, &exchange.aside).await?;
        let price = Price { input: tokens, exactness: Exactness::Exact, output_cap: 0 };
        let opened = Lease::open(&self.host, principal, price, 1).await.map_err(|denial| exchange.denied(denial))?;
        exchange.levels(&opened.levels);
        let _turn = self.turn(&backend, &model, &principal.key, &place, AT_ONCE.min(ask.inputs.len() as u32))?;
        let asked = ask.model.clone();
        let mut lease = opened.lease;
        // For as long as it runs: it is dropped with the request, and nothing else bounds that.
        lease.look_after(price, self.options.when_dry, 1, Duration::MAX);
        lease.begins();
        let owner = Owner::of(&principal.key);
        let embedded = backend.embed(ask, lane, owner, &exchange.aside).await.inspect_err(|_| lease.unused())?;
        exchange.ledger.waited_since(since);
        lease.used(Usage { input: embedded.tokens, ..Usage::default() });
        exchange.json(&embeddings::Embeddings::new(asked, embedded, encoding))
    }
}
