//! The API over HTTP: `firecrest serve`, and the same for programs that embed it.
//!
//! ```no_run
//! use firecrest::server::{Server, config::{Config, ModelConfig}};
//!
//! let config = Config { auth: false, models: vec![ModelConfig::from("model.gguf")], ..Config::default() };
//! Server::new(config)?.run(|address| println!("listening on {address}"))?;
//! # Ok::<(), String>(())
//! ```
//!
//! One thread speaks HTTP and runs the service: a request that changed threads twice would wait longer for that than for all that is done for it. Each
//! model in memory has a thread that steps its engine, and one more writes the states of limits. Between them are bounded queues.

mod backend;
pub mod config;
mod host;
mod in_process;
mod listen;
mod metrics;
mod models;
mod offload;
mod service_task;
pub mod store;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firecrest_policy::safety::rules::{Policy, STANDARD};
use firecrest_service::service::{self, Options};
use tokio::sync::{mpsc, oneshot};

use config::{Compat, Config, WhenDry};
use host::NativeHost;
use metrics::Metrics;
use models::Models;
use store::Store;

pub use backend::Scripted;
pub use in_process::{Builder, Service};

/// Requests that wait for the service to look at them, which takes it microseconds each.
const JOBS: usize = 1024;

/// How much longer than answers may run a server may take to end: to settle what they took, and to write it.
const UNDRAINED: Duration = Duration::from_secs(5);

/// A server that is ready to run.
pub struct Server {
    config: Config,
    policy: Policy,
    scripted: Vec<(String, models::Script)>,
    store: Store,
}

impl Server {
    /// A server, with its store open and its rules read.
    ///
    /// # Errors
    /// What is wrong with the configuration, the store or the rules.
    pub fn new(config: Config) -> Result<Server, String> {
        config.check()?;
        let policy = match &config.rules {
            None => Policy::standard().map_err(|e| e.to_string())?,
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
                Policy::load([STANDARD, text.as_str()]).map_err(|e| format!("{}: {e}", path.display()))?
            }
        };
        let store = if config.store == Path::new(":memory:") { Store::in_memory() } else { Store::open(&config.store) };
        let store = store.map_err(|e| e.to_string())?;
        Ok(Server { config, policy, scripted: Vec::new(), store })
    }

    /// Whether keys are asked for, and there are none.
    pub fn needs_a_key(&self) -> bool {
        self.config.auth && self.store.list().is_ok_and(|keys| keys.is_empty())
    }

    /// The store, to make keys in:
    ///
    /// ```
    /// let server = firecrest::Service::builder().model("embedded").server()?;
    /// let (_, secret) = server.store().create("my program", "standard", false).map_err(|e| e.to_string())?;
    /// let service = server.in_process()?;
    /// let request = http::Request::get("/v1/models").header("x-api-key", secret.expose()).body(bytes::Bytes::new());
    /// pollster::block_on(async {
    ///     assert_eq!(service.call(request.expect("a request")).await.status(), 200);
    ///     service.stop().await;
    /// });
    /// # Ok::<(), String>(())
    /// ```
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Serves a script under a model's name: for tests of what stands around models.
    pub fn scripted(mut self, name: &str, script: impl FnOnce() -> Scripted + Send + 'static) -> Server {
        self.scripted.push((name.to_owned(), Box::new(script)));
        self
    }

    /// Serves until the process is told to stop (SIGTERM, SIGINT), then until answers have ended.
    ///
    /// # Errors
    /// An address that can't be listened on.
    pub fn run(self, ready: impl FnOnce(SocketAddr)) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        runtime.block_on(async {
            let stop = signals()?;
            self.serve(ready, stop).await
        })
    }

    /// Serves until `stop` is ready, inside a runtime of the caller's.
    ///
    /// # Errors
    /// An address that can't be listened on; a thread that can't be made.
    pub async fn serve(self, ready: impl FnOnce(SocketAddr), stop: impl Future<Output = ()>) -> Result<(), String> {
        let (started, starting) = oneshot::channel();
        let (stopping, stopped) = oneshot::channel();
        // Nothing is ever sent: it ends with the thread, however that ends.
        let (over, mut ended) = oneshot::channel::<()>();
        let most = self.config.timeouts.drain() + UNDRAINED;
        let thread = std::thread::Builder::new().name("server".to_owned()).spawn(move || {
            let _over = over;
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    runtime.block_on(self.serve_here(started, stopped));
                    // A model that is being loaded may take without an end.
                    runtime.shutdown_background();
                }
                Err(error) => drop(started.send(Err(error.to_string()))),
            }
        });
        let thread = thread.map_err(|e| format!("no thread for the server: {e}"))?;
        ready(starting.await.map_err(|_| "the server's thread ended at once".to_owned())??);
        tokio::select! {
            () = stop => {
                let _ = stopping.send(());
                if tokio::time::timeout(most, &mut ended).await.is_err() {
                    // Whoever runs this ends the process, and with it what still runs.
                    tracing::error!("the server did not end in its time; what it still does is given up");
                    return Ok(());
                }
            }
            _ = &mut ended => (),
        }
        thread.join().map_err(|_| "the server's thread panicked".to_owned())
    }

    /// The service alone, in this process: what [`Builder::build`] makes, for those who first made keys in [`Server::store`].
    ///
    /// # Errors
    /// What is wrong with the models; a thread that can't be made.
    pub fn in_process(self) -> Result<Service, String> {
        let (started, starting) = std::sync::mpsc::sync_channel(1);
        let (over, mut ended) = oneshot::channel::<()>();
        let (jobs, taken) = mpsc::channel(JOBS);
        let thread = std::thread::Builder::new().name("service".to_owned()).spawn(move || {
            let _over = over;
            let made = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|e| e.to_string());
            let made = made.and_then(|runtime| self.made().map(|made| (runtime, made)));
            match made {
                Ok((runtime, Made { service, config, metrics })) => {
                    let _ = started.send(Ok(Arc::clone(&metrics)));
                    // Each answer has its end: nobody is there to cut it.
                    let answer = config.timeouts.answer();
                    runtime.block_on(service_task::run(service, taken, metrics, answer, answer + service_task::UNREAD));
                }
                Err(error) => drop(started.send(Err(error))),
            }
        });
        thread.map_err(|e| format!("no thread for the service: {e}"))?;
        let metrics = starting.recv().map_err(|_| "the service's thread ended at once".to_owned())??;
        Ok(Service::new(jobs, ended, metrics))
    }

    /// The service, made where it will run.
    fn made(self) -> Result<Made, String> {
        let Server { config, policy, scripted, store } = self;
        let (config, metrics, began) = (Arc::new(config), Arc::new(Metrics::new()), Instant::now());
        let models = Models::new(&config, scripted, Arc::clone(&metrics), began)?;
        let host = NativeHost::new(&config, store, models, Arc::clone(&metrics), began)?;
        let service = service::Service::new(std::rc::Rc::new(host), options(&config, policy));
        Ok(Made { service, config, metrics })
    }

    /// The server's thread. `started` hears where it listens, or why it does not; told `stopped`, it ends.
    async fn serve_here(self, started: oneshot::Sender<Result<SocketAddr, String>>, stopped: oneshot::Receiver<()>) {
        let made = async {
            let listener = listen::bind(self.config.listen).await?;
            let listen = listener.local_addr().map_err(|e| e.to_string())?;
            let made = Server { config: Config { listen, ..self.config }, ..self }.made()?;
            Ok((listener, made))
        };
        let (listener, Made { service, config, metrics }) = match made.await {
            Ok(made) => made,
            Err(error) => return drop(started.send(Err(error))),
        };
        let (jobs, taken) = mpsc::channel(JOBS);
        // Answers are waited for where their connections are.
        let service = service_task::run(service, taken, Arc::clone(&metrics), config.timeouts.answer(), Duration::ZERO);
        if started.send(Ok(config.listen)).is_ok() {
            let stop = async { drop(stopped.await) };
            // The service's queue is closed with the last connection.
            tokio::join!(service, listen::serve(listener, config, jobs, metrics, stop));
        }
    }
}

/// A service that is ready to run, on the thread that it was made on.
struct Made {
    service: service::Service<NativeHost>,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
}

fn options(config: &Config, policy: Policy) -> Options {
    Options {
        head_after: Duration::from_secs(5),
        quiet: Duration::from_secs(10),
        answer_limit: config.timeouts.answer(),
        work_limit: config.timeouts.work(),
        lenient: config.compat == Compat::Lenient,
        when_dry: match config.when_dry {
            WhenDry::Pause => firecrest_service::lease::WhenDry::Pause,
            WhenDry::Stop => firecrest_service::lease::WhenDry::Stop,
        },
        relaxed: config.relaxed,
        aliases: config.aliases(),
        lanes: config.lanes.clone(),
        safety: Arc::new(policy),
    }
}

/// Ready when the process is told to stop.
fn signals() -> Result<impl Future<Output = ()>, String> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let hear = |kind| signal(kind).map_err(|e| format!("signals can't be heard: {e}"));
        let (mut terminate, mut interrupt) = (hear(SignalKind::terminate())?, hear(SignalKind::interrupt())?);
        Ok(async move {
            tokio::select! {
                _ = terminate.recv() => (),
                _ = interrupt.recv() => (),
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

/// Log lines on stderr, as `RUST_LOG` says; coloured where a person reads them.
pub fn log(json: bool) {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A program that embeds us may log already.
    let _ = match json {
        true => builder.json().try_init(),
        false => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
}
