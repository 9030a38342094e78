//! The service without HTTP, for programs that embed it: the same requests, answers, keys, limits and rules, and no socket.

use std::sync::Arc;

use bytes::Bytes;
use firecrest_service::refusal;
use http::{Request, Response};
use tokio::sync::{mpsc, oneshot};

use super::config::{Config, ModelConfig};
use super::listen::{Incoming, Job, pass};
use super::metrics::Metrics;
use super::{Scripted, Server};

/// What a server serves, in this process. It has a thread of its own, and each model one; futures of it need no runtime.
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::BodyExt;
///
/// let service = firecrest::Service::builder().model("embedded").without_keys().build()?;
/// let request = http::Request::post("/v1/messages")
///     .header("anthropic-version", "2023-06-01")
///     .body(Bytes::from(r#"{"model": "firecrest-chat", "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}]}"#))?;
/// pollster::block_on(async {
///     let response = service.call(request).await;
///     assert_eq!(response.status(), 200);
///     let body = response.into_body().collect().await.expect("the whole answer").to_bytes();
///     assert!(body.starts_with(b"{\"id\":\"msg_"));
///     service.stop().await;
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Service {
    jobs: mpsc::Sender<Job>,
    /// Ends with its thread.
    ended: oneshot::Receiver<()>,
    metrics: Arc<Metrics>,
}

impl Service {
    /// What there is to say before it starts.
    pub fn builder() -> Builder {
        Builder { config: Config { store: ":memory:".into(), ..Config::default() }, scripted: Vec::new() }
    }

    pub(super) fn new(jobs: mpsc::Sender<Job>, ended: oneshot::Receiver<()>, metrics: Arc<Metrics>) -> Service {
        Service { jobs, ended, metrics }
    }

    /// A request in, its response out, as over HTTP: paths, headers and bodies are those of docs/server.md. A body that is dropped cancels what makes it; one
    /// whose end is an error was cut.
    pub async fn call(&self, request: Request<Bytes>) -> Response<axum::body::Body> {
        let (parts, body) = request.into_parts();
        let dialect = refusal::dialect_of(&parts.uri, &parts.headers);
        let (reply, answer) = oneshot::channel();
        pass(&self.jobs, Job { parts, body: Incoming::Whole(body), reply }, answer, dialect).await
    }

    /// What a server says under `/readyz`: whether every model with `preload` was in memory by now, and none is unhealthy.
    pub fn is_ready(&self) -> bool {
        self.metrics.models_are_ready()
    }

    /// What a server shows under `/metrics`: OpenMetrics text.
    pub fn metrics(&self) -> String {
        self.metrics.text()
    }

    /// Waits until answers under way have ended, each at its time limit at the latest, and limits are written. Dropped, it ends so too, and nobody waits.
    pub async fn stop(self) {
        drop(self.jobs);
        let _ = self.ended.await;
    }
}

/// A service or a server that is not begun. Keys are asked for, and kept in memory only, if nothing else is said.
pub struct Builder {
    config: Config,
    scripted: Vec<(String, Box<dyn FnOnce() -> Scripted + Send>)>,
}

impl Builder {
    /// Everything at once. What was said before is forgotten.
    pub fn config(self, config: Config) -> Builder {
        Builder { config, ..self }
    }

    /// Serves this model too: a path, `embedded`, or all that there is to say of it.
    pub fn model(mut self, model: impl Into<ModelConfig>) -> Builder {
        self.config.models.push(model.into());
        self
    }

    /// Asks nobody for a key: whoever can reach it may use it.
    pub fn without_keys(mut self) -> Builder {
        self.config.auth = false;
        self
    }

    /// Keeps keys and limits in this file.
    pub fn store(mut self, path: impl Into<std::path::PathBuf>) -> Builder {
        self.config.store = path.into();
        self
    }

    /// Serves a script under a model's name: for tests of what stands around models.
    pub fn scripted(mut self, name: &str, script: impl FnOnce() -> Scripted + Send + 'static) -> Builder {
        self.scripted.push((name.to_owned(), Box::new(script)));
        self
    }

    /// The service in this process.
    ///
    /// # Errors
    /// What is wrong with the configuration, the store or the rules; a thread that can't be made.
    pub fn build(self) -> Result<Service, String> {
        self.server()?.in_process()
    }

    /// The same behind HTTP.
    ///
    /// # Errors
    /// What is wrong with the configuration, the store or the rules.
    pub fn server(self) -> Result<Server, String> {
        let mut server = Server::new(self.config)?;
        server.scripted = self.scripted;
        Ok(server)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn what_http_answers_is_answered_without_it() {
        let service = Service::builder().scripted("hello", || Scripted::saying(&["hi there"])).without_keys().build().expect("a service");
        let ask = |path: &str, body: &str| {
            let request =
                Request::post(path).header("anthropic-version", "2023-06-01").body(Bytes::from(body.to_owned())).expect("a request");
            pollster::block_on(async {
                let response = service.call(request).await;
                let (parts, body) = response.into_parts();
                (parts.status.as_u16(), String::from_utf8(body.collect().await.expect("whole").to_bytes().to_vec()).expect("text"))
            })
        };
        let body = |stream: bool| {
            format!(r#"{{"model": "hello", "max_tokens": 8, "stream": {stream}, "messages": [{{"role": "user", "content": "Hi"}}]}}"#)
        };
        let (status, whole) = ask("/v1/messages", &body(false));
        assert!(status == 200 && whole.contains(r#""text":"hi there""#), "{whole}");
        let (status, stream) = ask("/v1/messages", &body(true));
        assert!(status == 200 && stream.contains("event: message_stop"), "{stream}");
        assert_eq!(ask("/v1/messages", "{}").0, 400);
        assert_eq!(ask("/nowhere", "{}").0, 404);
        assert!(service.metrics().contains(r#"outcome="end_turn""#), "{}", service.metrics());
        pollster::block_on(service.stop());
    }

    /// Longer than for what is settled behind answers.
    #[test]
    fn stopping_waits_for_answers_that_run() {
        let script = || {
            let pace = std::rc::Rc::new(|_: usize| -> std::pin::Pin<Box<dyn Future<Output = ()>>> {
                Box::pin(tokio::time::sleep(std::time::Duration::from_millis(300)))
            });
            Scripted::saying(&["one two three four five"]).at_pace(pace)
        };
        let service = Service::builder().scripted("slow", script).without_keys().build().expect("a service");
        let body = r#"{"model": "slow", "max_tokens": 8, "stream": true, "messages": [{"role": "user", "content": "Hi"}]}"#;
        let request = Request::post("/v1/messages").header("anthropic-version", "2023-06-01").body(Bytes::from(body)).expect("a request");
        let stream = pollster::block_on(async {
            let response = service.call(request).await;
            futures_util::future::join(response.into_body().collect(), service.stop()).await.0
        });
        let stream = String::from_utf8(stream.expect("whole").to_bytes().to_vec()).expect("text");
        assert!(stream.contains("five") && stream.contains("event: message_stop"), "{stream}");
    }
}
