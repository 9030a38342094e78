//! Tools and breakpoints.

use crate::*;

#[test]
fn tools_are_checked() {
    let tool = |name: &str| json!({ "name": name, "input_schema": { "type": "object" } });
    let wrong_tools = |tools: Value| wrong(json!({ "tools": tools }));
    for name in ["", "a b", "é", &"x".repeat(129)] {
        assert!(wrong_tools(json!([tool(name)])).starts_with("tools.0.name: must be 1 to 128 of the characters"));
    }
    assert_eq!(wrong_tools(json!([tool("a"), tool("a")])), "tools.1.name: tool names must be unique, `a` is there already");
    assert!(wrong_tools(json!([{ "name": "a", "input_schema": {} }])).starts_with("tools.0.input_schema.type: field required"));
    assert_eq!(wrong_tools(json!([{ "name": "a", "input_schema": { "type": "array" } }])), "tools.0.input_schema.type: must be `object`");
    assert_eq!(wrong_tools(json!([{ "name": "a" }])), "tools.0.input_schema: field required");
    assert_eq!(wrong_tools(json!(["a"])), "tools.0: expected a tool, an object, found a string");
    assert_eq!(wrong_tools(json!([{ "type": 1, "name": "a" }])), "tools.0.type: expected a string, found a number");
    assert_eq!(
        wrong_tools(json!([{ "type": "bash_20250124", "name": "sh" }])),
        "tools.0.name: must be `bash` for a tool of type `bash_20250124`"
    );
    assert!(
        wrong_tools(json!([{ "name": "a", "input_schema": { "type": "object" }, "strict": "yes" }])).starts_with("tools.0.strict: invalid")
    );

    let choice = |choice: Value| wrong(json!({ "tools": [tool("a")], "tool_choice": choice }));
    assert_eq!(choice(json!({ "type": "tool", "name": "b" })), "tool_choice.name: tool `b` not found in provided tools");
    assert_eq!(choice(json!({ "type": "tool" })), "tool_choice.name: field required");
    assert_eq!(choice(json!("any")), "tool_choice: expected an object with a `type`, found a string");
    assert!(wrong(json!({ "tool_choice": { "type": "any" } })).starts_with("tool_choice: may only be given together with `tools`"));

    let ask = with(json!({
        "tools": [
            { "type": "custom", "name": "a", "description": "d", "input_schema": { "type": "object", "properties": {} }, "strict": true,
              "cache_control": { "type": "ephemeral", "ttl": "1h" }, "allowed_callers": ["direct"], "eager_input_streaming": null },
            { "type": "bash_20250124", "name": "bash" },
            { "type": "text_editor_20250728", "name": "str_replace_based_edit_tool", "max_characters": 1000 },
            { "type": "memory_20250818", "name": "memory" },
        ],
        "tool_choice": { "type": "any", "disable_parallel_tool_use": true },
    }));
    assert_eq!(beyond(&ask), [""; 0]);
    assert_eq!((ask.tool_choice, ask.parallel_tools), (ToolChoice::Any, false));
    assert_eq!(ask.tools[0].cache, Some(CacheTtl::OneHour));
    assert!(ask.tools[0].strict);
    for tool in &ask.tools[1..] {
        assert_eq!(tool.schema["type"], "object");
        assert!(tool.schema["properties"]["command"].is_object() && tool.description.is_some());
    }
    assert!(ask.tools[2].description.as_ref().is_some_and(|text| text.ends_with("At most 1000 characters of a file are shown at once.")));
}

#[test]
fn breakpoints_are_counted_and_ordered() {
    let marked =
        |ttl: Option<&str>| json!({ "type": "text", "text": "t", "cache_control": { "type": "ephemeral", "ttl": ttl.unwrap_or("5m") } });
    let says = |blocks: Value| json!({ "role": "user", "content": blocks });
    let four = json!([marked(None), marked(None), marked(None), marked(None)]);
    assert_eq!(talk(json!([says(four.clone())])).turns[0].parts.len(), 4);
    let five = [four.as_array().expect("blocks").clone(), vec![marked(None)]].concat();
    assert!(wrong_talk(json!([says(json!(five))])).starts_with("messages.0.content.4.cache_control: at most 4 blocks"));
    assert!(
        wrong(json!({ "system": [marked(None)], "messages": [says(json!([marked(Some("1h"))]))] }))
            .starts_with("messages.0.content.0.cache_control.ttl: must not be `1h` behind a breakpoint of `5m`")
    );

    let automatic = |content: Value| json!({ "cache_control": { "type": "ephemeral" }, "messages": [says(content)] });
    assert_eq!(with(automatic(json!("q"))).turns[0].parts[0].cache, Some(CacheTtl::FiveMinutes));
    assert!(with(automatic(four)).turns[0].parts[3].cache.is_some(), "a breakpoint that is there already does not count twice");
    let mut others = json!([marked(None), marked(None), marked(None), marked(None)]);
    others.as_array_mut().expect("blocks").push(json!({ "type": "text", "text": "last" }));
    assert!(wrong(automatic(others)).starts_with("cache_control: at most 4 blocks"));
    assert!(wrong(automatic(json!([marked(Some("1h"))]))).starts_with("cache_control.ttl: differs"));
    let scoped = with(json!({ "cache_control": { "type": "ephemeral", "scope": "global" } }));
    assert_eq!(beyond(&scoped), ["(cache_control.scope)"]);
}
