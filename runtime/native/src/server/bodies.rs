//! Bodies of requests on their way in: how long they may take, and how many bytes of them are held at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use firecrest_contract::error::{ApiError, ErrorKind};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::config::Config;

/// Bytes that must come in a second, beside the first `timeouts.body`.
const SLOWEST: f64 = 1024.0;

/// When a caller may try again whose body found no room.
const AGAIN: u64 = 1000;

/// The bytes that all bodies may hold together.
///
/// A key may hold as much as is left free. So one alone takes half of all, two take a third each, and there is room for one more however many there are.
pub(super) struct Bodies {
    most: usize,
    held: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    total: usize,
    by_key: HashMap<Arc<str>, usize>,
}

/// Bytes of a body that are counted, until this is dropped.
pub(super) struct Held {
    bodies: Arc<Bodies>,
    key: Arc<str>,
    bytes: usize,
}

impl Bodies {
    /// At least two of the largest body have room: one of a key, and as much left for others.
    pub(super) fn new(config: &Config) -> Arc<Bodies> {
        let most = config.bodies.max(config.body_limit.saturating_mul(2));
        Arc::new(Bodies { most, held: Mutex::default() })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(self: &Arc<Bodies>, key: &str) -> Held {
        Held { bodies: Arc::clone(self), key: key.into(), bytes: 0 }
    }

    /// Reads a body of this key.
    ///
    /// # Errors
    /// A body that is too large, too slow or cut off; 429 if its key holds its share of all bodies, and 503 if there is no room for anybody.
    pub(super) async fn read(self: &Arc<Bodies>, mut body: Body, key: &str, config: &Config) -> Result<(Bytes, Held), ApiError> {
        let (mut held, began, mut first, mut rest) = (self.hold(key), Instant::now(), Bytes::new(), Vec::new());
        loop {
            let piece = Instant::now() + config.timeouts.body();
            let slow = config.timeouts.body() + Duration::from_secs_f64(held.bytes as f64 / SLOWEST);
            let whole = began + slow.min(config.timeouts.upload());
            let data = match timeout_at(piece.min(whole), body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Ok(Some(Err(_))) => return Err(ApiError::new(ErrorKind::InvalidRequest, "the body did not come whole")),
                Err(_) => return Err(too_slow(piece <= whole, held.bytes, began, config)),
            };
            if held.bytes.saturating_add(data.len()) > config.body_limit {
                return Err(too_large(config));
            }
            held.grow(data.len())?;
            // Most bodies come in one piece, which need not be copied.
            if first.is_empty() && rest.is_empty() {
                first = data;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&std::mem::take(&mut first));
                }
                rest.extend_from_slice(&data);
            }
        }
        Ok((if rest.is_empty() { first } else { rest.into() }, held))
    }
}

impl Held {
    fn grow(&mut self, more: usize) -> Result<(), ApiError> {
        let mut counts = self.bodies.counts();
        let own = counts.by_key.get(&self.key).copied().unwrap_or_default();
        let free = self.bodies.most.saturating_sub(counts.total).saturating_sub(more);
        if own.saturating_add(more) > free {
            // Whoever has nothing but this body under way is not to blame.
            return Err(match own == self.bytes {
                true => busy("the bodies of other requests take all the room there is"),
                false => {
                    let message = "too many bytes of this key's requests are under way; wait until some of them are answered";
                    ApiError::new(ErrorKind::RateLimit, message).retry_after_ms(AGAIN)
                }
            });
        }
        counts.total += more;
        *counts.by_key.entry(Arc::clone(&self.key)).or_default() += more;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut counts = self.bodies.counts();
        counts.total -= self.bytes;
        if let Some(own) = counts.by_key.get_mut(&self.key) {
            *own -= self.bytes;
            if *own == 0 {
                counts.by_key.remove(&self.key);
            }
        }
    }
}

/// What a caller is told whom there is no room for.
pub(super) fn busy(why: &str) -> ApiError {
    ApiError::new(ErrorKind::Overloaded, format!("{why}; try again in a second")).code("server_busy").retry_after_ms(AGAIN)
}

pub(super) fn too_large(config: &Config) -> ApiError {
    ApiError::new(ErrorKind::TooLarge, format!("the body is larger than {} bytes", config.body_limit))
}

fn too_slow(paused: bool, bytes: usize, began: Instant, config: &Config) -> ApiError {
    let message = match paused {
        true => format!("nothing more of the body came for {} seconds; send the request again", config.timeouts.body),
        false => format!("the body comes too slowly: {bytes} bytes in {} seconds; send it faster", began.elapsed().as_secs()),
    };
    ApiError::new(ErrorKind::InvalidRequest, message).code("request_timeout")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(most: usize) -> Arc<Bodies> {
        Arc::new(Bodies { most, held: Mutex::default() })
    }

    #[test]
    fn a_key_holds_as_much_as_it_leaves() {
        let bodies = bodies(1200);
        let fill = |key: &str| {
            let mut all = Vec::new();
            loop {
                let mut held = bodies.hold(key);
                match held.grow(10) {
                    Ok(()) => all.push(held),
                    Err(error) => return (all, error),
                }
            }
        };
        let (first, refused) = fill("a");
        assert_eq!((first.len(), refused.status()), (60, 429));
        assert!(refused.retry_after_ms.is_some());
        let (second, _) = fill("b");
        assert_eq!(second.len(), 30);
        let (third, _) = fill("c");
        assert_eq!(third.len(), 15);
        drop((first, second));
        let counted = || {
            let counts = bodies.counts();
            (counts.total, counts.by_key.len())
        };
        assert_eq!(counted(), (150, 1));
        drop(third);
        assert_eq!(counted(), (0, 0));
        // One that asks for more than there is, and has nothing else, is told that it is not its fault.
        assert_eq!(bodies.hold("d").grow(1000).expect_err("no room").status(), 503);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_body_has_a_slowest_pace_and_an_end() {
        let mut config = Config { body_limit: 1 << 20, ..Config::default() };
        (config.timeouts.body, config.timeouts.upload) = (0.3, 0.6);
        let sent = |size: usize| {
            let pieces = futures_util::stream::unfold((), move |()| async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Some((Ok::<_, std::io::Error>(Bytes::from(vec![b' '; size])), ()))
            });
            Body::from_stream(pieces)
        };
        let bodies = bodies(1 << 30);
        // A byte now and then is no pause, and no pace.
        let error = bodies.read(sent(1), "k", &config).await.err().expect("too slow");
        assert!(error.status() == 408 && error.message.contains("too slowly: "), "{error}");
        // A pace that is kept has an end too.
        let error = bodies.read(sent(2048), "k", &config).await.err().expect("too long");
        assert!(error.status() == 408 && error.message.contains("too slowly: "), "{error}");
        // And what comes fast is read as far as it may go.
        let error = bodies.read(sent(1 << 19), "k", &config).await.err().expect("too large");
        assert_eq!(error.status(), 413);
        let (whole, held) = bodies.read(Body::from("{}"), "k", &config).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((whole.as_ref(), bodies.counts().total), (b"{}".as_slice(), 2));
        drop(held);
        assert_eq!(bodies.counts().total, 0);
    }
}
