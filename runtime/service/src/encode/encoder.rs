//! What all dialects' encoders have in common, for the path that does not care which it has.

use firecrest_contract::error::ApiError;
use firecrest_policy::safety::gate::Judged;

use super::{chat, completions, messages, responses};

/// Writes an answer as it comes.
pub(crate) trait Tell {
    fn push(&mut self, event: Judged, out: &mut Vec<u8>);
    /// Nothing came for a while.
    fn ping(&self, out: &mut Vec<u8>);
}

/// Writes an answer when it is whole.
pub(crate) trait Collect {
    fn push(&mut self, event: Judged);
    /// What it comes to. An error where the answer failed, or broke off.
    fn body(self: Box<Self>) -> Result<Vec<u8>, ApiError>;
}

/// One of them.
pub(crate) enum Encoder {
    Stream(Box<dyn Tell>),
    Whole(Box<dyn Collect>),
}

macro_rules! dialects {
    ($($dialect:ident)*) => {$(
        impl Tell for $dialect::Stream {
            fn push(&mut self, event: Judged, out: &mut Vec<u8>) {
                $dialect::Stream::push(self, event, out);
            }

            fn ping(&self, out: &mut Vec<u8>) {
                $dialect::Stream::ping(out);
            }
        }

        impl Collect for $dialect::Whole {
            fn push(&mut self, event: Judged) {
                $dialect::Whole::push(self, event);
            }

            fn body(self: Box<Self>) -> Result<Vec<u8>, ApiError> {
                $dialect::Whole::body(*self)
            }
        }

        impl Encoder {
            /// For this dialect.
            pub(crate) fn $dialect(stream: bool, head: super::Head, shape: $dialect::Shape) -> Encoder {
                match stream {
                    true => Encoder::Stream(Box::new($dialect::Stream::new(head, shape))),
                    false => Encoder::Whole(Box::new($dialect::Whole::new(head, shape))),
                }
            }
        }
    )*};
}

dialects! { chat completions messages responses }
