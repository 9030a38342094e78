//! Work that takes long, done where it holds nobody up.
//!
//! The path of a request runs on one thread with all the others. What takes time by the length of a text (reading JSON, judging, rendering, tokenising) is done in
//! place where the text is short, since a change of threads costs more than that, and handed to the host where it is long. All such work of a request together
//! has a time limit. It can't be stopped, but nobody waits for it any longer.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use firecrest_contract::error::{ApiError, ErrorKind};
use futures_channel::oneshot;
use futures_util::future::{Either, select};

use crate::backend::busy;
use crate::host::Host;

/// Something to be done once.
pub type Task = Box<dyn FnOnce() + Send>;

/// Work that was not taken, because too much waits already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Cost of work that is done in place: reading, tokenising and judging so many bytes take some milliseconds.
pub(crate) const SHORT: usize = 16 << 10;

/// Cost of work that is never done in place: what it takes does not follow from the size of what is sent.
pub const NEVER_SHORT: usize = usize::MAX;

/// How long work may wait for a thread.
const PATIENCE: Duration = Duration::from_secs(30);

/// A host, as far as work needs one.
trait Elsewhere {
    fn offload(&self, key: &str, work: Task) -> Result<(), Full>;
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()>>>;
    fn now(&self) -> Duration;
}

impl<H: Host> Elsewhere for H {
    fn offload(&self, key: &str, work: Task) -> Result<(), Full> {
        Host::offload(self, key, work)
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(Host::sleep(self, duration))
    }

    fn now(&self) -> Duration {
        self.monotonic()
    }
}

/// Does all work in place, at once.
struct InPlace;

impl Elsewhere for InPlace {
    fn offload(&self, _: &str, work: Task) -> Result<(), Full> {
        work();
        Ok(())
    }

    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(std::future::pending())
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

/// Where the long work of one request is done. Clones share its time limit.
#[derive(Clone)]
pub struct Aside {
    host: Rc<dyn Elsewhere>,
    key: Rc<str>,
    /// Time that work of the request may still take.
    left: Rc<Cell<Duration>>,
}

impl fmt::Debug for Aside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aside").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Aside {
    /// On a host, for a request of this key, whose work may take so long.
    pub fn new<H: Host>(host: &Rc<H>, key: &Rc<str>, limit: Duration) -> Aside {
        let host: Rc<dyn Elsewhere> = Rc::<H>::clone(host);
        Aside { host, key: Rc::clone(key), left: Rc::new(Cell::new(limit)) }
    }

    /// In place, without a limit: where one caller has a thread to itself.
    pub fn in_place() -> Aside {
        Aside { host: Rc::new(InPlace), key: "".into(), left: Rc::new(Cell::new(Duration::MAX)) }
    }

    /// Does some work that costs what so many bytes of text cost, in place or elsewhere. Dropped before that begins, nothing is done.
    ///
    /// # Errors
    /// `invalid_request_error` for work that takes too long; `overloaded_error` if too much waits; `api_error` for work that panicked.
    pub async fn run<T: Send + 'static>(&self, cost: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        if cost <= SHORT {
            return Ok(work());
        }
        let left = self.left.get();
        if left.is_zero() {
            return Err(too_long());
        }
        let (begun, beginning) = oneshot::channel();
        let (done, outcome) = oneshot::channel();
        let work: Task = Box::new(move || {
            // Nobody waits for it any more.
            if !done.is_canceled() {
                let _ = begun.send(());
                let _ = done.send(work());
            }
        });
        self.host.offload(&self.key, work).map_err(|Full| busy(Duration::from_secs(1)))?;
        let lost = || ApiError::new(ErrorKind::Api, "the request could not be worked on; try again");
        match select(beginning, self.host.sleep(PATIENCE)).await {
            Either::Left((begun, _)) => begun.map_err(|_| lost())?,
            Either::Right(_) => return Err(busy(Duration::from_secs(1))),
        }
        let since = self.host.now();
        let outcome = match select(outcome, pin!(self.host.sleep(left))).await {
            Either::Left((outcome, _)) => outcome.map_err(|_| lost()),
            Either::Right(_) => Err(too_long()),
        };
        self.left.set(left.saturating_sub(self.host.now().saturating_sub(since)));
        outcome
    }
}

fn too_long() -> ApiError {
    let message = "it takes too long to read this request; shorten it, or make its schemas simpler";
    ApiError::new(ErrorKind::InvalidRequest, message).should_retry(false)
}

#[cfg(test)]
mod tests;
