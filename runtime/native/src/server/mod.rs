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
mod bodies;
pub mod config;
mod connections;
mod health;
mod host;
mod in_process;
mod listen;
mod log;
mod metrics;
mod models;
mod offload;
mod readiness;
mod service_task;
pub mod store;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firecrest_policy::safety::rules::{Policy, STANDARD};
use firecrest_service::service::{self, Options};
use tokio::sync::{mpsc, oneshot};

use config::{Compat, Config, WhenDry};
use host::{NativeHost, Parts};
use listen::Ports;
use metrics::Metrics;
use models::Models;
use readiness::Readiness;
use service_task::Reload;
use store::Store;

pub use backend::Scripted;
pub use in_process::{Builder, Service};
pub use log::{flush as flush_log, log};

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
    reload: Option<Source>,
    reloads: (mpsc::UnboundedSender<Reload>, mpsc::UnboundedReceiver<Reload>),
}

/// Gives the configuration as it is now.
type Source = Box<dyn Fn() -> Result<Config, String> + Send>;

impl Server {
    /// A server, with its store open and its rules read.
    ///
    /// # Errors
    /// What is wrong with the configuration, the store or the rules.
    pub fn new(config: Config) -> Result<Server, String> {
        config.check()?;
        let policy = rules(&config)?;
        let store = if config.store == Path::new(":memory:") { Store::in_memory() } else { Store::own(&config.store) };
        let store = store.map_err(|e| e.to_string())?;
        Ok(Server { config, policy, scripted: Vec::new(), store, reload: None, reloads: mpsc::unbounded_channel() })
    }

    /// Where [`Server::run`] finds the configuration again, when the process is told to read it (SIGHUP). Of it tiers, rules, aliases, lanes and what else
    /// takes no other socket, store or model hold from then on; the rest waits for a restart.
    pub fn reloading(mut self, source: impl Fn() -> Result<Config, String> + Send + 'static) -> Server {
        self.reload = Some(Box::new(source));
        self
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
    pub fn run(mut self, ready: impl FnOnce(SocketAddr)) -> Result<(), String> {
        connections::raise_descriptors();
        let (source, reloads) = (self.reload.take(), self.reloads.0.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        runtime.block_on(async {
            let (stop, again) = (signals()?, reloading(source, reloads)?);
            let served = tokio::select! {
                served = self.serve(ready, stop) => served,
                never = again => match never {},
            };
            log::flush();
            served
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
        let (over, ended) = oneshot::channel::<()>();
        let (jobs, taken) = mpsc::channel(JOBS);
        let thread = std::thread::Builder::new().name("service".to_owned()).spawn(move || {
            let _over = over;
            let made = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|e| e.to_string());
            let made = made.and_then(|runtime| self.made().map(|made| (runtime, made)));
            match made {
                Ok((runtime, Made { service, config, metrics, reloads, .. })) => {
                    let _ = started.send(Ok(Arc::clone(&metrics)));
                    // Each answer has its end: nobody is there to cut it.
                    let answer = config.timeouts.answer();
                    runtime.block_on(service_task::run(service, taken, reloads, metrics, answer, answer + service_task::UNREAD));
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
        let Server { config, policy, scripted, store, reloads: (_, reloads), .. } = self;
        let (config, metrics, readiness, began) =
            (Arc::new(config), Arc::new(Metrics::new()), Arc::new(Readiness::default()), Instant::now());
        let models = Models::new(&config, scripted, Arc::clone(&metrics), began)?;
        let parts = Parts { metrics: Arc::clone(&metrics), readiness: Arc::clone(&readiness), began };
        let host = NativeHost::new(&config, store, models, parts)?;
        let service = service::Service::new(std::rc::Rc::new(host), options(&config, policy));
        Ok(Made { service, config, metrics, readiness, reloads })
    }

    /// The server's thread. `started` hears where it listens, or why it does not; told `stopped`, it ends.
    async fn serve_here(self, started: oneshot::Sender<Result<SocketAddr, String>>, stopped: oneshot::Receiver<()>) {
        let made = async {
            let listener = listen::bind(self.config.listen).await?;
            let listen = listener.local_addr().map_err(|e| e.to_string())?;
            let made = Server { config: Config { listen, ..self.config }, ..self }.made()?;
            Ok((listener, made))
        };
        let (listener, Made { service, config, metrics, readiness, reloads }) = match made.await {
            Ok(made) => made,
            Err(error) => return drop(started.send(Err(error))),
        };
        let (jobs, taken) = mpsc::channel(JOBS);
        // Answers are waited for where their connections are.
        let service = service_task::run(service, taken, reloads, Arc::clone(&metrics), config.timeouts.answer(), Duration::ZERO);
        if started.send(Ok(config.listen)).is_ok() {
            let stop = async { drop(stopped.await) };
            // The service's queue is closed with the last connection.
            tokio::join!(service, listen::serve(listener, config, Ports { jobs, metrics, readiness }, stop));
        }
    }
}

/// A service that is ready to run, on the thread that it was made on.
struct Made {
    service: service::Service<NativeHost>,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    reloads: mpsc::UnboundedReceiver<Reload>,
}

/// The safety rules that ship, and those of the configuration.
fn rules(config: &Config) -> Result<Policy, String> {
    let Some(path) = &config.rules else { return Policy::standard().map_err(|e| e.to_string()) };
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Policy::load([STANDARD, text.as_str()]).map_err(|e| format!("{}: {e}", path.display()))
}

/// What a configuration changes in a server that runs.
fn reload(config: &Config) -> Result<Reload, String> {
    config.check()?;
    Ok(Reload { options: options(config, rules(config)?), tiers: host::tiers(config)? })
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

/// Reads the configuration again each time the process is told to, for as long as it is polled. What is wrong with it is logged, and changes nothing.
fn reloading(source: Option<Source>, reloads: mpsc::UnboundedSender<Reload>) -> Result<impl Future<Output = Infallible>, String> {
    #[cfg(unix)]
    let mut told = {
        use tokio::signal::unix::{SignalKind, signal};
        let hear = |kind| signal(kind).map_err(|e| format!("signals can't be heard: {e}"));
        (hear(SignalKind::hangup())?, [hear(SignalKind::user_defined1())?, hear(SignalKind::user_defined2())?])
    };
    Ok(async move {
        #[cfg(unix)]
        while told.0.recv().await.is_some() {
            let Some(source) = &source else {
                tracing::warn!("there is no configuration to read again");
                continue;
            };
            match source().and_then(|config| reload(&config)) {
                Ok(reload) => {
                    let _ = reloads.send(reload);
                    tracing::info!("the configuration was read again");
                }
                Err(error) => tracing::error!(error, "the configuration can't be read again; the one before it holds"),
            }
        }
        let _ = (&source, &reloads);
        std::future::pending().await
    })
}
