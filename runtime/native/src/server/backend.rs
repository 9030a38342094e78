//! What can answer here: a closed set.

use std::sync::Arc;

use firecrest_contract::ask::{Ask, Beyond};
use firecrest_contract::embed::{EmbedAsk, Embedded};
use firecrest_contract::error::ApiError;
use firecrest_policy::limits::Price;
use firecrest_policy::safety::judge::PromptText;
use firecrest_service::aside::Aside;
use firecrest_service::backend::{Backend, Events, Grant, Owner, Queue, StartError};
use firecrest_service::local::Handle;
use firecrest_service::local::Local;

pub use firecrest_service::scripted::Scripted;

/// One of them.
#[allow(clippy::large_enum_variant, reason = "there is one a model, behind a pointer already")]
pub(super) enum AnyBackend {
    /// A model in memory.
    Local(Local<Handle>),
    /// A script in a model's place.
    Scripted(Scripted),
}

impl Backend for AnyBackend {
    fn check(&self, ask: &Ask) -> Result<(), ApiError> {
        match self {
            AnyBackend::Local(local) => local.check(ask),
            AnyBackend::Scripted(scripted) => scripted.check(ask),
        }
    }

    fn hints(&self, ask: &Ask) -> Vec<Beyond> {
        match self {
            AnyBackend::Local(local) => local.hints(ask),
            AnyBackend::Scripted(scripted) => scripted.hints(ask),
        }
    }

    async fn spelled(&self, ask: &Arc<Ask>, aside: &Aside) -> Result<Vec<PromptText>, ApiError> {
        match self {
            AnyBackend::Local(local) => local.spelled(ask, aside).await,
            AnyBackend::Scripted(scripted) => scripted.spelled(ask, aside).await,
        }
    }

    async fn price(&self, ask: &Arc<Ask>, aside: &Aside) -> Result<Price, ApiError> {
        match self {
            AnyBackend::Local(local) => local.price(ask, aside).await,
            AnyBackend::Scripted(scripted) => scripted.price(ask, aside).await,
        }
    }

    async fn embed_price(&self, ask: &Arc<EmbedAsk>, aside: &Aside) -> Result<u64, ApiError> {
        match self {
            AnyBackend::Local(local) => local.embed_price(ask, aside).await,
            AnyBackend::Scripted(scripted) => scripted.embed_price(ask, aside).await,
        }
    }

    fn queue(&self) -> Option<Queue> {
        match self {
            AnyBackend::Local(local) => local.queue(),
            AnyBackend::Scripted(scripted) => scripted.queue(),
        }
    }

    fn places(&self, answers: u32) -> u32 {
        match self {
            AnyBackend::Local(local) => local.places(answers),
            AnyBackend::Scripted(scripted) => scripted.places(answers),
        }
    }

    async fn embed(&self, ask: Arc<EmbedAsk>, lane: u8, owner: Owner, aside: &Aside) -> Result<Embedded, ApiError> {
        match self {
            AnyBackend::Local(local) => local.embed(ask, lane, owner, aside).await,
            AnyBackend::Scripted(scripted) => scripted.embed(ask, lane, owner, aside).await,
        }
    }

    async fn start(&self, ask: Arc<Ask>, grant: Grant) -> Result<Events, StartError> {
        match self {
            AnyBackend::Local(local) => local.start(ask, grant).await,
            AnyBackend::Scripted(scripted) => scripted.start(ask, grant).await,
        }
    }
}
