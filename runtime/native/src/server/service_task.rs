//! The service's side of the server: requests in, bodies out, everything in between without locks.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use firecrest_service::body::Body;
use firecrest_service::host::Host;
use firecrest_service::service::{Options, Service};
use futures_util::StreamExt;
use http::request::Parts;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::host::{NativeHost, Tiers};
use super::listen::{Incoming, Job, Reply};
use super::metrics::{Metrics, Running};

/// Pieces of an answer that wait for a caller who reads slowly. Behind them the answer itself waits.
const PIECES: usize = 32;

/// How much longer than it may take an answer is held for a caller who does not read it. The backend has ended it by then.
pub(super) const UNREAD: Duration = Duration::from_secs(10);

/// What a server is told while it runs: of another configuration, all that takes no other server.
pub(super) struct Reload {
    pub(super) options: Options,
    pub(super) tiers: Tiers,
}

/// Runs a service until nobody can send it requests any more, and what it began is over: answers that still run then may go on for `drain`.
pub(super) async fn run(
    service: Service<NativeHost>,
    mut jobs: mpsc::Receiver<Job>,
    mut reloads: mpsc::UnboundedReceiver<Reload>,
    metrics: Arc<Metrics>,
    answer_limit: Duration,
    drain: Duration,
) {
    let mut service = Rc::new(service);
    let local = LocalSet::new();
    let host = Rc::clone(service.host());
    local
        .run_until(async {
            let keeping = tokio::task::spawn_local({
                let host = Rc::clone(&host);
                async move { host.keep_accounts().await }
            });
            tokio::task::spawn_local(preload(Rc::clone(&host)));
            // Nothing is ever sent: it ends with the last of them.
            let (under_way, mut over) = mpsc::channel::<()>(1);
            loop {
                let job = tokio::select! {
                    biased;
                    Some(Reload { options, tiers }) = reloads.recv() => {
                        // Those that run go on as they began.
                        service = Rc::new(service.with_options(options));
                        host.retier(tiers);
                        continue;
                    }
                    job = jobs.recv() => job,
                };
                let Some(job) = job else { break };
                let answer = carry_out(Rc::clone(&service), job, metrics.run(), answer_limit);
                let under_way = under_way.clone();
                tokio::task::spawn_local(async move {
                    answer.await;
                    drop(under_way);
                });
            }
            drop(under_way);
            let _ = tokio::time::timeout(drain, over.recv()).await;
            keeping.abort();
            host.stop_watching();
        })
        .await;
    // What outlives its caller: leases that are being settled.
    let _ = tokio::time::timeout(Duration::from_secs(1), local).await;
    host.write().await;
}

/// Loads the models that are to be there before anybody asks. One that can't be loaded has said so.
async fn preload(host: Rc<NativeHost>) {
    for model in host.preloaded() {
        let _ = host.open(&model).await;
    }
}

/// One request. What runs for it ends where its caller goes away.
async fn carry_out(service: Rc<Service<NativeHost>>, job: Job, _running: Running, answer_limit: Duration) {
    let Job { parts, body, mut reply } = job;
    let response = tokio::select! {
        response = handle(&service, parts, body) => response,
        () = reply.closed() => return,
    };
    let Some(response) = response else { return };
    let (parts, mut body) = response.into_parts();
    if body.len().is_some() {
        let whole = body.next().await.unwrap_or_default();
        let _ = reply.send(http::Response::from_parts(parts, Reply::Whole(whole)));
        return;
    }
    let (pieces, stream) = mpsc::channel(PIECES);
    if reply.send(http::Response::from_parts(parts, Reply::Stream(stream))).is_ok() {
        // One who keeps a connection and reads nothing would keep what runs for it too.
        let _ = tokio::time::timeout(answer_limit + UNREAD, pump(body, pieces)).await;
    }
}

/// A request's response. `None`: its caller went away before its body was there.
async fn handle(service: &Service<NativeHost>, parts: Parts, body: Incoming) -> Option<http::Response<Body>> {
    let admitted = match service.admit(parts).await {
        Ok(admitted) => admitted,
        Err(response) => return Some(response),
    };
    // Its bytes are counted until it is begun to be answered.
    let (bytes, _held) = match body {
        Incoming::Whole(bytes) => (bytes, None),
        Incoming::Asked { go, body } => {
            let _ = go.send(admitted.key().to_owned());
            match body.await {
                Ok(Ok((bytes, held))) => (bytes, Some(held)),
                Ok(Err(error)) => return Some(admitted.refuse(&error)),
                Err(_) => return None,
            }
        }
    };
    Some(service.answer(admitted, bytes).await)
}

async fn pump(mut body: Body, pieces: mpsc::Sender<Option<Bytes>>) {
    loop {
        let piece = tokio::select! {
            piece = body.next() => piece,
            () = pieces.closed() => return,
        };
        let over = piece.is_none();
        if pieces.send(piece).await.is_err() || over {
            return;
        }
    }
}
