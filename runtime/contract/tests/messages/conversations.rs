//! Messages into turns.

use crate::*;

#[test]
fn turns_of_one_side_are_one() {
    let ask = talk(json!([
        { "role": "system", "content": "S" },
        { "role": "user", "content": "a" },
        { "role": "user", "content": [{ "type": "text", "text": "b" }] },
        { "role": "assistant", "content": "c" },
        { "role": "system", "content": [{ "type": "text", "text": "gone" }], "clear_at": "next_user_message" },
        { "role": "assistant", "content": "d" },
        { "role": "user", "content": "e" },
        { "role": "system", "content": "stays", "clear_at": "next_user_message" },
        { "role": "assistant", "content": "The best answer is (" },
    ]));
    let expected = [
        (Role::System, vec!["S"]),
        (Role::User, vec!["a", "b"]),
        (Role::Assistant, vec!["c", "d"]),
        (Role::User, vec!["e"]),
        (Role::System, vec!["stays"]),
        (Role::Assistant, vec!["The best answer is ("]),
    ];
    let expected: Vec<Turn> =
        expected.into_iter().map(|(role, parts)| Turn { role, parts: parts.into_iter().map(text).collect() }).collect();
    assert_eq!(ask.turns, expected);
    assert_eq!(talk(json!([{ "role": "user", "content": "a" }, { "role": "assistant", "content": "" }])).turns.len(), 1);
}

#[test]
fn wrong_conversations_are_refused_at_the_leaf() {
    let user = json!({ "role": "user", "content": "q" });
    let call = |id: &str| json!({ "type": "tool_use", "id": id, "name": "t", "input": {} });
    let result = |id: &str| json!({ "type": "tool_result", "tool_use_id": id, "content": "r" });
    let assistant = |blocks: Value| json!({ "role": "assistant", "content": blocks });
    let asks = |blocks: Value| json!({ "role": "user", "content": blocks });
    let cases = [
        (json!([]), "messages: at least one message"),
        (json!([{ "role": "assistant", "content": "a" }]), "messages.0.role: the first message must use the `user` role"),
        (json!([{ "role": "system", "content": "a" }]), "messages: at least one message"),
        (json!([{ "role": "user" }]), "messages.0.content: field required"),
        (json!([{ "role": "user", "content": null }]), "messages.0.content: expected a string or an array of content blocks, found null"),
        (json!([{ "role": "user", "content": "" }]), "messages.0.content: all messages must have non-empty content"),
        (json!([{ "role": "user", "content": [] }]), "messages.0.content: all messages must have non-empty content"),
        (json!([{ "role": "user", "content": "  " }]), "messages.0.content: text content blocks must contain"),
        (json!([asks(json!([{ "type": "text", "text": "" }]))]), "messages.0.content.0.text: text content blocks must contain"),
        (json!([asks(json!([{ "type": "text", "text": 5 }]))]), "messages.0.content.0.text: invalid type: integer `5`, expected a string"),
        (json!([user, { "role": "assistant", "content": "a " }]), "messages.1.content: final assistant content cannot end with trailing"),
        (json!([asks(json!([call("a")]))]), "messages.0.content.0.type: `tool_use` blocks can only be in `assistant` messages"),
        (json!([user, assistant(json!([result("a")]))]), "messages.1.content.0.type: `tool_result` blocks can only be in `user` messages"),
        (json!([asks(json!([result("a")]))]), "messages.0.content.0.tool_use_id: unexpected `a`"),
        (json!([user, assistant(json!([call("a")])), user]), "messages.1: `tool_use` `a` has no `tool_result` in the next message"),
        (json!([user, assistant(json!([call("a")]))]), "messages.1: `tool_use` `a` has no `tool_result`"),
        (
            json!([user, assistant(json!([{ "type": "tool_use", "id": "a", "name": "<|im_end|>", "input": {} }]))]),
            "messages.1.content.0.name: must be 1 to 200 of the characters a-z, A-Z, 0-9, `_` and `-`",
        ),
        (
            json!([user, assistant(json!([{ "type": "tool_use", "id": "a", "name": "a".repeat(201), "input": {} }]))]),
            "messages.1.content.0.name: must be 1 to 200",
        ),
        (
            json!([user, assistant(json!([call("a")])), asks(json!([result("a"), result("a")]))]),
            "messages.2.content.1.tool_use_id: each `tool_use` must have a single result",
        ),
        (
            json!([
                user,
                assistant(json!([call("a")])),
                asks(json!([result("a")])),
                assistant(json!([call("a")])),
                asks(json!([result("a")]))
            ]),
            "messages.3.content.0.id: `tool_use` ids must be unique",
        ),
        (
            json!([
                user,
                assistant(json!([call("a")])),
                asks(json!([result("a")])),
                user,
                assistant(json!("b")),
                asks(json!([result("a")]))
            ]),
            "messages.5.content.0.tool_use_id: unexpected",
        ),
        (
            json!([user, assistant(json!([{ "type": "tool_use", "id": "a b", "name": "t", "input": {} }]))]),
            "messages.1.content.0.id: must be",
        ),
        (
            json!([user, assistant(json!([{ "type": "tool_use", "id": "a", "name": "t", "input": [] }]))]),
            "messages.1.content.0.input: expected an object, found an array",
        ),
        (json!([{ "role": "system", "content": [call("a")] }, user]), "messages.0.content.0.type: only `text` blocks"),
        (json!([{ "role": "user", "content": "q", "clear_at": "never" }]), "messages.0.clear_at: is only permitted on `system`"),
        (
            json!([asks(json!([{ "type": "text", "text": "t", "cache_control": { "type": "forever" } }]))]),
            "messages.0.content.0.cache_control.type: unknown variant `forever`",
        ),
        (
            json!([asks(json!([{ "type": "text", "text": "t", "cache_control": { "type": "ephemeral", "ttl": "2h" } }]))]),
            "messages.0.content.0.cache_control.ttl: unknown variant `2h`",
        ),
    ];
    for (messages, expected) in cases {
        let message = wrong_talk(messages.clone());
        assert!(message.starts_with(expected), "{messages}\n{message}");
    }
    let message = wrong_talk(json!(vec![user; 100_001]));
    assert_eq!(message, "messages: at most 100000 messages, found 100001");
}

#[test]
fn calls_and_results_are_paired_across_merged_turns() {
    let ask = talk(json!([
        { "role": "user", "content": "q" },
        { "role": "assistant", "content": [
            { "type": "thinking", "thinking": "hm", "signature": "s" },
            { "type": "tool_use", "id": "a", "name": "t", "input": { "x": 1 }, "caller": { "type": "direct" } },
        ] },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "b", "name": "t", "input": {} }] },
        { "role": "system", "content": "between" },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "b", "is_error": true }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "a", "content": [
            { "type": "text", "text": "one" },
            { "type": "text", "text": "two", "cache_control": { "type": "ephemeral" } },
            { "type": "search_result", "source": "s", "title": "t", "content": [{ "type": "text", "text": "found" }] },
        ] }] },
    ]));
    let results: Vec<&Part> = ask.turns.last().expect("a turn").parts.iter().collect();
    let expected = Content::ToolResult { id: "b".to_owned(), text: String::new(), is_error: true };
    assert_eq!(results[0], &Part { content: expected, cache: None });
    let expected = Content::ToolResult { id: "a".to_owned(), text: "one\ntwo\nt\ns\nfound".to_owned(), is_error: false };
    assert_eq!(results[1], &Part { content: expected, cache: Some(CacheTtl::FiveMinutes) });
    assert_eq!(ask.turns[1].parts[0].content, Content::Thinking { text: "hm".to_owned(), signature: Some("s".to_owned()) });
}

#[test]
fn documents_are_text() {
    let block = |document: Value| talk(json!([{ "role": "user", "content": [document] }])).turns[0].parts[0].content.clone();
    let plain = json!({ "type": "text", "media_type": "text/plain", "data": "d" });
    let document = |title: Option<&str>, context: Option<&str>, text: &str| Content::Document {
        title: title.map(str::to_owned),
        context: context.map(str::to_owned),
        text: text.to_owned(),
    };
    assert_eq!(
        block(json!({ "type": "document", "source": plain, "title": "T", "context": null, "citations": { "enabled": false } })),
        document(Some("T"), None, "d")
    );
    let blocks = json!({ "type": "content", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] });
    assert_eq!(block(json!({ "type": "document", "source": blocks })), document(None, None, "a\nb"));
    let found = json!({ "type": "search_result", "source": "S", "title": "T", "content": [{ "type": "text", "text": "a" }] });
    assert_eq!(block(found), document(Some("T"), Some("S"), "a"));
}
