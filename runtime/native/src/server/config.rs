//! What a server is told: a TOML file, and flags over it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use firecrest_policy::lanes::{self, Class};
use firecrest_policy::limits::{Budget, Limit, Millis, Tier, check_name};
use firecrest_policy::routing::{Alias, Backend, Model, Table, Where};
use serde::Deserialize;

use crate::{BackendKind, Device, EMBEDDED};

const DAY: Millis = 86_400_000;

/// All of it. `firecrest serve --help` and docs/server.md describe each member.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Whether callers need a key. Without only loopback addresses may be listened on.
    pub auth: bool,
    /// The file with keys and limits; `:memory:` is gone with the process.
    pub store: PathBuf,
    /// Names by which this server may be called (`Host`), besides loopback's own. Protects from pages that point a name of theirs at this machine.
    pub hosts: Vec<String>,
    /// Pages that may call it (`Origin`), as `https://example.org`. Loopback's own always may.
    pub origins: Vec<String>,
    /// Bytes of a request's body at most.
    pub body_limit: usize,
    /// Bytes that the bodies of all requests under way may take together. A key may take as many as are left free; two bodies of the largest size always fit.
    pub bodies: usize,
    /// Connections at once. 0: as many as this process may open files for, and at most 8,192.
    pub connections: usize,
    /// Of these, from one address (of IPv6: one /64 network). 0: as many as are left free.
    pub connections_per_address: usize,
    /// Addresses of proxies before this server, whose `x-forwarded-for` is believed.
    pub proxies: Vec<IpAddr>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Bytes that models may take in memory together. 0: as many as there are.
    pub memory: u64,
    /// What is served, by the name that requests use.
    pub models: Vec<ModelConfig>,
    /// Other names of models: hosted ids that programs have built in. `*` stands for anything; of several that fit, the longest counts.
    pub aliases: BTreeMap<String, String>,
    /// How long requests of each lane may be kept waiting, and how they share the queue.
    pub lanes: lanes::Settings,
    /// Whether fields that change no answer may be dropped (and listed in `firecrest-ignored-fields`), or are refused.
    pub compat: Compat,
    /// What becomes of an answer whose key is out of output tokens.
    pub when_dry: WhenDry,
    /// Accepts `temperature`, `top_p` and `top_k` in version 2026-10-21 too.
    pub relaxed: bool,
    /// A file of safety rules behind those that ship: it adds rules, and changes what follows from those by `[[change]]`.
    pub rules: Option<PathBuf>,
    /// Tiers of keys, by name. Those that ship: `standard`, `priority`, `batch`.
    pub tiers: BTreeMap<String, TierConfig>,
    /// Log lines as JSON.
    pub log_json: bool,
}

/// As [`firecrest_service`] says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compat {
    /// Refuse what can't be done.
    Strict,
    /// Drop what changes no answer.
    #[default]
    Lenient,
}

/// As [`firecrest_service`] says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenDry {
    /// Wait for more.
    #[default]
    Pause,
    /// End there.
    Stop,
}

/// Time limits, in seconds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// For a request's head; also how long a connection may be idle.
    pub head: f64,
    /// For each piece of a request's body. Past the first so many seconds it must also come at 1 KiB a second.
    pub body: f64,
    /// For a whole body.
    pub upload: f64,
    /// For a whole answer.
    pub answer: f64,
    /// For answers that run when the server is told to stop.
    pub drain: f64,
    /// For all work on a request outside the model: reading, judging, rendering, tokenising and compiling.
    pub work: f64,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts { head: 30.0, body: 30.0, upload: 300.0, answer: 600.0, drain: 30.0, work: 10.0 }
    }
}

/// A model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// By which requests name it. As its file is called if not given.
    #[serde(default)]
    pub name: Option<String>,
    /// A GGUF file, a Hugging Face folder, `hf:owner/repo[/file]` once pulled, or `embedded`.
    pub path: String,
    /// Positions of a prompt and its answer together.
    #[serde(default)]
    pub context: Option<u32>,
    /// Answers at once.
    #[serde(default)]
    pub sequences: Option<u32>,
    /// `f16` or `int8`.
    #[serde(default)]
    pub kv_type: Option<String>,
    /// `auto`, `cpu` or `gpu`.
    #[serde(default)]
    pub backend: Option<String>,
    /// Part of an adapter's name.
    #[serde(default)]
    pub adapter: Option<String>,
    /// CPU threads.
    #[serde(default)]
    pub threads: Option<usize>,
    /// It was trained so that the first numbers of its vectors are vectors too (Matryoshka): requests may ask for fewer `dimensions`.
    #[serde(default)]
    pub matryoshka: bool,
    /// Objects of schemas may have members that the schema does not name, where it does not say `additionalProperties`.
    #[serde(default)]
    pub open_objects: bool,
    /// Loads it when the server starts, not when it is first asked for.
    #[serde(default)]
    pub preload: bool,
}

/// What keys of a tier may use. What is not given is not limited.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TierConfig {
    /// Requests a minute.
    pub requests_per_minute: Option<u64>,
    /// Prompt tokens a minute; those read from the cache don't count.
    pub input_tokens_per_minute: Option<u64>,
    /// Generated tokens a minute.
    pub output_tokens_per_minute: Option<u64>,
    /// Prompt and generated tokens together, each day in UTC.
    pub tokens_per_day: Option<u64>,
    /// Requests at once.
    pub concurrent: Option<NonZeroU32>,
    /// 0 is the most urgent, 2 the least.
    pub lane: Option<u8>,
    /// Positions of a prompt that a request may keep in the cache.
    pub pin_quota: Option<u64>,
    /// Answers of a form and calls of tools are told only when they are whole.
    pub whole_blocks: bool,
}

/// A model by its path alone.
impl From<&str> for ModelConfig {
    fn from(path: &str) -> ModelConfig {
        let path = path.to_owned();
        let none = (None, None, None, None);
        let (name, context, sequences, kv_type) = none;
        ModelConfig {
            name,
            path,
            context,
            sequences,
            kv_type,
            backend: None,
            adapter: None,
            threads: None,
            matryoshka: false,
            open_objects: false,
            preload: false,
        }
    }
}

impl ModelConfig {
    /// By which requests name it.
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            if self.path == EMBEDDED {
                return "firecrest-chat".to_owned();
            }
            let last = self.path.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or(&self.path);
            last.strip_suffix(".gguf").unwrap_or(last).to_owned()
        })
    }

    pub(crate) fn device(&self) -> Result<Device, String> {
        let kind = match self.backend.as_deref() {
            None | Some("auto") => BackendKind::Auto,
            Some("cpu") => BackendKind::Cpu,
            Some("gpu") => BackendKind::Gpu,
            Some(other) => return Err(format!("models: {}: backend is `{other}`; it is auto, cpu or gpu", self.name())),
        };
        Ok(Device { kind, adapter: self.adapter.clone(), threads: self.threads })
    }
}

impl Default for Config {
    fn default() -> Config {
        let tiers = ["standard", "priority", "batch"].map(|name| (name, TierConfig::SHIPPED));
        Config {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8484),
            auth: true,
            store: PathBuf::from("firecrest.sqlite"),
            hosts: Vec::new(),
            origins: Vec::new(),
            body_limit: 8 << 20,
            bodies: 256 << 20,
            connections: 0,
            connections_per_address: 0,
            proxies: Vec::new(),
            timeouts: Timeouts::default(),
            memory: 0,
            models: Vec::new(),
            aliases: BTreeMap::new(),
            lanes: lanes::Settings::default(),
            compat: Compat::default(),
            when_dry: WhenDry::default(),
            relaxed: false,
            rules: None,
            tiers: tiers.into_iter().map(|(name, tier)| (name.to_owned(), tier)).collect(),
            log_json: false,
        }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that can't be read, or says what nobody understands: the message names the line.
    pub fn read(path: &Path) -> Result<Config, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut config: Config = toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        for (name, tier) in Config::default().tiers {
            config.tiers.entry(name).or_insert(tier);
        }
        Ok(config)
    }

    /// Whether all of it makes sense together.
    ///
    /// # Errors
    /// What does not, and what to do.
    pub fn check(&self) -> Result<(), String> {
        if !self.auth && !self.listen.ip().is_loopback() {
            let message = "listening on {} without keys would let everybody in; use a loopback address, or keys (`firecrest keys create`)";
            return Err(message.replace("{}", &self.listen.to_string()));
        }
        for (name, tier) in &self.tiers {
            check_name(name).map_err(|why| format!("the name of tier {name:?} {why}"))?;
            tier.tier().map_err(|why| format!("tiers.{name}: {why}"))?;
            if let Some(lane) = tier.lane.filter(|lane| *lane > 2) {
                return Err(format!("tiers.{name}.lane is {lane}; it is 0, 1 or 2"));
            }
        }
        let mut names = std::collections::BTreeSet::new();
        for model in &self.models {
            model.device()?;
            if !matches!(model.kv_type.as_deref(), None | Some("f16" | "int8")) {
                return Err(format!("models: {}: kv_type is f16 or int8", model.name()));
            }
            if !names.insert(model.name()) {
                return Err(format!("two models are called `{}`; give one another name", model.name()));
            }
        }
        let local = |model: &ModelConfig| Model { name: model.name(), on: vec![Where { backend: Backend::Local, model: None }] };
        let table = Table { aliases: self.aliases(), models: self.models.iter().map(local).collect() };
        table.check().map_err(|e| e.to_string())?;
        for origin in &self.origins {
            if origin == "*" && !self.auth {
                return Err("origins may not be `*` without keys: any page could use this server".to_owned());
            }
        }
        if self.body_limit == 0 {
            return Err("body_limit is 0: no request would have room; give bytes".to_owned());
        }
        for (name, seconds) in self.timeouts.named() {
            if !(seconds > 0.0 && seconds <= 86_400.0) {
                return Err(format!("timeouts.{name} is {seconds}; it must be above 0 and at most 86400 seconds"));
            }
        }
        Ok(())
    }
}

impl Config {
    /// Other names of models, those that say most first.
    pub(crate) fn aliases(&self) -> Vec<Alias> {
        let alias = |(pattern, model): (&String, &String)| Alias { pattern: pattern.clone(), model: model.clone() };
        let mut aliases: Vec<Alias> = self.aliases.iter().map(alias).collect();
        aliases.sort_by_key(|alias| std::cmp::Reverse(alias.pattern.len()));
        aliases
    }
}

impl Timeouts {
    fn named(&self) -> [(&'static str, f64); 6] {
        [
            ("head", self.head),
            ("body", self.body),
            ("upload", self.upload),
            ("answer", self.answer),
            ("drain", self.drain),
            ("work", self.work),
        ]
    }

    pub(crate) fn head(&self) -> Duration {
        Duration::from_secs_f64(self.head)
    }

    pub(crate) fn body(&self) -> Duration {
        Duration::from_secs_f64(self.body)
    }

    pub(crate) fn upload(&self) -> Duration {
        Duration::from_secs_f64(self.upload)
    }

    pub(crate) fn answer(&self) -> Duration {
        Duration::from_secs_f64(self.answer)
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs_f64(self.drain)
    }

    pub(crate) fn work(&self) -> Duration {
        Duration::from_secs_f64(self.work)
    }
}

impl TierConfig {
    /// What the tiers that ship allow: more than a program needs that behaves, less than one that went wrong takes.
    pub const SHIPPED: TierConfig = TierConfig {
        requests_per_minute: Some(6000),
        input_tokens_per_minute: None,
        output_tokens_per_minute: None,
        tokens_per_day: None,
        concurrent: NonZeroU32::new(128),
        whole_blocks: false,
        lane: None,
        pin_quota: Some(16_384),
    };

    /// How urgent keys of this tier may be: what it says, else what its name means, else lane 1.
    pub(crate) fn class(&self, name: &str) -> Class {
        match (self.lane, name) {
            (Some(0), _) | (None, "priority") => Class::Priority,
            (Some(2..), _) | (None, "batch") => Class::Batch,
            _ => Class::Standard,
        }
    }

    /// As the limiter takes it.
    pub(crate) fn tier(&self) -> Result<Tier, String> {
        let limit = |each: Option<u64>| each.map(|each| Limit::per_minute(each).map_err(|e| e.to_string())).transpose();
        Ok(Tier {
            requests: limit(self.requests_per_minute)?,
            input: limit(self.input_tokens_per_minute)?,
            output: limit(self.output_tokens_per_minute)?,
            concurrent: self.concurrent,
            budget: self.tokens_per_day.map(|tokens| Budget::new(tokens, DAY).map_err(|e| e.to_string())).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_file_is_read() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/server.toml");
        let config = Config::read(Path::new(path)).expect("docs/server.toml");
        config.check().expect("docs/server.toml makes sense");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let wrong = |config: Config| config.check().expect_err("a mistake");
        let open = Config { auth: false, listen: "0.0.0.0:1".parse().expect("an address"), ..Config::default() };
        assert!(wrong(open).contains("keys create"));
        let twice = Config { models: vec!["a.gguf".into(), "b/a.gguf".into()], ..Config::default() };
        assert!(wrong(twice).contains("two models"));
        let model = |name: &str| ("x-*".to_owned(), name.to_owned());
        let aliased = |name| Config { models: vec!["a.gguf".into()], aliases: [model(name)].into(), ..Config::default() };
        assert!(wrong(aliased("b")).contains("there is no model `b`"));
        aliased("a").check().expect("a model that there is");
        let lane = TierConfig { lane: Some(3), ..TierConfig::default() };
        assert!(wrong(Config { tiers: [("x".to_owned(), lane)].into(), ..Config::default() }).contains("tiers.x.lane"));
        let tiers = [("a\nb".to_owned(), TierConfig::default())].into();
        assert!(wrong(Config { tiers, ..Config::default() }).contains(r#"the name of tier "a\nb" has the character U+000A"#));
        let classes = [Class::Priority, Class::Standard, Class::Standard, Class::Batch];
        assert_eq!(["priority", "standard", "mine", "batch"].map(|name| TierConfig::default().class(name)), classes);
    }
}
