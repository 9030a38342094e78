//! Task that takes long, done where it holds nobody up.
//!
//! The path of a request runs on one thread with all the others. What takes time by the length of a text (reading JSON, judging, tokenising) is done in place
//! where the text is short, since a change of threads costs more than that, and handed to the host where it is long.

use firecrest_contract::error::{ApiError, ErrorKind};
use futures_channel::oneshot;

/// Something to be done once.
pub type Task = Box<dyn FnOnce() + Send>;

/// Bytes of text that are worked on in place: tokenised and judged they take some milliseconds.
pub(crate) const SHORT: usize = 16 << 10;

/// Does some work on a text of so many bytes, in place or where `offload` does it. Dropped before that begins, nothing is done.
///
/// # Errors
/// Task that was not done, or panicked.
pub(crate) async fn aside<T: Send + 'static>(
    offload: impl FnOnce(Task),
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    if bytes <= SHORT {
        return Ok(work());
    }
    let (done, outcome) = oneshot::channel();
    offload(Box::new(move || {
        // Nobody waits for it any more.
        if !done.is_canceled() {
            let _ = done.send(work());
        }
    }));
    outcome.await.map_err(|_| ApiError::new(ErrorKind::Api, "the request could not be worked on; try again"))
}
