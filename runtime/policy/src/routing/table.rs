//! Which models there are, under which names, and where.

use std::fmt;

use firecrest_contract::error::{ApiError, ErrorKind, plain};
use serde::{Deserialize, Serialize};

/// Longest name of a model that is looked at. What is longer is no model's.
const LONGEST: usize = 256;

/// Names that tools have built in, by families. An operator who wants those tools to work maps them to a model of its own
/// ([`Alias::hosted`]).
pub const HOSTED: [&str; 8] = ["claude-*", "anthropic/claude-*", "gpt-*", "openai/gpt-*", "chatgpt-*", "o1*", "o3*", "o4*"];

/// Who computes an answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Backend {
    /// The engine in this process: `local`.
    Local,
    /// An upstream, by the name that the operator gave it.
    Remote(String),
}

impl From<String> for Backend {
    fn from(name: String) -> Backend {
        if name == "local" { Backend::Local } else { Backend::Remote(name) }
    }
}

impl From<Backend> for String {
    fn from(backend: Backend) -> String {
        match backend {
            Backend::Local => "local".to_owned(),
            Backend::Remote(name) => name,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Local => "local",
            Backend::Remote(name) => name,
        })
    }
}

/// A backend, and a model by its name there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Which backend.
    pub backend: Backend,
    /// What it calls the model.
    pub model: String,
}

/// A name that stands for a model. One step: the model is no alias again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alias {
    /// What callers say. `*` is any text, the empty one too.
    pub pattern: String,
    /// The model that is meant.
    pub model: String,
}

impl Alias {
    /// What tools have built in ([`HOSTED`]), all for one model.
    pub fn hosted(model: &str) -> Vec<Alias> {
        HOSTED.iter().map(|pattern| Alias { pattern: (*pattern).to_owned(), model: model.to_owned() }).collect()
    }
}

/// A model that is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What callers say. `*` is any text, for upstreams that serve more than anybody lists.
    pub name: String,
    /// By whom, best first.
    pub on: Vec<Where>,
}

/// Where a model is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Where {
    /// By whom.
    pub backend: Backend,
    /// Under which name there; as the caller says it if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// All models and their other names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Table {
    /// Other names. Exact ones go before patterns, patterns in order.
    pub aliases: Vec<Alias>,
    /// What is served. Exact names go before all aliases, patterns behind them and in order.
    pub models: Vec<Model>,
}

/// A table that can't be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableError {
    path: String,
    why: String,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.why)
    }
}

impl std::error::Error for TableError {}

impl Table {
    /// Whether all that it says can be followed.
    ///
    /// # Errors
    /// A model that is served nowhere, an alias of none, a name twice or too long.
    pub fn check(&self) -> Result<(), TableError> {
        let wrong = |path: String, why: String| Err(TableError { path, why });
        let mut seen = std::collections::BTreeSet::new();
        for (n, model) in self.models.iter().enumerate() {
            named(&model.name, || format!("models.{n}.name"), &mut seen)?;
            if model.on.is_empty() {
                return wrong(format!("models.{n}.on"), format!("{} is served nowhere; name a backend", quoted(&model.name)));
            }
            if let Some(m) = model.on.iter().position(|w| w.backend == Backend::Remote(String::new())) {
                return wrong(format!("models.{n}.on.{m}.backend"), "the name is empty; say local, or an upstream's name".to_owned());
            }
            let nameless = model.on.iter().position(|w| w.backend == Backend::Local && w.model.is_none() && model.name.contains('*'));
            if let Some(m) = nameless {
                return wrong(format!("models.{n}.on.{m}.model"), "a pattern does not say which local model is meant; name it".to_owned());
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        for (n, alias) in self.aliases.iter().enumerate() {
            named(&alias.pattern, || format!("aliases.{n}.pattern"), &mut seen)?;
            if self.model(&alias.model).is_none() {
                return wrong(format!("aliases.{n}.model"), format!("there is no model {}", quoted(&alias.model)));
            }
        }
        Ok(())
    }

    /// Where a model is served, in the operator's order.
    ///
    /// # Errors
    /// 404 for a model that there is not.
    pub fn resolve(&self, name: &str) -> Result<Vec<Target>, ApiError> {
        if name.len() > LONGEST {
            return Err(unknown(name));
        }
        let exact = self.models.iter().find(|m| m.name == name).map(|m| (m, name));
        let found = exact.or_else(|| meant(&self.aliases, name).and_then(|model| self.model(model).map(|m| (m, model))));
        let Some((model, name)) = found.or_else(|| self.model(name).map(|m| (m, name))) else { return Err(unknown(name)) };
        let target = |w: &Where| Target { backend: w.backend.clone(), model: w.model.clone().unwrap_or_else(|| name.to_owned()) };
        Ok(model.on.iter().map(target).collect())
    }

    /// The model of this name, no alias.
    fn model(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|m| m.name == name).or_else(|| self.models.iter().find(|m| matches(&m.name, name)))
    }
}

/// The model that a name stands for, if it stands for one: an exact name goes before patterns, those in order.
pub fn meant<'a>(aliases: &'a [Alias], name: &str) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let exact = aliases.iter().find(|alias| alias.pattern == name);
    let alias = exact.or_else(|| aliases.iter().find(|alias| matches(&alias.pattern, name)));
    alias.map(|alias| alias.model.as_str())
}

fn named<'a>(name: &'a str, path: impl Fn() -> String, seen: &mut std::collections::BTreeSet<&'a str>) -> Result<(), TableError> {
    let why = if name.is_empty() {
        "the name is empty".to_owned()
    } else if name.len() > LONGEST {
        format!("the name has {} bytes; at most {LONGEST} are looked at", name.len())
    } else if !seen.insert(name) {
        format!("{} is there twice", quoted(name))
    } else {
        return Ok(());
    };
    Err(TableError { path: path(), why })
}

/// Whether a name is of a pattern, in which `*` stands for any text. A star takes as little as it can; when what follows it doesn't fit,
/// the last one takes a byte more. At worst that is one length times the other, and both are at most [`LONGEST`].
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if name.get(n) == Some(byte) => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|&byte| byte == b'*')
}

pub(super) fn unknown(name: &str) -> ApiError {
    let message = format!("model: there is no model {} here; GET /v1/models lists those that there are", quoted(name));
    ApiError::new(ErrorKind::NotFound, message).at("model").code("model_not_found")
}

/// What a caller wrote, fit to be shown: it may be anything, and of any length.
pub(super) fn quoted(text: &str) -> String {
    let shown = plain(text);
    let more = if text.chars().nth(64).is_some() { "…" } else { "" };
    format!("`{shown}{more}`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    fn table() -> Table {
        toml::from_str(
            r#"
            aliases = [
                { pattern = "claude-*-haiku-*", model = "small" },
                { pattern = "claude-*", model = "house" },
                { pattern = "claude-special", model = "gpt-7" },
            ]
            [[models]]
            name = "house"
            on = [{ backend = "local", model = "qwen3-4b" }, { backend = "anthropic", model = "claude-sonnet-4-5" }]
            [[models]]
            name = "small"
            on = [{ backend = "local" }]
            [[models]]
            name = "gpt-*"
            on = [{ backend = "openai" }]
            [[models]]
            name = "claude-exact"
            on = [{ backend = "anthropic" }]
            [[models]]
            name = "claude-never-by-pattern-*"
            on = [{ backend = "anthropic" }]
            "#,
        )
        .expect("a table")
    }

    #[test]
    fn names() {
        let table = table();
        table.check().expect("a table that can be followed");
        let shown = |name: &str| {
            let targets = table.resolve(name)?;
            Ok::<_, ApiError>(targets.iter().map(|t| format!("{}/{}", t.backend, t.model)).collect::<Vec<_>>().join(" "))
        };
        for (name, targets) in [
            ("house", "local/qwen3-4b anthropic/claude-sonnet-4-5"),
            ("small", "local/small"),
            ("gpt-5-mini", "openai/gpt-5-mini"),
            ("claude-3-5-haiku-latest", "local/small"),
            ("claude-opus-4-1", "local/qwen3-4b anthropic/claude-sonnet-4-5"),
            // An exact alias before a pattern, an exact model before any alias, an alias before a model's pattern.
            ("claude-special", "openai/gpt-7"),
            ("claude-exact", "anthropic/claude-exact"),
            ("claude-never-by-pattern-1", "local/qwen3-4b anthropic/claude-sonnet-4-5"),
        ] {
            assert_eq!(shown(name).as_deref(), Ok(targets), "{name}");
        }
        for name in ["", "House", "llama", "gpt", "claude"] {
            let error = table.resolve(name).expect_err("no model");
            assert_eq!(
                (error.kind, error.code, error.path.as_deref()),
                (ErrorKind::NotFound, Some("model_not_found"), Some("model")),
                "{name}"
            );
        }
        let error = table.resolve(&"claude-\n".repeat(1_000)).expect_err("no model");
        assert!(error.message.len() < 400 && !error.message.contains('\n'), "{}", error.message);
    }

    #[test]
    fn what_tools_have_built_in() {
        let table = Table { aliases: Alias::hosted("small"), ..table() };
        table.check().expect("a table that can be followed");
        for name in ["claude-sonnet-4-5-20250929", "gpt-4o-mini", "anthropic/claude-3-haiku", "o3-mini", "o1"] {
            assert_eq!(table.resolve(name).map(|t| t.len()), Ok(1), "{name}");
        }
    }

    #[test]
    fn tables_that_cannot_be() {
        for (text, wrong) in [
            ("aliases = [{ pattern = \"a\", model = \"b\" }]", "aliases.0.model: there is no model `b`"),
            ("models = [{ name = \"a\", on = [] }]", "models.0.on: `a` is served nowhere"),
            ("models = [{ name = \"a\", on = [{ backend = \"\" }] }]", "models.0.on.0.backend: the name is empty"),
            ("models = [{ name = \"a*\", on = [{ backend = \"local\" }] }]", "models.0.on.0.model: a pattern"),
            ("models = [{ name = \"\", on = [{ backend = \"local\" }] }]", "models.0.name: the name is empty"),
            (
                "models = [{ name = \"a\", on = [{ backend = \"x\" }] }, { name = \"a\", on = [{ backend = \"x\" }] }]",
                "models.1.name: `a` is there twice",
            ),
        ] {
            let table: Table = toml::from_str(text).expect("a table");
            let error = table.check().expect_err("a table that can't be").to_string();
            assert!(error.starts_with(wrong), "{error}");
        }
    }

    #[test]
    fn the_worst_pattern_ends() {
        let pattern = "*a".repeat(120) + "b";
        assert!(!matches(&pattern, &"a".repeat(256)));
    }

    fn config() -> ProptestConfig {
        ProptestConfig { cases: 2000, rng_seed: RngSeed::Fixed(0xf17e), failure_persistence: None, ..ProptestConfig::default() }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn as_a_regular_expression(pattern in "[ab*é]{0,8}", name in "[abé]{0,10}") {
            let regex = regex::Regex::new(&format!("^(?s:{})$", pattern.replace('*', ".*"))).expect("an expression");
            prop_assert_eq!(matches(&pattern, &name), regex.is_match(&name));
        }
    }
}
