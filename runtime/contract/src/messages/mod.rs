//! The Messages API, in both of its versions and in its beta shape.
//!
//! A body is read as [`MessageCreateParams`] by [`crate::leaf::parse`], losing nothing, and lowered by [`into_ask`] into the neutral
//! [`crate::ask::Ask`]. Answers are [`Message`] and [`StreamEvent`]. [`FIELDS`] says what becomes of every field of a request.

mod at;
mod blocks;
mod error;
mod events;
mod fields;
mod limits;
mod lower;
mod models;
mod params;
mod read;
mod response;
mod tools;
mod version;

#[cfg(test)]
mod tests;

pub use blocks::*;
pub use error::{ErrorBody, ErrorDetails, ErrorObject, parse_error};
pub use events::*;
pub use fields::FIELDS;
pub use limits::*;
pub use lower::{Options, count_into_ask, into_ask};
pub use models::*;
pub use params::*;
pub use response::*;
pub use tools::*;

/// The schemas of everything that goes over the wire here, by name.
#[cfg(feature = "schema")]
pub fn schemas() -> serde_json::Map<String, serde_json::Value> {
    components(crate::schema::Components::new()).finish()
}

/// The same, added to others.
#[cfg(feature = "schema")]
pub(crate) fn components(components: crate::schema::Components) -> crate::schema::Components {
    components
        .request::<MessageCreateParams>()
        .request::<CountTokensParams>()
        .response::<Message>()
        .response::<StreamEvent>()
        .response::<TokensCount>()
        .response::<ModelInfo>()
        .response::<ModelPage>()
        .response::<RateLimitPage>()
        .response::<ErrorBody>()
}
