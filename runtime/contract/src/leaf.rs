//! Parsing that is lossless and names the leaf that is wrong.
//!
//! Derived `Deserialize` says where in a body it failed only as far as it reads as it goes. A union decided by its `type`, or by
//! whether a string or a list came, has to look first and read then; derived, it forgets the way there and the message ends at the union. So
//! unions here are declared with [`tagged`] and [`either`], which read what they looked at under its own path and hand that on
//! inside the error, where [`parse`] joins both halves.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{ApiError, ErrorKind};
use crate::path::Path;
use crate::values::Values;

/// Members of an object that no type here names, kept as they came.
pub type Unknown = Map<String, Value>;

/// Stands around a path inside an error's text, on its way out of a union. No path or message of ours holds it otherwise: JSON's
/// control characters arrive escaped, and paths escape theirs (see [`Path`]).
const MARK: char = '\u{1}';

/// Reads a body. The error names the leaf (`messages.0.content.1.text`), what was expected there and what came.
///
/// # Errors
/// `invalid_request_error` for what is not UTF-8, not JSON, nested deeper than 127, followed by more, of too many values, or not of the type.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(body)
        .map_err(|e| ApiError::new(ErrorKind::InvalidRequest, format!("the body is not UTF-8: byte {} is wrong", e.valid_up_to())))?;
    if text.trim_start().is_empty() {
        return Err(ApiError::new(ErrorKind::InvalidRequest, "the body is empty; send a JSON object"));
    }
    Values::default().take(body)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let parsed = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = walked(error.path());
        let inner = error.into_inner();
        if inner.is_syntax() || inner.is_eof() {
            // A word of an enum that is no string is told as wrong syntax, without its place. Read as a value it has one.
            let whole = serde_json::from_str::<Value>(text).map(parse_value::<T>);
            let error = ApiError::new(ErrorKind::InvalidRequest, unread(&inner));
            return whole.ok().and_then(Result::err).unwrap_or(error);
        }
        let place = format!(" at line {} column {}", inner.line(), inner.column());
        located(&path, inner.to_string().trim_end_matches(&place))
    })?;
    reader.end().map_err(|e| ApiError::new(ErrorKind::InvalidRequest, format!("the body goes on behind its JSON value: {e}")))?;
    Ok(parsed)
}

/// Why a body can't be read. What is JSON, only more than is read of it, is not called none.
fn unread(error: &serde_json::Error) -> String {
    let text = error.to_string();
    // It has no other name for its kinds than their texts.
    if text.starts_with("number out of range") {
        format!("the body is JSON, but a number at line {} column {} is out of range", error.line(), error.column())
    } else if text.starts_with("recursion limit exceeded") {
        format!("the body is JSON, but is nested deeper than {DEEPEST}, at line {} column {}", error.line(), error.column())
    } else {
        format!("the body is not JSON: {text}")
    }
}

/// Lists and objects in each other that are read, as `serde_json` counts them.
const DEEPEST: usize = 127;

/// Reads a value that was looked at already, as [`parse`] does a body.
///
/// # Errors
/// As [`parse`]'s.
pub fn parse_value<T: DeserializeOwned>(value: Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = walked(error.path());
        located(&path, &error.into_inner().to_string())
    })
}

/// Reads a part of a union; its path travels in the error.
#[doc(hidden)]
pub fn part<T: DeserializeOwned, E: serde::de::Error>(value: Value) -> Result<T, E> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (path, message) = join(&walked(error.path()), &error.into_inner().to_string());
        E::custom(format_args!("{MARK}{}{MARK}{message}", path.marked()))
    })
}

fn located(path: &Path, message: &str) -> ApiError {
    let (path, message) = join(path, message);
    let (path, message) = missing(path, message);
    // What came may stand in the message, and be of any length.
    let message = match message.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message,
    };
    if path.is_empty() {
        return ApiError::new(ErrorKind::InvalidRequest, message);
    }
    ApiError::new(ErrorKind::InvalidRequest, format!("{path}: {message}")).at(path)
}

/// Characters of a message that are shown.
const MOST_SHOWN: usize = 512;

/// A field that is missing is the leaf, not the object that lacks it.
fn missing(path: Path, message: String) -> (Path, String) {
    let field = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    match field {
        Some(field) => (path.key(field), "field required".to_owned()),
        None => (path, message),
    }
}

/// The whole path and the bare message, where the message carries the rest of a path.
fn join(path: &Path, message: &str) -> (Path, String) {
    let rest = message.strip_prefix(MARK).and_then(|rest| rest.split_once(MARK));
    match rest {
        Some((inner, message)) => (path.clone().join(&Path::from_marked(inner)), message.to_owned()),
        None => (path.clone(), message.to_owned()),
    }
}

/// The way that a parser took.
fn walked(path: &serde_path_to_error::Path) -> Path {
    use serde_path_to_error::Segment;
    path.iter().fold(Path::default(), |walked, segment| match segment {
        Segment::Seq { index } => walked.index(*index),
        Segment::Map { key } => walked.key(key),
        Segment::Enum { variant } => walked.key(variant),
        Segment::Unknown => walked.key("?"),
    })
}

/// What came, in a person's words.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The `type` of a value, for a union that is decided by it.
#[doc(hidden)]
pub fn tag<E: serde::de::Error>(value: &Value) -> Result<&str, E> {
    let Value::Object(members) = value else {
        return Err(E::custom(format_args!("expected an object with a `type`, found {}", kind_of(value))));
    };
    match members.get("type") {
        Some(Value::String(tag)) => Ok(tag),
        Some(other) => Err(E::custom(format_args!("{MARK}type{MARK}expected a string, found {}", kind_of(other)))),
        None => Err(E::custom(format_args!("{MARK}type{MARK}field required"))),
    }
}

/// What a union's `type` decided, read from its other members.
#[doc(hidden)]
pub fn untagged<T: DeserializeOwned, E: serde::de::Error>(value: Value) -> Result<T, E> {
    let Value::Object(mut members) = value else { return part(value) };
    members.shift_remove("type");
    part(Value::Object(members))
}

/// Declares a union decided by `type`. What no arm names is kept whole in `Other`, for a backend that may know it. Types of two dialects may have one
/// name in Rust: `pub enum Tool named "ChatTool"` gives its schema another.
///
/// ```ignore
/// tagged! {
///     /// A block of a message.
///     pub enum BlockParam {
///         /// Text.
///         "text" => Text(TextParam),
///     }
/// }
/// ```
macro_rules! tagged {
    ($(#[$meta:meta])* pub enum $name:ident $(named $schema:literal)? { $($(#[$arm_meta:meta])* $tag:literal => $arm:ident($content:ty),)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $name {
            $($(#[$arm_meta])* $arm($content),)*
            /// A type that is not named here, whole.
            Other(serde_json::Value),
        }

        impl $name {
            /// Its `type`.
            pub fn tag(&self) -> &str {
                match self {
                    $($name::$arm(_) => $tag,)*
                    $name::Other(value) => value.get("type").and_then(serde_json::Value::as_str).unwrap_or_default(),
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let value = serde_json::Value::deserialize(deserializer)?;
                match $crate::leaf::tag(&value)? {
                    $($tag => $crate::leaf::untagged(value).map($name::$arm),)*
                    _ => Ok($name::Other(value)),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                #[derive(serde::Serialize)]
                struct Tagged<'a, T> {
                    r#type: &'static str,
                    #[serde(flatten)]
                    content: &'a T,
                }
                match self {
                    $($name::$arm(content) => serde::Serialize::serialize(&Tagged { r#type: $tag, content }, serializer),)*
                    $name::Other(value) => serde::Serialize::serialize(value, serializer),
                }
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                // The first: its name among all dialects' schemas, else its own.
                [$($schema,)? stringify!($name)][0].into()
            }

            fn schema_id() -> std::borrow::Cow<'static, str> {
                concat!(module_path!(), "::", stringify!($name)).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let arms: Vec<serde_json::Value> = vec![$({
                    let of = generator.subschema_for::<$content>();
                    serde_json::json!({ "allOf": [of, { "type": "object", "properties": { "type": { "const": $tag } }, "required": ["type"] }] })
                },)*];
                let others = serde_json::json!({
                    "type": "object", "required": ["type"],
                    "properties": { "type": { "type": "string", "not": { "enum": [$($tag),*] } } },
                    "description": "Kept for a backend that knows it; refused with its path where none does.",
                });
                let arms: Vec<serde_json::Value> = arms.into_iter().chain([others]).collect();
                schemars::json_schema!({ "anyOf": arms })
            }
        }
    };
}
pub(crate) use tagged;

/// Declares a union of a string and something else, or of any shapes of JSON that can be told apart at once.
///
/// ```ignore
/// either! {
///     /// Text, or blocks.
///     pub enum Content {
///         /// Short for one text block.
///         String => Text(String),
///         /// Blocks.
///         Array => Blocks(Vec<BlockParam>),
///     }
///     expected "a string or an array of blocks"
/// }
/// ```
macro_rules! either {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$arm_meta:meta])* $shape:ident => $arm:ident($content:ty),)* } expected $expected:literal) => {
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(untagged)]
        $(#[$meta])*
        pub enum $name {
            $($(#[$arm_meta])* $arm($content),)*
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let value = serde_json::Value::deserialize(deserializer)?;
                match value {
                    $(value @ serde_json::Value::$shape { .. } => $crate::leaf::part(value).map($name::$arm),)*
                    other => {
                        let found = $crate::leaf::kind_of(&other);
                        Err(serde::de::Error::custom(format_args!(concat!("expected ", $expected, ", found {}"), found)))
                    }
                }
            }
        }
    };
}
pub(crate) use either;

#[cfg(test)]
#[allow(unreachable_pub, private_interfaces, dead_code, reason = "the macros make public types with all their methods")]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
    struct Words {
        text: String,
        #[serde(flatten)]
        unknown: Unknown,
    }

    tagged! {
        /// A block.
        pub enum Block {
            /// Words.
            "words" => Words(Words),
            /// Blocks in a block.
            "nest" => Nest(Nest),
        }
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
    pub struct Nest {
        inside: Content,
    }

    either! {
        /// Text or blocks.
        pub enum Content {
            /// Text.
            String => Text(String),
            /// Blocks.
            Array => Blocks(Vec<Block>),
        }
        expected "a string or an array of blocks"
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Body {
        list: Vec<Content>,
        #[serde(flatten)]
        unknown: Unknown,
    }

    fn wrong(body: &str) -> String {
        parse::<Body>(body.as_bytes()).expect_err("a body that is wrong").message
    }

    #[test]
    fn errors_name_the_leaf() {
        assert_eq!(
            wrong(r#"{"list": ["a", [{"type": "nest", "inside": [{"type": "words", "text": 3}]}]]}"#),
            "list.1.0.inside.0.text: invalid type: integer `3`, expected a string"
        );
        assert_eq!(wrong(r#"{"list": [[{"text": "a"}]]}"#), "list.0.0.type: field required");
        assert_eq!(wrong(r#"{"list": [[{"type": 1}]]}"#), "list.0.0.type: expected a string, found a number");
        assert_eq!(wrong(r#"{"list": [4]}"#), "list.0: expected a string or an array of blocks, found a number");
        assert_eq!(wrong(r#"{"list": [[{"type": "words"}]]}"#), "list.0.0.text: field required");
        assert_eq!(wrong(r#"{}"#), "list: field required");
        assert!(wrong(r#"{"list": ["#).starts_with("the body is not JSON: EOF"));
        assert!(wrong(r#"{"list": []} {}"#).starts_with("the body goes on"));
        assert!(wrong(&"[".repeat(4000)).contains("expected struct Body"));
    }

    #[test]
    fn json_that_is_not_read_is_not_called_none() {
        let large = wrong("{\"list\": [],\n \"x\": [1e400]}");
        let place = large.strip_prefix("the body is JSON, but a number at line 2 column ");
        assert!(place.is_some_and(|place| place.ends_with(" is out of range")), "{large}");
        let nested = |deep: usize| format!(r#"{{"list": [], "x": {}{}}}"#, "[".repeat(deep), "]".repeat(deep));
        let deep = wrong(&nested(2000));
        assert!(deep.starts_with("the body is JSON, but is nested deeper than 127, at line 1 column "), "{deep}");
        // The object around it is one, too.
        assert!(parse::<Body>(nested(DEEPEST - 1).as_bytes()).is_ok());
        assert_eq!(wrong(&nested(DEEPEST)).split(',').nth(1), deep.split(',').nth(1));
    }

    #[test]
    fn nothing_is_lost() {
        let body = r#"{"list":["a",[{"type":"words","text":"b","more":{"x":[1]}},{"type":"new","y":2}]],"z":null}"#;
        let parsed: Body = parse(body.as_bytes()).expect("a body");
        assert_eq!(serde_json::to_string(&parsed).expect("JSON"), body);
    }
}
