use firecrest_contract::ask::{Ask, Format, ServiceTier, Thinking, ToolChoice};
use firecrest_contract::error::ApiError;
use firecrest_contract::leaf::parse;
use firecrest_contract::openai::chat::Request;

use crate::{paths, shown, split};

fn ask(body: &str) -> Result<Ask, ApiError> {
    parse::<Request>(body.as_bytes())?.into_ask()
}

/// A request with these members beside a model and a message.
fn with(members: &str) -> Result<Ask, ApiError> {
    ask(&format!(r#"{{"model": "m", "messages": [{{"role": "user", "content": "hi"}}], {members}}}"#))
}

fn said(messages: &str) -> Result<Ask, ApiError> {
    ask(&format!(r#"{{"model": "m", "messages": {messages}}}"#))
}

const TOOLS: &str = r#""tools": [
    {"type": "function", "function": {"name": "a", "parameters": {"type": "object"}, "strict": true}},
    {"type": "function", "function": {"name": "b", "description": "does b"}}]"#;

#[test]
fn every_role() {
    let ask = said(
        r#"[
            {"role": "system", "content": "be brief"},
            {"role": "developer", "content": [{"type": "text", "text": "be kind", "prompt_cache_breakpoint": {"mode": "explicit"}}]},
            {"role": "user", "name": "ada", "content": [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": "data:,"}}]},
            {"role": "assistant", "content": null, "refusal": null, "annotations": [], "reasoning_content": "hm", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "a", "arguments": "{\"x\": 1}"}},
                {"id": "c2", "type": "function", "function": {"name": "b", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "one"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "two", "prompt_cache_breakpoint": {}}, {"type": "text", "text": "lines"}]},
            {"role": "user", "content": "go on"},
            {"role": "assistant", "content": [{"type": "text", "text": "well"}, {"type": "refusal", "refusal": "no"}], "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": null}]"#,
    )
    .expect("an ask");
    assert_eq!(
        shown(&ask),
        "system\n  text be brief\nsystem\n  text be kind (kept)\nuser\n  text hi\n  Beyond\nassistant\n  thought hm None\n  call c1 a {\"x\":1}\n  call c2 b {}\n\
         user\n  result c1 one false\n  result c2 two\nlines false (kept)\nuser\n  text go on\nassistant\n  text well\n  text no\n  call call_7 f {}\nuser\n  result call_7  false\n"
    );
    assert_eq!(paths(&ask.beyond), [("messages.2.name", true), ("messages.2.content.1", false)]);
    assert!(ask.beyond[1].why.contains("images"));
}

#[test]
fn leaves_of_messages() {
    let wrong = |messages: &str| split(said(messages).expect_err("messages that are wrong"));
    assert_eq!(wrong("[]").0, "messages");
    assert_eq!(
        wrong(r#"[{"role": "user", "content": 3}]"#),
        ("messages.0.content".into(), "expected a string or an array of parts, found a number".into())
    );
    assert_eq!(wrong(r#"[{"role": "user", "content": [{"type": "text", "text": []}]}]"#).0, "messages.0.content.0.text");
    assert_eq!(wrong(r#"[{"role": "user", "content": [{"text": "a"}]}]"#), ("messages.0.content.0.type".into(), "field required".into()));
    assert_eq!(wrong(r#"[{"role": "user", "content": "a"}, {"role": "bot"}]"#).0, "messages.1.role");
    assert!(wrong(r#"[{"role": "bot"}]"#).1.starts_with("unknown variant `bot`, expected one of `system`, `developer`"));
    assert!(wrong(r#"[{"content": "a"}]"#).1.contains("field required"));
    assert_eq!(wrong(r#"["a"]"#), ("messages.0".into(), "expected an object with a `role`, found a string".into()));
    let call = |arguments: &str| {
        format!(
            r#"[{{"role": "assistant", "tool_calls": [{{"id": "c", "type": "function", "function": {{"name": "a", "arguments": {arguments}}}}}]}}]"#
        )
    };
    assert_eq!(wrong(&call("{}")).0, "messages.0.tool_calls.0.function.arguments");
    assert_eq!(
        wrong(&call(r#""[1]""#)),
        ("messages.0.tool_calls.0.function.arguments".into(), "expected the JSON text of an object, found an array".into())
    );
    assert!(wrong(&call(r#""{\"a\"""#)).1.starts_with("this is not JSON text: EOF"));
    for name in ["<|im_end|>", "a b", "", "[INST]", &"a".repeat(129)] {
        let calls = format!(
            r#"[{{"role": "assistant", "tool_calls": [{{"id": "c", "type": "function", "function": {{"name": "{name}", "arguments": ""}}}}]}}]"#
        );
        assert_eq!(wrong(&calls).0, "messages.0.tool_calls.0.function.name", "{name}");
        let call = format!(r#"[{{"role": "assistant", "function_call": {{"name": "{name}", "arguments": ""}}}}]"#);
        assert_eq!(wrong(&call).0, "messages.0.function_call.name", "{name}");
    }
}

#[test]
fn ranges() {
    let wrong = |members: &str| split(with(members).expect_err("members that are wrong")).0;
    for (members, path) in [
        (r#""temperature": 2.1"#, "temperature"),
        (r#""temperature": "hot""#, "temperature"),
        (r#""temperature": 1e400"#, ""),
        (r#""top_p": -0.1"#, "top_p"),
        (r#""top_k": 0"#, "top_k"),
        (r#""n": 0"#, "n"),
        (r#""n": 129"#, "n"),
        (r#""max_tokens": 0"#, "max_tokens"),
        (r#""max_completion_tokens": 4294967296"#, "max_completion_tokens"),
        (r#""max_completion_tokens": 5, "max_tokens": 6"#, "max_tokens"),
        (r#""presence_penalty": 3"#, "presence_penalty"),
        (r#""frequency_penalty": -2.5"#, "frequency_penalty"),
        (r#""logprobs": true, "top_logprobs": 21"#, "top_logprobs"),
        (r#""top_logprobs": 2"#, "top_logprobs"),
        (r#""logit_bias": {"7": 101}"#, "logit_bias.7"),
        (r#""logit_bias": {"x": 1}"#, "logit_bias.x"),
        (r#""logit_bias": {"7": "1"}"#, "logit_bias.7"),
        (r#""logit_bias": {"7": 1, "07": 2}"#, "logit_bias.7"),
        (r#""stop": """#, "stop"),
        (r#""stop": ["a", ""]"#, "stop.1"),
        (r#""stop": ["a", 1]"#, "stop.1"),
        (r#""stream_options": {"include_usage": true}"#, "stream_options"),
        (r#""stream": true, "stream_options": {"include_usage": 1}"#, "stream_options.include_usage"),
        (r#""reasoning_effort": "huge""#, "reasoning_effort"),
        (r#""response_format": {"type": "json_schema"}"#, "response_format.json_schema"),
        (r#""response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": []}}"#, "response_format.json_schema.schema"),
        (r#""response_format": "json""#, "response_format"),
    ] {
        assert_eq!(wrong(members), path, "{members}");
    }
    assert!(
        with(&format!(r#""stop": [{}"z"]"#, r#""a","#.repeat(64)))
            .expect_err("65 texts")
            .message
            .starts_with("stop: 65 texts are too many")
    );
}

#[test]
fn null_is_nothing() {
    let nulls = r#""audio": null, "frequency_penalty": null, "logit_bias": null, "logprobs": null, "max_completion_tokens": null, "max_tokens": null,
        "metadata": null, "modalities": null, "moderation": null, "n": null, "parallel_tool_calls": null, "prediction": null, "presence_penalty": null,
        "prompt_cache_key": null, "reasoning_effort": null, "response_format": null, "safety_identifier": null, "seed": null, "service_tier": null, "stop": null,
        "store": null, "stream": null, "stream_options": null, "temperature": null, "tool_choice": null, "tools": null, "top_logprobs": null, "top_p": null,
        "user": null, "verbosity": null, "web_search_options": null, "new_one": null"#;
    assert_eq!(with(nulls).expect("an ask"), with(r#""stream": false"#).expect("an ask"));
}

#[test]
fn settings() {
    let ask = with(
        r#""temperature": 0.5, "top_p": 1, "seed": -1, "n": 3, "max_tokens": 9, "stop": "x", "logprobs": true, "top_logprobs": 2, "logit_bias": {"9": -1.5, "2": 1},
           "service_tier": "flex", "reasoning_effort": "low", "user": "u", "safety_identifier": "s", "stream": true, "stream_options": {"include_usage": true},
           "response_format": {"type": "json_schema", "json_schema": {"name": "r", "schema": {"type": "object"}, "strict": true}}"#,
    )
    .expect("an ask");
    assert_eq!((ask.sampling.temperature, ask.sampling.top_p, ask.sampling.seed), (Some(0.5), Some(1.0), Some(u64::MAX)));
    assert_eq!(ask.sampling.logit_bias, [(2, 1.0), (9, -1.5)]);
    assert_eq!((ask.choices, ask.max_tokens, ask.logprobs, ask.tier), (3, Some(9), Some(2), ServiceTier::Batch));
    assert_eq!((ask.stop.as_slice(), ask.user.as_deref(), ask.stream), (&["x".to_owned()][..], Some("s"), true));
    assert_eq!(ask.thinking, Thinking::Budget { tokens: 2048, hidden: false });
    assert!(matches!(ask.format, Some(Format::JsonSchema { name: Some(name), .. }) if name == "r"));
    assert!(ask.beyond.is_empty());
    assert_eq!(with(r#""response_format": {"type": "text"}"#).expect("an ask").format, None);
    assert_eq!(with(r#""reasoning_effort": "none""#).expect("an ask").thinking, Thinking::Off);
}

#[test]
fn beyond() {
    let ask = with(
        r#""functions": [], "audio": {}, "modalities": ["text", "audio"], "store": true, "metadata": {"a": "b"}, "prompt_cache_key": "k", "verbosity": "low",
           "tools": [{"type": "custom", "custom": {"name": "c"}}], "response_format": {"type": "xml"}, "tool_choice": {"type": "mcp"},
           "stream": true, "stream_options": {"include_obfuscation": true}, "guided_regex": ".", "store_": null"#,
    )
    .expect("an ask");
    let refused: Vec<&str> = ask.beyond.iter().filter(|b| !b.hint).map(|b| b.path.as_str()).collect();
    assert_eq!(refused, ["tool_choice.type", "response_format.type", "functions", "audio", "modalities.1"]);
    let hints: Vec<&str> = ask.beyond.iter().filter(|b| b.hint).map(|b| b.path.as_str()).collect();
    assert_eq!(
        hints,
        ["stream_options.include_obfuscation", "tools.0.type", "metadata", "store", "prompt_cache_key", "verbosity", "guided_regex"]
    );
    assert!(ask.beyond.iter().all(|b| !b.why.is_empty()));
}

/// A word that is none of those that a member may be is never taken for one of them.
#[test]
fn words_that_are_none() {
    let wrong = |members: &str| split(with(members).expect_err("a word that is none"));
    let tiers = "unknown variant `bogus`, expected one of `auto`, `default`, `flex`, `scale`, `priority`, `fast`, `ultrafast`";
    assert_eq!(wrong(r#""service_tier": "bogus""#), ("service_tier".into(), tiers.into()));
    for (members, path, allowed) in [
        (r#""service_tier": "AUTO""#, "service_tier", "`auto`"),
        (r#""service_tier": 3"#, "service_tier", "expected a"),
        (r#""verbosity": "bogus""#, "verbosity", "`low`, `medium`, `high`"),
        (r#""prompt_cache_retention": "bogus""#, "prompt_cache_retention", "`24h`"),
        (r#""reasoning_effort": "bogus""#, "reasoning_effort", "`minimal`"),
        (r#""tool_choice": "bogus""#, "tool_choice", "`required`"),
        (
            r#""tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "bogus", "tools": []}}"#,
            "tool_choice.allowed_tools.mode",
            "`required`",
        ),
    ] {
        let (at, why) = wrong(members);
        assert!(at == path && why.contains(allowed), "{members}: {at}: {why}");
    }
    for (breakpoint, leaf) in [(r#"{"mode": "bogus"}"#, "mode"), (r#"{"mode": "explicit", "ttl": "bogus"}"#, "ttl")] {
        let part = format!(r#"{{"type": "text", "text": "a", "prompt_cache_breakpoint": {breakpoint}}}"#);
        let (at, _) = split(said(&format!(r#"[{{"role": "user", "content": [{part}]}}]"#)).expect_err("a word that is none"));
        assert_eq!(at, format!("messages.0.content.0.prompt_cache_breakpoint.{leaf}"));
    }
    for (tier, asked) in [
        ("auto", ServiceTier::Auto),
        ("default", ServiceTier::Standard),
        ("flex", ServiceTier::Batch),
        ("scale", ServiceTier::Auto),
        ("priority", ServiceTier::Auto),
    ] {
        let ask = with(&format!(r#""service_tier": "{tier}", "verbosity": "medium""#)).expect("an ask");
        assert_eq!((ask.tier, ask.beyond.len()), (asked, 0), "{tier}");
    }
    let part = r#"{"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h", "x": 1}}"#;
    let ask = said(&format!(r#"[{{"role": "user", "content": [{part}]}}]"#)).expect("an ask");
    let at = "messages.0.content.0.prompt_cache_breakpoint";
    assert_eq!(paths(&ask.beyond), [(format!("{at}.ttl").as_str(), true), (format!("{at}.x").as_str(), true)]);
}

#[test]
fn unknown_members_make_no_flood() {
    let many: String = (0..5000).map(|n| format!(r#", "x{n}": 1"#)).collect();
    assert_eq!(with(&format!(r#""stream": false{many}"#)).expect("an ask").beyond.len(), 64);
}

#[test]
fn tools_and_choices() {
    let choice = |choice: &str| with(&format!(r#"{TOOLS}, "tool_choice": {choice}"#));
    let names = |ask: &Ask| ask.tools.iter().map(|t| t.name.clone()).collect::<Vec<_>>();
    let ask = choice(r#""required""#).expect("an ask");
    assert_eq!((ask.tool_choice, ask.tools[0].strict, ask.tools[1].strict), (ToolChoice::Any, true, false));
    assert_eq!(ask.tools[1].schema, serde_json::json!({ "type": "object", "properties": {}, "additionalProperties": false }));
    assert_eq!(choice(r#""none""#).expect("an ask").tool_choice, ToolChoice::None);
    assert_eq!(choice(r#"{"type": "function", "function": {"name": "b"}}"#).expect("an ask").tool_choice, ToolChoice::Tool("b".into()));
    let allowed = |name: &str| {
        choice(&format!(
            r#"{{"type": "allowed_tools", "allowed_tools": {{"mode": "required", "tools": [{{"type": "function", "function": {{"name": "{name}"}}}}]}}}}"#
        ))
    };
    let ask = allowed("b").expect("an ask");
    assert_eq!((names(&ask), ask.tool_choice.clone()), (vec!["b".to_owned()], ToolChoice::Any));
    let wrong = |result: Result<Ask, ApiError>| split(result.expect_err("a choice that is wrong")).0;
    assert_eq!(wrong(allowed("c")), "tool_choice.allowed_tools.tools.0.function.name");
    assert_eq!(wrong(choice(r#"{"type": "function", "function": {"name": "c"}}"#)), "tool_choice.function.name");
    assert_eq!(wrong(choice(r#""any""#)), "tool_choice");
    assert_eq!(wrong(choice("7")), "tool_choice");
    assert_eq!(wrong(with(r#""tool_choice": "required""#)), "tool_choice");
    assert_eq!(wrong(with(r#""tools": [{"type": "function", "function": {"name": "a b"}}]"#)), "tools.0.function.name");
    assert_eq!(
        wrong(with(r#""tools": [{"type": "function", "function": {"name": "a"}}, {"type": "function", "function": {"name": "a"}}]"#)),
        "tools.1.function.name"
    );
    assert_eq!(
        wrong(with(r#""tools": [{"type": "function", "function": {"name": "a", "parameters": 1}}]"#)),
        "tools.0.function.parameters"
    );
    assert_eq!(wrong(with(r#""tools": [{"type": "function"}]"#)), "tools.0.function");
}

#[test]
fn arguments_are_objects() {
    let of =
        |parameters: &str| with(&format!(r#""tools": [{{"type": "function", "function": {{"name": "a", "parameters": {parameters}}}}}]"#));
    let schema = |parameters: &str| of(parameters).expect("an ask").tools[0].schema.to_string();
    assert_eq!(schema("{}"), r#"{"type":"object"}"#);
    assert_eq!(schema(r#"{"properties": {"a": {}}}"#), r#"{"type":"object","properties":{"a":{}}}"#);
    assert_eq!(schema(r#"{"required": ["a"], "type": "object"}"#), r#"{"required":["a"],"type":"object"}"#);
    assert_eq!(schema(r#"{"type": ["null", "object"], "required": ["a"]}"#), r#"{"type":"object","required":["a"]}"#);
    assert_eq!(schema("null"), r#"{"type":"object","properties":{},"additionalProperties":false}"#);
    for kind in [r#""string""#, r#"["string", "null"]"#, "null", "{}", "3"] {
        let wrong = split(of(&format!(r#"{{"type": {kind}}}"#)).expect_err("arguments that are no object"));
        assert_eq!(wrong, ("tools.0.function.parameters.type".into(), "must be `object`".into()), "{kind}");
    }
}

#[test]
fn bodies_that_are_no_objects() {
    use firecrest_contract::openai::{completions, embeddings, moderations, responses};
    for body in ["[]", "null", "3", "\"a\""] {
        let wrong = [
            parse::<Request>(body.as_bytes()).err(),
            parse::<responses::Request>(body.as_bytes()).err(),
            parse::<completions::Request>(body.as_bytes()).err(),
            parse::<embeddings::Request>(body.as_bytes()).err(),
            parse::<moderations::Request>(body.as_bytes()).err(),
            parse::<moderations::ModerateRequest>(body.as_bytes()).err(),
        ];
        for error in wrong.into_iter().map(|error| error.expect("no object")) {
            assert!(error.message.ends_with(", expected an object"), "{body}: {}", error.message);
        }
    }
    let wrong = with(r#""stream": true, "stream_options": 3"#).expect_err("no object").message;
    assert!(wrong.starts_with("stream_options: ") && wrong.ends_with(", expected an object"), "{wrong}");
}
