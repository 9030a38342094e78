//! What a host sends: bytes that only this crate makes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;

/// A response's body. What a model said is in it only where the gate let it pass: hosts get no other bytes, and can't make any.
///
/// ```compile_fail
/// let body = firecrest_service::body::Body::whole("what I like".into());
/// ```
pub struct Body(Kind);

enum Kind {
    Whole(Option<Bytes>),
    Stream(Pin<Box<dyn Stream<Item = Bytes>>>),
}

impl Body {
    pub(crate) fn whole(bytes: Bytes) -> Body {
        Body(Kind::Whole(Some(bytes)))
    }

    pub(crate) fn stream(stream: impl Stream<Item = Bytes> + 'static) -> Body {
        Body(Kind::Stream(Box::pin(stream)))
    }

    /// Its length, where that is known.
    pub fn len(&self) -> Option<usize> {
        match &self.0 {
            Kind::Whole(bytes) => Some(bytes.as_ref().map_or(0, Bytes::len)),
            Kind::Stream(_) => None,
        }
    }

    /// Whether there is nothing in it, for certain.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

/// Pieces, in order. Dropped before its end, it cancels what makes it.
impl Stream for Body {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match &mut self.0 {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().filter(|bytes| !bytes.is_empty())),
            Kind::Stream(stream) => stream.as_mut().poll_next(context),
        }
    }
}
