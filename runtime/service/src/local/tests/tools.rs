//! Calls of tools, and answers of a form.

use super::*;

/// Whatever the model would like to say next: a tool that is named is called once, and where any must be called none is called twice alike.
#[test]
fn a_tool_that_must_be_called_is_not_called_again_and_again() {
    with(async |local| {
        let schema = json!({"type": "object", "properties": {"animal": {"enum": ["fox", "owl"]}}, "required": ["animal"], "additionalProperties": false});
        for seed in 0..4 {
            for tool_choice in [ToolChoice::Tool("find".to_owned()), ToolChoice::Any] {
                let named = tool_choice != ToolChoice::Any;
                let asked = Ask {
                    tools: vec![tool("find", schema.clone())],
                    tool_choice,
                    max_tokens: Some(400),
                    sampling: firecrest_contract::ask::Sampling { seed: Some(seed), ..Default::default() },
                    ..hello()
                };
                let events = all(&local, asked, Grant::unlimited()).await;
                let opened = events.iter().filter(|event| matches!(event, Event::Open { block: Block::ToolUse { .. }, .. })).count();
                // Two animals are two calls that differ, and there is no third.
                assert!(if named { opened == 1 } else { (1..=2).contains(&opened) }, "{events:?}");
                assert_eq!(finishes(&events), [Finish::ToolUse]);
            }
        }
    });
}

#[test]
fn calls_come_from_the_engine_itself() {
    with(async |local| {
        let schema = json!({"type": "object", "properties": {"animal": {"enum": ["fox", "owl"]}}, "required": ["animal"], "additionalProperties": false});
        for seed in 0..3 {
            for parallel_tools in [true, false] {
                let asked = Ask {
                    tools: vec![tool("find", schema.clone())],
                    tool_choice: ToolChoice::Any,
                    parallel_tools,
                    max_tokens: Some(200),
                    sampling: firecrest_contract::ask::Sampling { seed: Some(seed), ..Default::default() },
                    ..hello()
                };
                let events = all(&local, asked, Grant::unlimited()).await;
                let opened = events.iter().filter(|event| matches!(event, Event::Open { block: Block::ToolUse { .. }, .. })).count();
                assert!(opened >= 1 && (parallel_tools || opened == 1));
                let Some(Event::Open { block: Block::ToolUse { id, name }, .. }) = events.get(1) else { panic!("{events:?}") };
                assert!(id.starts_with("toolu_01") && id.len() == 32 && name == "find");
                let json: String = events
                    .iter()
                    .skip(1)
                    .take_while(|event| !matches!(event, Event::Close { .. }))
                    .filter_map(|event| match event {
                        Event::Arguments { json, .. } => Some(json.as_str()),
                        _ => None,
                    })
                    .collect();
                assert!([r#"{"animal": "fox"}"#, r#"{"animal": "owl"}"#].contains(&json.as_str()), "{json}");
                assert!(matches!(finishes(&events)[..], [Finish::ToolUse | Finish::MaxTokens]));
            }
        }
    });
}

#[test]
fn answers_of_a_form() {
    with(async |local| {
        let schema = json!({"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": false});
        let events = all(&local, Ask { format: Some(Format::JsonSchema { name: None, schema }), ..hello() }, Grant::unlimited()).await;
        assert!([r#"{"n":1}"#, r#"{"n":2}"#].contains(&text(&events, 0).as_str()), "{events:?}");
        assert_eq!(finishes(&events), [Finish::EndTurn]);
    });
}
