//! What has no place in an ask.

use crate::*;

#[test]
fn what_has_no_place_is_beyond() {
    let ask = with(json!({
        "container": "c", "inference_geo": "eu", "speed": "fast", "mcp_servers": [{}], "fallbacks": "default", "compaction": {},
        "context_management": { "edits": [{}] }, "new_field": 1, "new_null": null, "thinking": { "type": "between_tools" },
        "output_config": { "effort": "low", "task_budget": { "total": 1 }, "format": { "type": "xml" } },
        "metadata": { "who": "me" }, "billing_policy": {}, "fallback_credit_token": "t",
        "tools": [
            { "type": "web_search_20250305", "name": "web_search" },
            { "name": "t", "input_schema": { "type": "object" }, "allowed_callers": ["code_execution_20250825"], "defer_loading": true,
              "eager_input_streaming": true, "input_examples": [{}], "odd": 1 },
        ],
        "tool_choice": { "type": "tool", "name": "web_search", "disable_parallel_tool_use": true },
        "messages": [
            { "role": "user", "content": [
                { "type": "image", "source": { "type": "url", "url": "u" } },
                { "type": "document", "source": { "type": "base64", "media_type": "application/pdf", "data": "" } },
                { "type": "document", "source": { "type": "url", "url": "u" } },
                { "type": "document", "source": { "type": "file", "file_id": "f" }, "citations": { "enabled": true } },
                { "type": "container_upload", "file_id": "f" },
            ] },
            { "role": "assistant", "content": [
                { "type": "redacted_thinking", "data": "x" },
                { "type": "server_tool_use", "id": "s", "name": "web_search", "input": {} },
                { "type": "tool_use", "id": "a", "name": "t", "input": {}, "caller": { "type": "code_execution_20250825", "tool_id": "s" },
                  "toolset_name": "browser" },
            ] },
            { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "a", "content": [
                { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "" } },
                { "type": "tool_reference", "tool_name": "x" },
            ] }] },
            { "role": "system", "output_config": { "effort": "low" } },
        ],
    }));
    assert_eq!(
        beyond(&ask),
        [
            "tools.0.type",
            "tools.1.allowed_callers",
            "(tools.1.defer_loading)",
            "(tools.1.input_examples)",
            "(tools.1.eager_input_streaming)",
            "tools.1.odd",
            "messages.0.content.0.type",
            "messages.0.content.1.source",
            "messages.0.content.2.source",
            "messages.0.content.3.citations.enabled",
            "messages.0.content.3.source",
            "messages.0.content.4.type",
            "(messages.1.content.0.type)",
            "messages.1.content.1.type",
            "messages.1.content.2.caller.type",
            "messages.1.content.2.toolset_name",
            "messages.2.content.0.content.0.type",
            "(messages.2.content.0.content.1.type)",
            "(messages.3.output_config)",
            "thinking.type",
            "(output_config.effort)",
            "(output_config.task_budget)",
            "output_config.format.type",
            "metadata.who",
            "(speed)",
            "inference_geo",
            "mcp_servers",
            "context_management.edits",
            "container",
            "compaction",
            "billing_policy",
            "(fallbacks)",
            "(fallback_credit_token)",
            "new_field",
        ]
    );
    assert!(ask.beyond.iter().all(|beyond| !beyond.why.is_empty() && beyond.why.len() < 120));
    assert_eq!((ask.tool_choice, ask.parallel_tools), (ToolChoice::Tool("web_search".to_owned()), false));
    assert_eq!(ask.turns[0].parts[0].content, Content::Beyond);
}

/// Claude Code and others send all their tools, and mark those that a search of theirs finds. All are shown, so nothing is missing.
#[test]
fn tools_that_are_to_be_found_are_shown() {
    let ask = with(json!({
        "tools": [
            { "type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex" },
            { "name": "ToolSearch", "input_schema": { "type": "object" } },
            { "name": "weather", "input_schema": { "type": "object" }, "defer_loading": true },
        ],
        "messages": [
            { "role": "user", "content": "How is the weather?" },
            { "role": "assistant", "content": [{ "type": "tool_use", "id": "a", "name": "ToolSearch", "input": {} }] },
            { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "a", "content": [
                { "type": "tool_reference", "tool_name": "weather" }, { "type": "tool_reference", "tool_name": "a b" },
            ] }] },
        ],
    }));
    assert_eq!(
        beyond(&ask),
        ["(tools.0.type)", "(tools.2.defer_loading)", "(messages.2.content.0.content.0.type)", "messages.2.content.0.content.1.type"]
    );
    assert_eq!(ask.tools.iter().map(|tool| (tool.name.as_str(), tool.at)).collect::<Vec<_>>(), [("ToolSearch", 1), ("weather", 2)]);
    let mut found = with(json!({
        "tools": [{ "name": "f", "input_schema": { "type": "object" } }],
        "messages": [
            { "role": "user", "content": "Hi" },
            { "role": "assistant", "content": [{ "type": "tool_use", "id": "a", "name": "f", "input": {} }] },
            { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "a",
                "content": [{ "type": "tool_reference", "tool_name": "f" }] }] },
        ],
    }));
    let last = found.turns.pop().expect("a turn").parts.remove(0).content;
    assert_eq!(last, Content::ToolResult { id: "a".to_owned(), text: "Tool found: f".to_owned(), is_error: false });
}

/// However much is beyond an ask, its list stays short, and says both sorts.
#[test]
fn the_list_of_what_is_beyond_is_bounded() {
    let citations: Vec<Value> = (0..1000).map(|_| json!({ "type": "text", "text": "t", "citations": [1] })).collect();
    let images: Vec<Value> = (0..1000).map(|_| json!({ "type": "image", "source": { "type": "url", "url": "u" } })).collect();
    let blocks = [citations, images].concat();
    let ask = talk(json!([{ "role": "user", "content": blocks }]));
    assert_eq!(ask.beyond.iter().filter(|beyond| beyond.hint).count(), 64);
    assert_eq!(ask.beyond.iter().filter(|beyond| !beyond.hint).count(), 64);
}
