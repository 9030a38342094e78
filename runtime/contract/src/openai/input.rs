//! Texts or token ids, as `/v1/completions` and `/v1/embeddings` take them.

use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::ask::RawPrompt;
use crate::error::ApiError;

/// A text, texts, token ids or lists of token ids. Read as it comes: a list of ids takes four bytes each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "OpenAiInput"))]
#[serde(untagged)]
pub enum Input {
    /// One text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// One text as ids.
    Tokens(Vec<u32>),
    /// Texts as ids.
    TokenLists(Vec<Vec<u32>>),
}

impl Input {
    /// What it holds, each by itself.
    pub(super) fn into_prompts(self) -> Vec<RawPrompt> {
        match self {
            Input::Text(text) => vec![RawPrompt::Text(text)],
            Input::Texts(texts) => texts.into_iter().map(RawPrompt::Text).collect(),
            Input::Tokens(ids) => vec![RawPrompt::Tokens(ids)],
            Input::TokenLists(lists) => lists.into_iter().map(RawPrompt::Tokens).collect(),
        }
    }

    /// Refuses more than `most` of them, lists without ids, and texts without characters where these mean nothing.
    pub(super) fn check(&self, at: &str, most: usize, empty_texts: bool) -> Result<(), ApiError> {
        let (len, empty) = match self {
            Input::Text(text) if text.is_empty() && !empty_texts => {
                return Err(ApiError::invalid(at, "the text is empty; give at least one character"));
            }
            Input::Text(_) | Input::Tokens(_) => (1, None),
            Input::Texts(texts) => (texts.len(), texts.iter().position(|text| text.is_empty() && !empty_texts)),
            Input::TokenLists(lists) => (lists.len(), lists.iter().position(Vec::is_empty)),
        };
        if len > most {
            return Err(ApiError::invalid(at, format_args!("{len} of them are too many; give at most {most} in a request")));
        }
        match empty {
            Some(index) => Err(ApiError::invalid(format!("{at}.{index}"), "this is empty; leave it out")),
            None => Ok(()),
        }
    }
}

/// One member of a list, whatever the list is of.
enum Element {
    Text(String),
    Token(u32),
    Tokens(Vec<u32>),
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Element, D::Error> {
        struct OfElement;
        impl<'de> Visitor<'de> for OfElement {
            type Value = Element;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a token id or an array of token ids")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Element, E> {
                Ok(Element::Text(text.to_owned()))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Element, E> {
                Ok(Element::Text(text))
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<Element, E> {
                u32::try_from(id).map(Element::Token).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(id), &"a token id"))
            }

            fn visit_i64<E: de::Error>(self, id: i64) -> Result<Element, E> {
                u32::try_from(id).map(Element::Token).map_err(|_| E::invalid_value(de::Unexpected::Signed(id), &"a token id"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Element, A::Error> {
                let mut ids = Vec::new();
                while let Some(id) = list.next_element()? {
                    ids.push(id);
                }
                Ok(Element::Tokens(ids))
            }
        }
        deserializer.deserialize_any(OfElement)
    }
}

/// The next member of a list whose first member said what it is of.
struct Same<T>(T);

macro_rules! same {
    ($of:ty, $arm:ident, $expected:literal) => {
        impl<'de> Deserialize<'de> for Same<$of> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                match Element::deserialize(deserializer)? {
                    Element::$arm(value) => Ok(Same(value)),
                    _ => Err(de::Error::custom(concat!("expected ", $expected, ", as the members before it are"))),
                }
            }
        }
    };
}
same!(String, Text, "a string");
same!(u32, Token, "a token id");
same!(Vec<u32>, Tokens, "an array of token ids");

fn rest<'de, T, A: SeqAccess<'de>>(first: T, mut list: A) -> Result<Vec<T>, A::Error>
where
    Same<T>: Deserialize<'de>,
{
    let mut all = vec![first];
    while let Some(Same(value)) = list.next_element()? {
        all.push(value);
    }
    Ok(all)
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Input, D::Error> {
        struct OfInput;
        impl<'de> Visitor<'de> for OfInput {
            type Value = Input;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or an array of strings, of token ids or of arrays of token ids")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Input, E> {
                Ok(Input::Text(text.to_owned()))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Input, E> {
                Ok(Input::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Input, A::Error> {
                match list.next_element()? {
                    None => Err(de::Error::custom("the array is empty; give at least one string or token id")),
                    Some(Element::Text(first)) => rest(first, list).map(Input::Texts),
                    Some(Element::Token(first)) => rest(first, list).map(Input::Tokens),
                    Some(Element::Tokens(first)) => rest(first, list).map(Input::TokenLists),
                }
            }
        }
        deserializer.deserialize_any(OfInput)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf::parse;

    #[derive(Debug, Deserialize)]
    struct Body {
        input: Input,
    }

    fn wrong(body: &str) -> String {
        parse::<Body>(body.as_bytes()).expect_err("a body that is wrong").message
    }

    #[test]
    fn every_shape() {
        let read = |json: &str| parse::<Body>(format!(r#"{{"input": {json}}}"#).as_bytes()).expect("a body").input;
        assert_eq!(read(r#""a\n""#), Input::Text("a\n".into()));
        assert_eq!(read(r#"["a", ""]"#), Input::Texts(vec!["a".into(), String::new()]));
        assert_eq!(read("[1, 4294967295]"), Input::Tokens(vec![1, u32::MAX]));
        assert_eq!(read("[[1], [], [2, 3]]"), Input::TokenLists(vec![vec![1], vec![], vec![2, 3]]));
    }

    #[test]
    fn the_leaf_that_is_wrong() {
        assert_eq!(wrong(r#"{"input": []}"#), "input: the array is empty; give at least one string or token id");
        assert_eq!(wrong(r#"{"input": ["a", 1]}"#), "input.1: expected a string, as the members before it are");
        assert_eq!(wrong(r#"{"input": [1, 2, -3]}"#), "input.2: invalid value: integer `-3`, expected a token id");
        assert!(
            wrong(r#"{"input": [[1], [2, "x"]]}"#).starts_with("input.1.1: invalid type: string"),
            "{}",
            wrong(r#"{"input": [[1], [2, "x"]]}"#)
        );
        assert!(wrong(r#"{"input": {"a": 1}}"#).starts_with("input: invalid type: map, expected a string, or an array"));
    }
}
