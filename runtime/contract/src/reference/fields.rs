//! The tables of fields as a page.

use std::fmt::Write;

use serde_json::Value;

use crate::field_table::{Field, Verdict};
use crate::{messages, openai};

/// The page, as Markdown.
pub fn fields() -> String {
    let mut page = BEGINNING.to_owned();
    for verdict in [Verdict::Native, Verdict::Hint, Verdict::Refuse, Verdict::Forward] {
        let _ = writeln!(page, "| **{}** | {} |", verdict.name(), meaning(verdict));
    }
    page.push_str(PATHS);
    for (title, about, rows) in tables() {
        let _ = write!(page, "\n## {title}\n\n{about}");
        table(&mut page, rows);
    }
    page
}

const BEGINNING: &str = "<!-- Made from the tables in runtime/contract: change those, then run
`cargo run -p firecrest-contract --features schema --example reference`. -->

# Fields of requests

What the server does with each member of a request's body. The server serves models on its own machine, so this is also the list of what differs
from the hosted APIs. [server.md](server.md) says how to run it; [openapi.json](openapi.json) has the types.

| verdict | what happens |
|---|---|
";

const PATHS: &str = "
Members that no table names are refused in the Messages API, and are hints in OpenAI's. In lenient mode (`compat = \"lenient\"`, the default) what was
dropped is listed in the response header `firecrest-ignored-fields`, for requests that a model answers and for token counts.

Threads and responses are kept in memory: for an hour after their last use, for the key that made them, and while there is room. Whoever goes on from
one that is gone is told so by a code, and sends the whole conversation. Files are not kept: sources of type `file` are 400.

A path is the way to a member: names joined by dots, `*` for every item of a list, `{text}` behind what may be of several types and is
`text`, `{*}` where its type is none that has a row. What may stand in several places has its rows at the first: the blocks of `system` are those of
`messages`. A note says what else there is to know. Limits in notes are checked: what is outside is 400 with the path. So is a word that is none of those that a
member may be; the message names them.
";

fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Native => "It does what it says.",
        Verdict::Hint => {
            "The answer is right without it. It is dropped where the server is lenient, and refused with its path where it is strict."
        }
        Verdict::Refuse => "Known, and can't be done here: 400 with its path. `null`, an empty list or the default is fine.",
        Verdict::Forward => {
            "Not known here, and kept as it came for a backend that may know it. This server has none such: 400 with its path."
        }
    }
}

fn tables() -> [(&'static str, String, &'static [Field]); 8] {
    [
        ("`POST /v1/messages`", String::new(), messages::FIELDS),
        ("`POST /v1/messages/count_tokens`", counted(), &[]),
        ("`POST /v1/chat/completions`", String::new(), openai::CHAT_FIELDS),
        ("`POST /v1/responses`", String::new(), openai::RESPONSES_FIELDS),
        ("`POST /v1/completions`", String::new(), openai::COMPLETIONS_FIELDS),
        ("`POST /v1/embeddings`", String::new(), openai::EMBEDDINGS_FIELDS),
        ("`POST /v1/moderations`", String::new(), openai::MODERATIONS_FIELDS),
        ("`POST /v1/moderate`", "Its messages are those of `/v1/chat/completions`.\n\n".to_owned(), openai::MODERATE_FIELDS),
    ]
}

/// The members of a count, which are those of a request without what is about the answer.
fn counted() -> String {
    let schemas = messages::schemas();
    let members = schemas.get("CountTokensParams").and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    let names: Vec<String> = members.into_iter().flatten().map(|(name, _)| format!("`{name}`")).collect();
    format!("These members of `/v1/messages`, with the same verdicts: {}.\n", names.join(", "))
}

/// Rows of one table, a table for each member that has members itself.
fn table(page: &mut String, rows: &[Field]) {
    let mut at = 0;
    let mut single: Vec<&Field> = Vec::new();
    let mut groups: Vec<(&str, &[Field])> = Vec::new();
    while let Some(first) = rows.get(at) {
        let name = member(first.path);
        let count = rows.get(at..).unwrap_or_default().iter().take_while(|row| member(row.path) == name).count();
        single.push(first);
        if count > 1 {
            groups.push((name, rows.get(at + 1..at + count).unwrap_or_default()));
        }
        at += count.max(1);
    }
    if !single.is_empty() {
        head(page);
        single.iter().for_each(|row| line(page, row));
    }
    for (name, rows) in groups {
        let _ = write!(page, "\n### Inside `{name}`\n\n");
        head(page);
        rows.iter().for_each(|row| line(page, row));
    }
}

/// The member of the body that a path begins with.
fn member(path: &str) -> &str {
    path.split(['.', '{']).next().unwrap_or(path)
}

fn head(page: &mut String) {
    page.push_str("| field | verdict | note |\n|---|---|---|\n");
}

fn line(page: &mut String, row: &Field) {
    let note = row.note.replace('|', "\\|");
    let _ = writeln!(page, "| `{}` | {} | {note} |", row.path, row.verdict.name());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_on_the_page_once() {
        let page = fields();
        let all = [
            messages::FIELDS,
            openai::CHAT_FIELDS,
            openai::RESPONSES_FIELDS,
            openai::COMPLETIONS_FIELDS,
            openai::EMBEDDINGS_FIELDS,
            openai::MODERATIONS_FIELDS,
            openai::MODERATE_FIELDS,
        ];
        let count: usize = all.iter().map(|rows| rows.len()).sum();
        assert_eq!(page.lines().filter(|line| line.starts_with("| `")).count(), count);
        for row in all.into_iter().flatten() {
            assert!(page.contains(&format!("| `{}` | {} | ", row.path, row.verdict.name())), "{}", row.path);
        }
    }
}
