//! An answer that runs: events judged as they come, in chunks as large as are ready, and a lease behind them.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::event::{Event, Finish, Usage};
use firecrest_policy::safety::gate::{Gate, Judged, Unjudged};
use futures_util::future::{Either, FutureExt, select};
use futures_util::{Stream, StreamExt, stream};

use crate::backend::Events;
use crate::encode::{Collect, Tell};
use crate::host::Host;
use crate::lease::Lease;
use crate::ledger::Ledger;
use crate::threads::Keeper;

/// Events that are taken at once: many small chunks cost more than one, and none may keep its turn for ever.
const AT_ONCE: usize = 64;

/// An answer. What is dropped first stands first: a backend stops before its lease is settled.
pub(crate) struct Answer<H: Host> {
    events: Events,
    gate: Gate,
    lease: Option<Lease<H>>,
    ledger: Ledger<H>,
    /// What it took by its beginning, once it began.
    begun: Option<Usage>,
    given: Given,
    /// One of its choices was.
    refused: bool,
    ended: bool,
    /// Nothing of it is told before its end.
    whole: bool,
    /// Hears what the caller is told.
    keeper: Option<Keeper>,
    /// Held for as long as it answers: a host sees by this that it is in use.
    _backend: Option<Rc<H::Backend>>,
}

impl<H: Host> Answer<H> {
    pub(crate) fn new(
        events: Events,
        gate: Gate,
        lease: Option<Lease<H>>,
        ledger: Ledger<H>,
        backend: Option<Rc<H::Backend>>,
    ) -> Answer<H> {
        let (begun, given) = (None, Given::default());
        Answer { events, gate, lease, ledger, begun, given, refused: false, ended: false, whole: false, keeper: None, _backend: backend }
    }

    /// And what it says is kept, once the caller was told all of it.
    pub(crate) fn kept_by(mut self, keeper: Option<Keeper>) -> Answer<H> {
        self.keeper = keeper;
        self
    }

    /// The caller is told this.
    fn tells(&mut self, judged: &Judged) {
        if let Some(keeper) = &mut self.keeper {
            keeper.hears(judged);
        }
        if matches!(judged.event(), Event::End { .. })
            && let Some(keeper) = self.keeper.take()
        {
            keeper.keep(self.ledger.now());
        }
    }

    /// An answer that no backend makes: what its only choice is refused for.
    pub(crate) fn refused(finish: Finish, choices: u32, gate: Gate, ledger: Ledger<H>) -> Answer<H> {
        let usage = Usage::default();
        let each = move |choice| Event::Finish { choice, reason: finish.clone() };
        let events = std::iter::once(Event::Start { usage }).chain((0..choices).map(each)).chain([Event::End { usage }]);
        let events: Vec<Unjudged> = events.map(Unjudged::new).collect();
        Answer::new(Box::pin(stream::iter(events)), gate, None, ledger, None)
    }

    /// Waits for what comes next, and takes what is there. Nothing more comes where this leaves `out` empty and returns false.
    pub(crate) async fn next(&mut self, out: &mut Vec<Judged>) -> bool {
        while !self.ended && out.is_empty() {
            let since = self.ledger.now();
            let next = self.events.next().await;
            self.ledger.waited_since(since);
            self.take(next, out);
            for _ in 0..AT_ONCE {
                if self.ended {
                    break;
                }
                match self.events.next().now_or_never() {
                    Some(next) => self.take(next, out),
                    None => break,
                }
            }
        }
        if self.ended {
            // Its caller may take long to read the rest.
            self.lease = None;
        }
        !self.ended || !out.is_empty()
    }

    fn take(&mut self, next: Option<Unjudged>, out: &mut Vec<Judged>) {
        let first = out.len();
        // A backend that ends without a last word has failed.
        let next = next.unwrap_or_else(|| {
            let error = ApiError::new(ErrorKind::Api, "the backend stopped in the middle of the answer; try again");
            Unjudged::new(Event::Fault(error))
        });
        if let Some((choice, bytes)) = next.adds() {
            let told = self.lease.as_ref().map_or(0, |lease| lease.allowance().told());
            self.given.comes(choice, bytes, told);
        }
        out.extend(self.gate.push(next));
        for judged in &out[first..] {
            if let Some((choice, bytes)) = judged.adds() {
                self.given.leaves(choice, bytes);
            }
            self.ledger.saw(judged.event());
            match judged.event() {
                Event::Start { usage } => {
                    self.begun = Some(*usage);
                    self.settle(*usage);
                }
                Event::End { usage } => {
                    self.settle(*usage);
                    self.ended = true;
                }
                Event::Fault(error) => {
                    self.ended = true;
                    let begun = self.begun.is_some();
                    match &self.lease {
                        // What fails before its beginning did nothing.
                        Some(lease) if !begun => lease.unused(),
                        // Its caller gets nothing of what was made, or only what was told before.
                        Some(lease) if error.kind == ErrorKind::Api => match self.given.tokens {
                            tokens if tokens > 0 && !self.whole => lease.charge_at_most(tokens),
                            _ => {
                                lease.refund();
                                self.ledger.refunded();
                            }
                        },
                        _ => {}
                    }
                }
                Event::Finish { reason: Finish::Refusal(_), .. } => self.refused = true,
                _ => {}
            }
        }
        if self.refused && !self.ended && self.gate.settled() {
            self.stop(out);
        }
    }

    /// Nobody is to see any more of it: the backend stops, and what it took until now is what it took.
    fn stop(&mut self, out: &mut Vec<Judged>) {
        self.events = Box::pin(stream::empty());
        let mut usage = self.begun.unwrap_or_default();
        if let Some(lease) = &self.lease {
            usage.output = usage.output.max(lease.allowance().used());
        }
        self.take(Some(Unjudged::new(Event::End { usage })), out);
    }

    fn settle(&self, usage: Usage) {
        if let Some(lease) = &self.lease {
            lease.used(usage);
        }
    }

    /// The whole of it, as one body.
    ///
    /// # Errors
    /// What it failed with.
    pub(crate) async fn whole(mut self, mut encoder: Box<dyn Collect>) -> Result<Bytes, ApiError> {
        self.whole = true;
        let mut judged = Vec::new();
        while self.next(&mut judged).await {
            for event in judged.drain(..) {
                self.tells(&event);
                encoder.push(event);
            }
        }
        encoder.body().map(Bytes::from)
    }

    /// As it comes: `first` is what was taken already. Where nothing comes for `quiet`, a ping does.
    pub(crate) fn stream(
        self,
        host: Rc<H>,
        encoder: Box<dyn Tell>,
        first: Vec<Judged>,
        quiet: Duration,
    ) -> impl Stream<Item = Bytes> + 'static {
        let going = Going { answer: self, host, encoder, judged: first, over: false };
        stream::unfold(going, move |mut going| async move {
            let mut bytes = Vec::new();
            while bytes.is_empty() && !(going.over && going.judged.is_empty()) {
                if going.judged.is_empty() {
                    let (ledger, since) = (going.answer.ledger.clone(), going.answer.ledger.now());
                    let next = pin!(going.answer.next(&mut going.judged));
                    match select(next, pin!(going.host.sleep(quiet))).await {
                        Either::Left((more, _)) => going.over = !more,
                        Either::Right(_) => {
                            ledger.waited_since(since);
                            going.encoder.ping(&mut bytes);
                        }
                    }
                }
                for event in going.judged.drain(..) {
                    going.answer.tells(&event);
                    going.encoder.push(event, &mut bytes);
                }
            }
            (!bytes.is_empty()).then(|| (Bytes::from(bytes), going))
        })
    }
}

/// Counts tokens of output whose text has left the gate.
#[derive(Default)]
struct Given {
    tokens: u64,
    /// Texts that came, in their order: of which choice, up to which of its bytes, and how many tokens all choices had by then.
    waiting: VecDeque<(u32, u64, u64)>,
    /// By choice, bytes that came and bytes that left.
    bytes: HashMap<u32, [u64; 2]>,
}

impl Given {
    fn comes(&mut self, choice: u32, bytes: usize, tokens: u64) {
        let [came, _] = self.bytes.entry(choice).or_default();
        *came += bytes as u64;
        self.waiting.push_back((choice, *came, tokens));
    }

    fn leaves(&mut self, choice: u32, bytes: usize) {
        self.bytes.entry(choice).or_default()[1] += bytes as u64;
        let left = |choice: &u32| self.bytes.get(choice).map_or(0, |[_, left]| *left);
        while let Some((.., tokens)) = self.waiting.pop_front_if(|(choice, end, _)| *end <= left(choice)) {
            self.tokens = tokens;
        }
    }
}

/// What was generated is charged, be it told or not, unless it fails by our fault: an answer that is cut never says its total, and its record would not be what its key pays.
impl<H: Host> Drop for Answer<H> {
    fn drop(&mut self) {
        self.ledger.judged(self.gate.decision());
        // It may still count what it was about to tell.
        self.events = Box::pin(stream::empty());
        if let Some(lease) = &self.lease {
            self.ledger.charged(lease.output());
        }
    }
}

/// An answer on its way out.
struct Going<H: Host> {
    answer: Answer<H>,
    host: Rc<H>,
    encoder: Box<dyn Tell>,
    judged: Vec<Judged>,
    over: bool,
}
