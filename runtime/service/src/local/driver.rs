//! Who owns an engine, and how others reach it.
//!
//! [`drive`] is a future that steps an engine for as long as there is work and obeys commands between steps: natively a thread blocks on it, in a page
//! it runs in place. A [`Handle`] sends it commands from anywhere.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use firecrest_engine::engine::{Admission, Engine, Event, Request, SequenceId, Usage};
use firecrest_engine::{Error, ErrorCode};
use futures_channel::{mpsc, oneshot};
use futures_util::future::{Either, select};
use futures_util::{Stream, StreamExt};

/// An engine from outside.
#[allow(async_fn_in_trait, reason = "the service runs on one thread: its futures are not Send, and needn't be")]
pub trait EnginePort: Clone + 'static {
    /// Asks for a request to be taken in, and so many tokens of it to be generated for now.
    ///
    /// # Errors
    /// The engine's, and one of `Device` where it is gone.
    async fn submit(&self, request: Request, allowance: u32) -> Result<Submitted, Error>;
}

/// What came of submitting a request.
pub enum Submitted {
    /// It is under way.
    Running(Running),
    /// It was not taken.
    Busy {
        /// When it may be worth trying again.
        retry_after: Duration,
    },
}

/// What an engine says of one sequence.
#[derive(Debug)]
pub enum Told {
    /// Its first token is about to come, or its end: what is known of its prompt.
    Started(Usage),
    /// The engine's event.
    Event(Event),
    /// A step failed, and the sequence with it. The last thing.
    Lost(String),
}

/// A sequence under way: what is told of it. Dropping it cancels.
pub struct Running {
    sequence: SequenceId,
    told: mpsc::UnboundedReceiver<Told>,
    handle: Handle,
    ended: bool,
}

impl Running {
    /// Lets it generate so many tokens over its whole life.
    pub fn allow(&self, tokens: u32) {
        self.handle.send(Command::Allow(self.sequence, tokens));
    }
}

impl Stream for Running {
    type Item = Told;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Told>> {
        let told = self.told.poll_next_unpin(context);
        self.ended = matches!(told, Poll::Ready(None | Some(Told::Lost(_) | Told::Event(Event::Done { .. }))));
        told
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.handle.send(Command::Cancel(self.sequence));
        }
    }
}

/// Reaches a driver.
#[derive(Clone, Debug)]
pub struct Handle(mpsc::UnboundedSender<Command>);

/// What a driver obeys.
#[derive(Debug)]
pub struct Commands(mpsc::UnboundedReceiver<Command>);

#[derive(Debug)]
enum Command {
    Submit { request: Box<Request>, allowance: u32, reply: oneshot::Sender<Result<Taken, Error>> },
    Allow(SequenceId, u32),
    Cancel(SequenceId),
    Close,
}

#[derive(Debug)]
enum Taken {
    Running(SequenceId, mpsc::UnboundedReceiver<Told>),
    Busy(Duration),
}

/// Both ends of a driver's commands.
pub fn commands() -> (Handle, Commands) {
    let (sender, receiver) = mpsc::unbounded();
    (Handle(sender), Commands(receiver))
}

impl Handle {
    /// A driver that is gone has nothing to obey.
    fn send(&self, command: Command) {
        let _ = self.0.unbounded_send(command);
    }

    /// Whether its driver has ended.
    pub fn is_over(&self) -> bool {
        self.0.is_closed()
    }

    /// Ends everything and lets the engine go.
    pub fn close(&self) {
        self.send(Command::Close);
    }
}

/// Waits for a driver's reply. Dropped, it cancels what was taken in and not heard of yet.
struct Waiting<'a> {
    replied: oneshot::Receiver<Result<Taken, Error>>,
    handle: &'a Handle,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Behind this no reply can come any more: whoever would send one sees that nobody waits.
        self.replied.close();
        if let Ok(Some(Ok(Taken::Running(sequence, _)))) = self.replied.try_recv() {
            self.handle.send(Command::Cancel(sequence));
        }
    }
}

impl EnginePort for Handle {
    async fn submit(&self, request: Request, allowance: u32) -> Result<Submitted, Error> {
        let (reply, replied) = oneshot::channel();
        let mut waiting = Waiting { replied, handle: self };
        self.send(Command::Submit { request: Box::new(request), allowance, reply });
        let gone = || Error::new(ErrorCode::Device, "the engine is gone");
        Ok(match (&mut waiting.replied).await.map_err(|_| gone())?? {
            Taken::Running(sequence, told) => Submitted::Running(Running { sequence, told, handle: self.clone(), ended: false }),
            Taken::Busy(retry_after) => Submitted::Busy { retry_after },
        })
    }
}

/// Who is told of which sequence.
struct Asked {
    teller: mpsc::UnboundedSender<Told>,
    started: bool,
}

/// Steps an engine until its last handle is gone or says [`Handle::close`]. `step` is how: [`Engine::step`], and whatever the host does beside it.
///
/// # Errors
/// What a step failed with. Every sequence was told that it is lost, and the engine is gone: after a failed step nobody knows what its device still
/// computes.
pub async fn drive(
    mut engine: Engine,
    commands: Commands,
    mut step: impl AsyncFnMut(&mut Engine) -> Result<Vec<Event>, Error>,
) -> Result<(), Error> {
    let mut asked: HashMap<SequenceId, Asked> = HashMap::new();
    // Dropped before those who asked: when a panic lets them hear that the engine is gone, no other can be sent to it.
    let Commands(mut commands) = commands;
    loop {
        while let Ok(command) = commands.try_recv() {
            if !obey(&mut engine, &mut asked, command) {
                return Ok(());
            }
        }
        if engine.is_idle() || engine.is_paused() {
            let Some(command) = commands.next().await else { return Ok(()) };
            if !obey(&mut engine, &mut asked, command) {
                return Ok(());
            }
            continue;
        }
        // A step that waits for its device makes way for commands; nothing is lost when it is begun again.
        let outcome = {
            let step = pin!(step(&mut engine));
            match select(step, commands.next()).await {
                Either::Left((outcome, _)) => Ok(outcome),
                Either::Right((command, _)) => Err(command),
            }
        };
        match outcome {
            Ok(Ok(events)) => tell(&mut engine, &mut asked, events),
            // A step that fails fails for everyone: the device is gone.
            Ok(Err(error)) => {
                commands.close();
                for (_, asked) in asked.drain() {
                    let _ = asked.teller.unbounded_send(Told::Lost(error.message().to_owned()));
                }
                return Err(error);
            }
            Err(Some(command)) => {
                if !obey(&mut engine, &mut asked, command) {
                    return Ok(());
                }
            }
            Err(None) => return Ok(()),
        }
    }
}

/// Does as told. False where nothing more is to be done.
fn obey(engine: &mut Engine, asked: &mut HashMap<SequenceId, Asked>, command: Command) -> bool {
    match command {
        Command::Submit { request, allowance, reply } => {
            let mut accepted = None;
            let taken = engine.submit(*request).map(|admission| match admission {
                Admission::Busy { retry_after } => Taken::Busy(retry_after),
                Admission::Accepted(sequence) => {
                    engine.allow(sequence, allowance);
                    let (teller, told) = mpsc::unbounded();
                    asked.insert(sequence, Asked { teller, started: false });
                    accepted = Some(sequence);
                    Taken::Running(sequence, told)
                }
            });
            // Nobody waits for it any more.
            if let (Err(_), Some(sequence)) = (reply.send(taken), accepted) {
                asked.remove(&sequence);
                engine.cancel(sequence);
            }
        }
        Command::Allow(sequence, tokens) => {
            engine.allow(sequence, tokens);
        }
        Command::Cancel(sequence) => {
            asked.remove(&sequence);
            engine.cancel(sequence);
        }
        Command::Close => {
            for (sequence, asked) in asked.drain() {
                engine.cancel(sequence);
                let _ = asked.teller.unbounded_send(Told::Lost("the engine was closed".to_owned()));
            }
            return false;
        }
    }
    true
}

fn tell(engine: &mut Engine, asked: &mut HashMap<SequenceId, Asked>, events: Vec<Event>) {
    // One that ended in this step is not known to the engine any more.
    let ended: HashMap<SequenceId, Usage> = events
        .iter()
        .filter_map(|event| match event {
            Event::Done { sequence, usage, .. } => Some((*sequence, *usage)),
            _ => None,
        })
        .collect();
    for event in events {
        let sequence = sequence(&event);
        let Some(who) = asked.get_mut(&sequence) else { continue };
        if !std::mem::replace(&mut who.started, true) {
            let usage = ended.get(&sequence).copied().or_else(|| engine.usage(sequence)).unwrap_or_default();
            let _ = who.teller.unbounded_send(Told::Started(usage));
        }
        let done = matches!(event, Event::Done { .. });
        let gone = who.teller.unbounded_send(Told::Event(event)).is_err();
        if done || gone {
            asked.remove(&sequence);
            engine.cancel(sequence);
        }
    }
}

fn sequence(event: &Event) -> SequenceId {
    match event {
        Event::Token { sequence, .. }
        | Event::Text { sequence, .. }
        | Event::Logits { sequence, .. }
        | Event::Logprobs { sequence, .. }
        | Event::Embedding { sequence, .. }
        | Event::Done { sequence, .. } => *sequence,
    }
}

#[cfg(test)]
mod tests {
    use firecrest_engine::engine::Generate;

    use super::*;

    #[test]
    fn a_step_that_fails_ends_the_driver_and_tells_everybody() {
        let (engine, _) = crate::local::tests::engine();
        let (handle, commands) = commands();
        let fails = std::cell::Cell::new(false);
        let driven = drive(
            engine,
            commands,
            async |engine: &mut Engine| {
                if fails.get() { Err(Error::new(ErrorCode::Device, "a test")) } else { engine.step().await }
            },
        );
        let asked = async {
            let mut running = Vec::new();
            for _ in 0..3 {
                let request = Request::generate(vec![1, 2, 3], Generate { ignore_eos: true, ..Generate::default() });
                let Ok(Submitted::Running(one)) = handle.submit(request, 1).await else { panic!("it was not taken") };
                running.push(one);
            }
            // All three are under way, and wait for their second tokens.
            fails.set(true);
            running.iter().for_each(|one| one.allow(2));
            for one in running {
                let last = one.fold(None, async |_, told| Some(told)).await;
                assert!(matches!(&last, Some(Told::Lost(why)) if why == "a test"), "{last:?}");
            }
            let gone = handle.submit(Request::generate(vec![1], Generate::default()), 1).await;
            assert!(matches!(gone, Err(error) if error.code() == ErrorCode::Device));
        };
        let (ended, ()) = pollster::block_on(futures_util::future::join(driven, asked));
        assert_eq!(ended.expect_err("the step's error").message(), "a test");
    }

    #[test]
    fn who_leaves_before_it_hears_leaves_nothing_behind() {
        let (mut engine, _) = crate::local::tests::engine();
        let (handle, Commands(mut commands)) = commands();
        let request = Box::new(Request::generate(vec![1, 2, 3], Generate::default()));
        let (reply, replied) = oneshot::channel();
        let waiting = Waiting { replied, handle: &handle };
        let mut asked = HashMap::new();
        assert!(obey(&mut engine, &mut asked, Command::Submit { request, allowance: 1, reply }));
        assert_eq!((engine.is_idle(), asked.len()), (false, 1));
        drop(waiting);
        let Ok(command) = commands.try_recv() else { panic!("nobody cancels it") };
        assert!(obey(&mut engine, &mut asked, command));
        assert_eq!((engine.occupancy().waiting, engine.occupancy().running, asked.len()), (0, 0, 0));
        assert!(commands.try_recv().is_err());
    }
}
