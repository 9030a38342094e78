//! A running answer's lease: opened before it starts, extended while it streams, settled whatever happens to it.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::event::Usage;
use firecrest_policy::limits::{Bound, Command, LeaseId, Levels, Millis, Outcome, Price, QUANTUM, Tally};
use futures_util::FutureExt;
use futures_util::future::{AbortHandle, Either, abortable, select};

use crate::backend::Allowance;
use crate::host::{Host, Principal};

/// How long a lease lasts that nothing is heard of.
const LIFETIME: Duration = Duration::from_secs(30);

/// What is done where a key's output is used up for now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenDry {
    /// The answer waits until there is more.
    #[default]
    Pause,
    /// The answer ends, as if by `max_tokens`.
    Stop,
}

/// A lease. Dropped, it is settled with what was used until then.
pub(crate) struct Lease<H: Host> {
    host: Rc<H>,
    principal: Rc<Principal>,
    id: LeaseId,
    allowance: Allowance,
    /// What the prompt took. `None`: nobody knows yet, and the price stands.
    input: Rc<Cell<Option<u64>>>,
    /// No more output is charged, whatever was used.
    most: Cell<u64>,
    /// There is something to settle.
    open: bool,
    /// Stops what looks after it.
    keeping: Option<AbortHandle>,
}

/// What came of asking for one.
pub(crate) struct Opened<H: Host> {
    pub(crate) lease: Lease<H>,
    /// For the headers.
    pub(crate) levels: Levels,
}

impl<H: Host> Lease<H> {
    /// Leases the whole input and a first quantum of output for each answer.
    ///
    /// # Errors
    /// `rate_limit_error` where there is not enough now, `invalid_request_error` where there never is.
    pub(crate) async fn open(host: &Rc<H>, principal: &Rc<Principal>, price: Price, answers: u64) -> Result<Opened<H>, Denial> {
        let mut random = [0; 16];
        host.random(&mut random);
        let id = LeaseId(u128::from_le_bytes(random));
        let at = host.wall();
        let output = QUANTUM.saturating_mul(answers).min(price.output_cap);
        let open = Command::Open { at, lease: id, expires: at.saturating_add(millis(LIFETIME)), price, output };
        // Settled from here on: it may be opened though its caller goes away meanwhile, or the store's answer is lost.
        let (host, principal, input) = (Rc::clone(host), Rc::clone(principal), Rc::new(Cell::new(Some(0))));
        let mut lease =
            Lease { host, principal, id, allowance: Allowance::new(0), input, most: Cell::new(u64::MAX), open: true, keeping: None };
        match lease.host.apply(&lease.principal, open).await.map_err(ApiError::from)? {
            Outcome::Granted { output, levels } => {
                lease.allowance.raise(output);
                Ok(Opened { lease, levels })
            }
            other => {
                lease.open = false;
                Err(denial(&other))
            }
        }
    }

    /// A backend is asked: from now on the price stands, until it says what it took.
    pub(crate) fn begins(&self) {
        self.input.set(None);
    }

    /// The backend did nothing.
    pub(crate) fn unused(&self) {
        self.input.set(Some(0));
    }

    /// What was used was for nothing: the caller gets none of it, and it is our fault.
    pub(crate) fn refund(&self) {
        self.unused();
        self.charge_at_most(0);
    }

    /// No more than so much of the output that was used reached the caller, and it is our fault.
    pub(crate) fn charge_at_most(&self, output: u64) {
        self.most.set(output);
    }

    /// The output that is granted, to be used up.
    pub(crate) fn allowance(&self) -> Allowance {
        self.allowance.clone()
    }

    /// What it is charged for output, were it settled now.
    pub(crate) fn output(&self) -> u64 {
        self.allowance.used().min(self.most.get())
    }

    /// What the backend says it took so far.
    pub(crate) fn used(&self, usage: Usage) {
        let tally = Tally::from(usage);
        self.input.set(tally.input);
        self.allowance.use_up_to(tally.output);
    }

    /// From now on the lease is kept alive and the answer supplied with output, also while the answer waits to begin, and while its caller reads
    /// nothing, for nobody polls it then. From this time on there is no more: it ends with what it has.
    pub(crate) fn look_after(&mut self, price: Price, when_dry: WhenDry, answers: u64, until: Duration) {
        let (keeping, handle) = abortable(self.keep(price, when_dry, answers, until));
        self.keeping = Some(handle);
        self.host.outlive(keeping.map(|_| ()));
    }

    fn keep(&self, price: Price, when_dry: WhenDry, answers: u64, until: Duration) -> impl Future<Output = ()> + 'static {
        let (host, principal, id) = (Rc::clone(&self.host), Rc::clone(&self.principal), self.id);
        let (allowance, input) = (self.allowance.clone(), Rc::clone(&self.input));
        async move {
            // Half a quantum ahead, so that an answer need not stop for us.
            let (quantum, margin) = (QUANTUM.saturating_mul(answers), QUANTUM / 2);
            let mut seq = 0;
            // What is asked for beyond what it holds, where less than a quantum is all that there is.
            let mut step = quantum;
            let left = |host: &H| until.saturating_sub(host.monotonic());
            while !left(&host).is_zero() {
                if allowance.granted() >= price.output_cap {
                    // A backend that counts otherwise must not wait for what never comes.
                    allowance.close();
                }
                let whole = allowance.is_closed();
                let low = async {
                    match whole {
                        true => std::future::pending().await,
                        false => allowance.running_low(margin).await,
                    }
                };
                let soon = host.sleep(left(&host).min(LIFETIME / 3));
                let wants_more = matches!(select(pin!(low), pin!(soon)).await, Either::Left(_));
                seq += 1;
                let at = host.wall();
                let used = allowance.used();
                let held = allowance.left().min(price.output_cap.saturating_sub(used));
                let more = match wants_more {
                    true => quantum.min(held.saturating_add(step)).min(price.output_cap.saturating_sub(used)),
                    false => held,
                };
                let so_far = Tally { input: input.get(), output: used };
                let extend = Command::Extend { at, lease: id, seq, expires: at.saturating_add(millis(LIFETIME)), so_far, more };
                match host.apply(&principal, extend).await {
                    Ok(Outcome::Granted { output, .. }) => {
                        allowance.raise(output);
                        step = quantum;
                    }
                    Ok(Outcome::Wait { until, bound }) if when_dry == WhenDry::Pause => {
                        let wait = until.saturating_sub(at);
                        if step == quantum && bound != Bound::Budget && wait < millis(left(&host)) {
                            host.sleep(Duration::from_millis(wait.clamp(1, millis(LIFETIME) / 3))).await;
                        } else if more > held + 1 {
                            // A quantum comes after the answer's end, or tomorrow. What is there now it may have.
                            step = (more - held) / 2;
                        } else {
                            allowance.close();
                        }
                    }
                    // Used up, closed by somebody else, or the store is gone: nobody may go on unlimited.
                    _ => allowance.close(),
                }
            }
            // One that is paused would wait for more for ever.
            allowance.close();
        }
    }
}

impl<H: Host> Drop for Lease<H> {
    fn drop(&mut self) {
        if let Some(keeping) = self.keeping.take() {
            keeping.abort();
        }
        if !self.open {
            return;
        }
        let total = Tally { input: self.input.get(), output: self.output() };
        let settle = Command::Settle { at: self.host.wall(), lease: self.id, total };
        let (host, principal) = (Rc::clone(&self.host), Rc::clone(&self.principal));
        self.host.outlive(async move {
            // A lease that can't be settled expires, and is charged what it last reported and held.
            let _ = host.apply(&principal, settle).await;
        });
    }
}

/// A limit's refusal, and the levels that its headers show.
pub(crate) struct Denial {
    pub(crate) error: ApiError,
    pub(crate) levels: Option<Levels>,
}

impl From<ApiError> for Denial {
    fn from(error: ApiError) -> Denial {
        Denial { error, levels: None }
    }
}

/// What a caller is told whom a limit refuses.
pub(crate) fn denial(outcome: &Outcome) -> Denial {
    let levels = match outcome {
        Outcome::Denied { levels, .. } => Some(*levels),
        _ => None,
    };
    let nothing = || ApiError::new(ErrorKind::Api, "the limiter did not answer this request; try again");
    Denial { error: outcome.error().unwrap_or_else(nothing), levels }
}

fn millis(duration: Duration) -> Millis {
    duration.as_millis() as Millis
}
