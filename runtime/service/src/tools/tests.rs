//! Raw outputs as models write them, cut every way.

use firecrest_contract::event::{Block, Event, Finish, TokenLogprob, TokenText};
use proptest::prelude::*;

use super::*;

fn reading(format: &'static ToolFormat) -> Reading {
    let tools = ["get_weather", "search", "now"].map(str::to_owned).to_vec();
    Reading { format: Some(format), tools, thoughts: Some(&THOUGHTS[0]), ..Reading::default() }
}

/// Events of a text in pieces, neighbouring pieces of one block as one.
fn read(reading: Reading, pieces: &[&str], ending: Ending) -> Vec<Event> {
    let mut next = 0;
    let ids = move || {
        next += 1;
        format!("toolu_{next}")
    };
    let mut parser = Parser::new(reading, Box::new(ids));
    let mut events = Vec::new();
    for piece in pieces {
        parser.push(piece, &mut events);
    }
    parser.finish(ending, &mut events);
    joined(events)
}

fn joined(events: Vec<Event>) -> Vec<Event> {
    let mut out: Vec<Event> = Vec::new();
    for event in events {
        match (out.last_mut(), event) {
            (Some(Event::Text { text, .. }), Event::Text { text: more, .. }) => text.push_str(&more),
            (Some(Event::Thinking { text, .. }), Event::Thinking { text: more, .. }) => text.push_str(&more),
            (Some(Event::Arguments { json, .. }), Event::Arguments { json: more, .. }) => json.push_str(&more),
            (_, event) => out.push(event),
        }
    }
    out
}

/// Events as short lines. Signatures are left out: they follow from the thoughts.
fn lines(events: &[Event]) -> String {
    let line = |event: &Event| match event {
        Event::Open { block: Block::Text, .. } => "T".to_owned(),
        Event::Open { block: Block::Thinking, .. } => "H".to_owned(),
        Event::Open { block: Block::ToolUse { id, name }, .. } => format!("C {id} {name}"),
        Event::Text { text, .. } => format!("{text:?}"),
        Event::Thinking { text, .. } => format!("{text:?}"),
        Event::Arguments { json, .. } => json.clone(),
        Event::Close { .. } => ".".to_owned(),
        Event::Finish { reason, .. } => format!("{reason:?}"),
        other => format!("{other:?}"),
    };
    let told = events.iter().filter(|event| !matches!(event, Event::Signature { .. }));
    told.map(line).collect::<Vec<_>>().join(" ")
}

fn whole(format: &'static ToolFormat, text: &str) -> String {
    lines(&read(reading(format), &[text], Ending::Complete))
}

fn cut(format: &'static ToolFormat, text: &str) -> String {
    lines(&read(reading(format), &[text], Ending::Cut(Finish::MaxTokens)))
}

const HERMES_TWO: &str = "<think>\nTwo cities, so two calls.\n</think>\n\nLet me look.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Köln \\\"am\\\" Rhein\"}}\n</tool_call>\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
const LLAMA_TWO: &str =
    "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Oslo\", \"days\": [1, 2]}}; {\"name\": \"now\", \"parameters\": {}}";
const LLAMA_TAG: &str = "<|python_tag|>{\"type\": \"function\", \"name\": \"search\", \"parameters\": {\"q\": \"{}\"}}";
const MISTRAL_TWO: &str =
    "[TOOL_CALLS] [{\"name\": \"search\", \"arguments\": {\"q\": \"a]b\"}}, {\"arguments\": {\"n\": -1e3}, \"name\": \"now\"}]";
const MISTRAL_NEW: &str = "I will.[TOOL_CALLS]search[ARGS]{\"q\": \"x\"}[TOOL_CALLS]now[CALL_ID]a1b2c3d4e[ARGS]{}";
const PYTHON_TWO: &str = "[get_weather(city='Oslo', metric=True), search(q=\"it's\", page=2)]";
const PYTHON_TAG: &str = "<|python_start|>[now()]<|python_end|>";

const RECORDED: [(&ToolFormat, &str, &str); 7] = [
    (
        &HERMES,
        HERMES_TWO,
        r#"H "Two cities, so two calls." . T "Let me look." . C toolu_1 get_weather {"city": "Köln \"am\" Rhein"} . C toolu_2 now {} . ToolUse"#,
    ),
    (&LLAMA, LLAMA_TWO, r#"C toolu_1 get_weather {"city": "Oslo", "days": [1, 2]} . C toolu_2 now {} . ToolUse"#),
    (&LLAMA, LLAMA_TAG, r#"C toolu_1 search {"q": "{}"} . ToolUse"#),
    (&MISTRAL, MISTRAL_TWO, r#"C toolu_1 search {"q": "a]b"} . C toolu_2 now {"n": -1e3} . ToolUse"#),
    (&MISTRAL_NAMED, MISTRAL_NEW, r#"T "I will." . C toolu_1 search {"q": "x"} . C toolu_2 now {} . ToolUse"#),
    (&PYTHONIC, PYTHON_TWO, r#"C toolu_1 get_weather {"city":"Oslo","metric":true} . C toolu_2 search {"q":"it's","page":2} . ToolUse"#),
    (&PYTHONIC, PYTHON_TAG, r#"C toolu_1 now {} . ToolUse"#),
];

/// Texts that are not quite calls.
const ODD: [(&ToolFormat, &str); 14] = [
    (&HERMES, "a < b <tool <tool_call>\n{\"name\": \"launch\", \"arguments\": {}}\n</tool_call> done"),
    (&HERMES, "<tool_call>{\"name\": \"now\", \"arguments\": [1]}</tool_call>"),
    (&HERMES, "<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": tru}}</tool_call> x"),
    (&HERMES, "<tool_call>{\"name\": \"now\"}\n</tool_call>\n<tool_call>{\"name\": \"now\", \"arguments\": \"{\\\"a\\\": 1}\"}"),
    (&HERMES, "<tool_call> nonsense <tool_call>{\"name\": \"now\", \"arguments\": null}</tool_call>"),
    (&HERMES, "<think>never closed <tool_call>"),
    (&HERMES, "  \n <thin"),
    (&LLAMA, "{\"name\": \"Ada\", \"age\": 3}"),
    (&LLAMA, "{\"a\": 1}\nand so on"),
    (&LLAMA, "<|python_tag|>print(1)"),
    (&MISTRAL, "[TOOL_CALLS][]"),
    (&MISTRAL, "[TOOL_CALLS][{\"name\": \"now\", \"arguments\": {}}, {\"name\": \"x\""),
    (&PYTHONIC, "[1, 2, 3] is a list"),
    (&PYTHONIC, "[now(), launch(x=1)] y"),
];

#[test]
fn recorded_outputs_become_blocks() {
    for (format, text, expected) in RECORDED {
        assert_eq!(whole(format, text), expected, "{}: {text}", format.name);
    }
}

/// In every format, as they are written.
#[test]
fn arguments_are_told_as_they_come() {
    let begun = [
        (&HERMES, "<tool_call>\n{\"name\": \"search\", \"arguments\": {\"q\": \"ab", r#"{"q": "ab"#),
        (&GENERIC, "<tool_call>\n{\"name\": \"search\", \"arguments\": {\"q\": \"ab", r#"{"q": "ab"#),
        (&LLAMA, "{\"name\": \"search\", \"parameters\": {\"q\": \"ab", r#"{"q": "ab"#),
        (&MISTRAL, "[TOOL_CALLS][{\"name\": \"search\", \"arguments\": {\"q\": \"ab", r#"{"q": "ab"#),
        (&MISTRAL_NAMED, "[TOOL_CALLS]search[ARGS]{\"q\": \"ab", r#"{"q": "ab"#),
        (&PYTHONIC, "[search(q='ab", r#"{"q":"ab"#),
    ];
    for (format, text, told) in begun {
        let mut parser = Parser::new(reading(format), Box::new(|| "toolu_1".to_owned()));
        let mut events = Vec::new();
        parser.push(text, &mut events);
        assert_eq!(lines(&joined(events)), format!("C toolu_1 search {told}"), "{}", format.name);
    }
}

/// Whoever runs a call as soon as its arguments are an object's JSON runs only calls that are whole.
#[test]
fn arguments_are_whole_only_where_their_call_is() {
    for (format, text, _) in RECORDED {
        let mut parser = Parser::new(reading(format), Box::new(String::new));
        let (mut events, mut open) = (Vec::new(), None::<String>);
        for c in text.chars() {
            parser.push(c.encode_utf8(&mut [0; 4]), &mut events);
            for event in events.drain(..) {
                match event {
                    Event::Open { block: Block::ToolUse { .. }, .. } => open = Some(String::new()),
                    Event::Arguments { json, .. } => open.as_mut().expect("a call").push_str(&json),
                    Event::Close { .. } => open = None,
                    _ => {}
                }
            }
            let whole = open.as_ref().is_some_and(|json| serde_json::from_str::<serde_json::Value>(json).is_ok());
            assert!(!whole, "{text}: {open:?}");
        }
    }
}

/// Where arguments were told that turn out to be none, the call is closed, and none is asked to be run.
#[test]
fn a_call_that_breaks_is_closed() {
    let arguments = "<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": ";
    for (broken, told, rest) in [
        ("tru}}</tool_call> x", "{\"a\": tru", "}}</tool_call> x"),
        ("1}, x", "{\"a\": 1", "x"),
        ("1} <|im_start|>", "{\"a\": 1", "<|im_start|>"),
        ("\"\\ud800\"}}", "{\"a\": \"\\ud800", "\"}}"),
        ("1e999}}", "{\"a\": 1e99", "9}}"),
    ] {
        let expected = format!("C toolu_1 now {told} . T {rest:?} . EndTurn");
        assert_eq!(whole(&HERMES, &format!("{arguments}{broken}")), expected);
    }
    assert_eq!(whole(&PYTHONIC, "[now(a=1, b=x)]"), r#"C toolu_1 now {"a":1,"b": . T ")]" . EndTurn"#);
    assert_eq!(whole(&MISTRAL_NAMED, "[TOOL_CALLS]now[ARGS]{\"a\": ]"), r#"C toolu_1 now {"a":  . T "]" . EndTurn"#);
}

fn stopping(format: Option<&'static ToolFormat>, stops: &[&str], text: &str) -> String {
    let stops = Stops::new(&stops.iter().map(|stop| (*stop).to_owned()).collect::<Vec<_>>());
    let reading = || Reading { format, stops: stops.clone(), ..reading(&HERMES) };
    let expected = read(reading(), &[text], Ending::Complete);
    for at in (0..=text.len()).filter(|&at| text.is_char_boundary(at)) {
        assert_eq!(read(reading(), &[&text[..at], &text[at..]], Ending::Complete), expected, "{text} at {at}");
    }
    lines(&expected)
}

#[test]
fn stop_texts_are_looked_for_in_text_alone() {
    let call = "<tool_call>\n{\"name\": \"now\", \"arguments\": {\"a\": \"Oslo\"}}\n</tool_call>";
    for stop in ["\n", "name", "<tool_call>", "Oslo", "}", "</"] {
        assert_eq!(stopping(Some(&HERMES), &[stop], call), r#"C toolu_1 now {"a": "Oslo"} . ToolUse"#, "{stop}");
    }
    for stop in ["think", "</", "hm", "\n"] {
        assert_eq!(stopping(Some(&HERMES), &[stop], "<think>\nhm\n</think>\n\nYes."), r#"H "hm" . T "Yes." . EndTurn"#, "{stop}");
    }
    // In the text, before and behind calls, over what only looked like one, and whole before what is longer.
    let stopped = |stop: &str, text: &str| stopping(Some(&HERMES), &[stop, "never said"], text);
    assert_eq!(stopped("b c", "a b c d"), r#"T "a " . StopSequence("b c")"#);
    assert_eq!(stopped("es", &format!("Yes.{call}")), r#"T "Y" . StopSequence("es")"#);
    assert_eq!(stopped("It", &format!("{call}\nIt is.")), r#"C toolu_1 now {"a": "Oslo"} . StopSequence("It")"#);
    assert_eq!(stopped("<tool_call>x", "a <tool_call>xy"), r#"T "a " . StopSequence("<tool_call>x")"#);
    // What a call or the end stands behind was no stop text.
    assert_eq!(stopped("Yes, sir", &format!("Yes{call}")), r#"T "Yes" . C toolu_1 now {"a": "Oslo"} . ToolUse"#);
    assert_eq!(stopped("Yes, sir", "Yes, s"), r#"T "Yes, s" . EndTurn"#);
    // In JSON and without tools all is text.
    assert_eq!(stopping(None, &["}"], "{\"a\": 1}"), r#"T "{\"a\": 1" . StopSequence("}")"#);
    assert_eq!(stopping(None, &["\n"], "\n"), r#"StopSequence("\n")"#);
    assert_eq!(stopping(None, &["b", "abc", "ab"], "xabc"), r#"T "x" . StopSequence("ab")"#);
}

/// Of the text, what each token spells in it; whatever is cut.
fn spelled(stops: &[&str], tokens: &[(&[u8], &str)], ending: Ending) -> (String, Vec<Vec<u8>>) {
    let stops = Stops::new(&stops.iter().map(|stop| (*stop).to_owned()).collect::<Vec<_>>());
    let mut parser = Parser::new(Reading { stops, ..reading(&HERMES) }, Box::new(String::new));
    let mut events = Vec::new();
    for (bytes, text) in tokens {
        parser.expect(text.len(), TokenLogprob { token: TokenText(bytes.to_vec()), logprob: -1.0, top: Vec::new() });
        parser.push(text, &mut events);
    }
    parser.finish(ending, &mut events);
    let (mut text, mut spelled) = (String::new(), Vec::new());
    for event in events {
        if let Event::Text { text: more, logprobs, .. } = event {
            text.push_str(&more);
            spelled.extend(logprobs.into_iter().map(|logprob| logprob.token.0));
        }
    }
    (text, spelled)
}

#[test]
fn every_token_of_the_text_has_its_place() {
    let fox = "\u{1f98a}".as_bytes();
    let parts: Vec<(&[u8], &str)> = vec![
        (b"a ", "a "),
        (&fox[..1], ""),
        (&fox[1..2], ""),
        (&fox[2..], "\u{1f98a}"),
        (b"!", "!"),
        (&fox[..1], ""),
        (&fox[1..], "\u{1f98a}"),
    ];
    for stops in [&[][..], &["a \u{1f98a}?"], &["!!"]] {
        let (text, tokens) = spelled(stops, &parts, Ending::Complete);
        assert_eq!((text.as_bytes(), tokens.len()), (tokens.concat().as_slice(), parts.len()));
    }
    // Of a token that a stop text cuts, what is in the text; those of the stop text have none.
    let words: Vec<(&[u8], &str)> = vec![(b"one ", "one "), (b"two th", "two th"), (b"ree", "ree"), (b" four", " four")];
    let (text, tokens) = spelled(&["three"], &words, Ending::Complete);
    assert_eq!((text.as_str(), tokens), ("one two ", vec![b"one ".to_vec(), b"two ".to_vec()]));
    let (text, tokens) = spelled(&["one"], &words, Ending::Complete);
    assert_eq!((text.as_str(), tokens.len()), ("", 0));
    let (text, tokens) = spelled(&["three four!"], &words, Ending::Complete);
    assert_eq!((text.as_str(), tokens.len()), ("one two three four", 4));
    // Tokens of thoughts, calls and layout have none.
    let mixed: Vec<(&[u8], &str)> =
        vec![(b"<think>", "<think>"), (b"hm", "hm"), (b"</think>\n\nYes", "</think>\n\nYes"), (b" sir", " sir")];
    let (text, tokens) = spelled(&["never"], &mixed, Ending::Complete);
    assert_eq!((text.as_str(), tokens), ("Yes sir", vec![b"Yes".to_vec(), b" sir".to_vec()]));
}

#[test]
fn what_is_no_call_is_text() {
    let told: Vec<String> = ODD.iter().map(|(format, text)| whole(format, text)).collect();
    let expected = [
        r#"T "a < b <tool <tool_call>\n{\"name\": \"launch\", \"arguments\": {}}\n</tool_call> done" . EndTurn"#,
        r#"T "<tool_call>{\"name\": \"now\", \"arguments\": [1]}</tool_call>" . EndTurn"#,
        r#"C toolu_1 now {"a": tru . T "}}</tool_call> x" . EndTurn"#,
        r#"C toolu_1 now {} . C toolu_2 now {"a": 1} . ToolUse"#,
        r#"T "<tool_call> nonsense" . C toolu_1 now {} . ToolUse"#,
        r#"H "never closed <tool_call>" . EndTurn"#,
        r#"T "  \n <thin" . EndTurn"#,
        r#"T "{\"name\": \"Ada\", \"age\": 3}" . EndTurn"#,
        r#"T "{\"a\": 1}\nand so on" . EndTurn"#,
        r#"T "<|python_tag|>print(1)" . EndTurn"#,
        r#"T "[TOOL_CALLS][]" . EndTurn"#,
        r#"C toolu_1 now {} . T ", {\"name\": \"x\"" . ToolUse"#,
        r#"T "[1, 2, 3] is a list" . EndTurn"#,
        r#"C toolu_1 now {} . T ", launch(x=1)] y" . ToolUse"#,
    ];
    for (told, expected) in told.iter().zip(expected) {
        assert_eq!(told, expected);
    }
}

#[test]
fn a_call_that_is_cut_is_closed_and_not_to_be_run() {
    let begun = "<tool_call>\n{\"name\": \"search\", \"arguments\": {\"q\": \"a";
    assert_eq!(cut(&HERMES, begun), r#"C toolu_1 search {"q": "a . MaxTokens"#);
    assert_eq!(cut(&HERMES, "Hm.\n<tool_call>\n{\"na"), r#"T "Hm." . MaxTokens"#);
    assert_eq!(cut(&LLAMA, "{\"na"), r#"T "{\"na" . MaxTokens"#);
    assert_eq!(cut(&LLAMA, "{\"name\": \"now\", "), "MaxTokens", "who runs calls without arguments would run it");
    assert_eq!(cut(&HERMES, HERMES_TWO).split(' ').next_back(), Some("MaxTokens"));
    // Told already and never finished: closed, but the caller is not asked to run it.
    assert_eq!(whole(&HERMES, begun), r#"C toolu_1 search {"q": "a . EndTurn"#);
}

#[test]
fn where_only_calls_may_be_what_is_cut_of_one_is_no_text() {
    for (format, begun) in [(&HERMES, "<tool_"), (&HERMES, " \n<"), (&LLAMA, "{\"na"), (&HERMES, "<tool_call>{")] {
        let only = Reading { only_calls: true, ..reading(format) };
        assert_eq!(lines(&read(only.clone(), &[begun], Ending::Cut(Finish::MaxTokens))), "MaxTokens", "{begun}");
        if format.open == HERMES.open {
            let behind = |text: String| lines(&read(only.clone(), &[&text], Ending::Cut(Finish::MaxTokens)));
            assert_eq!(behind(format!("{HERMES_TWO}\n<tool")), behind(HERMES_TWO.to_owned()));
        }
    }
    assert_eq!(cut(&HERMES, "<tool_"), r#"T "<tool_" . MaxTokens"#);
}

#[test]
fn reading_can_end_behind_one_call() {
    for (format, text, expected) in RECORDED.into_iter().filter(|(_, _, expected)| expected.contains("toolu_2")) {
        let one = Reading { one_call: true, ..reading(format) };
        let first = expected.split(" C toolu_2").next().expect("a first call");
        assert_eq!(lines(&read(one, &[text], Ending::Complete)), format!("{first} ToolUse"));
    }
}

#[test]
fn without_tools_nothing_is_a_call() {
    let plain = Reading { format: None, ..reading(&HERMES) };
    let events = read(plain, &["  <tool_call>{\"name\": \"now\"} \n"], Ending::Cut(Finish::StopSequence("x".into())));
    assert_eq!(lines(&events), r#"T "  <tool_call>{\"name\": \"now\"} \n" . StopSequence("x")"#);
    assert_eq!(lines(&read(Reading::default(), &[""], Ending::Complete)), "EndTurn");
}

#[test]
fn thoughts_are_signed_before_they_close() {
    let signed = |pieces: &[&str]| {
        let events = read(reading(&HERMES), pieces, Ending::Complete);
        let at = events.iter().position(|event| matches!(event, Event::Signature { .. })).expect("a signature");
        assert!(matches!(&events[at - 1..=at + 1], [Event::Thinking { .. }, Event::Signature { .. }, Event::Close { .. }]), "{events:?}");
        events[at].clone()
    };
    let whole = signed(&["<think>so it is</think>Yes."]);
    assert_eq!(whole, signed(&["<thi", "nk>so i", "t is<", "/think>Y", "es."]));
    assert_ne!(whole, signed(&["<think>so it was</think>Yes."]));
}

#[test]
fn thoughts_can_be_under_way_or_hidden() {
    let text = "so\n</think>\n\nYes.";
    let begun = Reading { thinks_already: true, ..reading(&HERMES) };
    assert_eq!(lines(&read(begun.clone(), &[text], Ending::Complete)), r#"H "so" . T "Yes." . EndTurn"#);
    let hidden = Reading { hides_thoughts: true, ..begun };
    assert_eq!(lines(&read(hidden, &[text], Ending::Complete)), r#"T "Yes." . EndTurn"#);
    let continued = Reading { continues: true, ..reading(&LLAMA) };
    assert_eq!(lines(&read(continued, &["{\"name\": \"now\"}"], Ending::Complete)), r#"T "{\"name\": \"now\"}" . EndTurn"#);
}

#[test]
fn tokens_follow_their_text() {
    let mut parser = Parser::new(Reading { ..reading(&HERMES) }, Box::new(String::new));
    let mut events = Vec::new();
    for piece in ["<think>", "hm", "</think>", "\n", "Yes", " ", "sir", "<tool_", "call>", "{}", "!"] {
        let token = TokenText(piece.as_bytes().to_vec());
        parser.expect(piece.len(), TokenLogprob { token, logprob: -1.0, top: Vec::new() });
        parser.push(piece, &mut events);
    }
    parser.finish(Ending::Complete, &mut events);
    for event in &events {
        if let Event::Text { text, logprobs, .. } = event {
            assert_eq!(*text, logprobs.iter().map(|logprob| logprob.token.text()).collect::<String>());
        }
    }
    assert_eq!(lines(&joined(events)), r#"H "hm" . T "Yes sir<tool_call>{}!" . EndTurn"#);
}

fn every_text() -> Vec<(&'static ToolFormat, &'static str)> {
    RECORDED.iter().map(|(format, text, _)| (*format, *text)).chain(ODD).collect()
}

#[test]
fn every_cut_gives_the_same_events() {
    for (format, text) in every_text() {
        for ending in [Ending::Complete, Ending::Cut(Finish::MaxTokens)] {
            let expected = read(reading(format), &[text], ending.clone());
            for at in (0..=text.len()).filter(|&at| text.is_char_boundary(at)) {
                assert_eq!(read(reading(format), &[&text[..at], &text[at..]], ending.clone()), expected, "{text} at {at}");
            }
            let mut bytes = [0; 4];
            let singly: Vec<String> = text.chars().map(|c| c.encode_utf8(&mut bytes).to_owned()).collect();
            let singly: Vec<&str> = singly.iter().map(String::as_str).collect();
            assert_eq!(read(reading(format), &singly, ending.clone()), expected, "{text}");
        }
    }
}

proptest! {
    #[test]
    fn whatever_comes_cuts_change_nothing(
        which in 0..6usize,
        // Pieces of syntax in any order, so that much of it nearly holds.
        parts in prop::collection::vec(prop::sample::select(vec![
            "<tool_call>", "</tool_call>", "<tool", "{\"name\": \"now\"", ", \"arguments\": ", ", \"parameters\": ", "{}", "{\"a\": \"", "\"", "}", "}}",
            "[TOOL_CALLS]", "[", "]", ",", "; ", "now", "[ARGS]", "now(a=1", ")", "<think>", "</think>", "<|python_tag|>", "\n", " ", "é", "x",
        ]), 0..24),
        cuts in prop::collection::vec(0..200usize, 0..6),
        one_call in any::<bool>(), cut in any::<bool>(),
    ) {
        let text = parts.concat();
        let reading = || Reading { one_call, ..reading(FORMATS[which]) };
        let ending = if cut { Ending::Cut(Finish::MaxTokens) } else { Ending::Complete };
        let mut pieces = vec![text.as_str()];
        for at in cuts {
            let last = pieces.pop().unwrap_or_default();
            let at = last.floor_char_boundary(at.min(last.len()));
            pieces.extend([&last[..at], &last[at..]]);
        }
        let expected = read(reading(), &[&text], ending.clone());
        prop_assert_eq!(read(reading(), &pieces, ending.clone()), expected.clone());
        // Blocks are well formed, one at a time.
        let mut open = false;
        for event in &expected {
            match event {
                Event::Open { .. } => { prop_assert!(!open); open = true; }
                Event::Close { .. } => { prop_assert!(open); open = false; }
                Event::Finish { reason, .. } => {
                    prop_assert!(!open);
                    prop_assert!(!cut || *reason == Finish::MaxTokens);
                }
                _ => prop_assert!(open),
            }
        }
        let finished = matches!(expected.last(), Some(Event::Finish { .. }));
        prop_assert!(finished);
    }
}

/// Where a tool must be called a small model repeats itself until it has no tokens left.
#[test]
fn a_call_that_repeats_another_ends_the_answer() {
    let call = |name: &str, arguments: &str| format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>\n");
    let (oslo, rome, now) = (call("search", r#"{"q": "Oslo"}"#), call("search", r#"{"q": "Osaka"}"#), call("now", "{}"));
    let once = r#"C toolu_1 search {"q": "Oslo"} ."#;
    let other = r#"C toolu_2 search {"q": "Osaka"} ."#;
    let cases = [
        (format!("{oslo}{oslo}{oslo}"), format!("{once} ToolUse")),
        (format!("{oslo}{rome}{oslo}{now}"), format!("{once} {other} ToolUse")),
        (format!("{oslo}{rome}{now}{now}"), format!("{once} {other} C toolu_3 now {{}} . ToolUse")),
    ];
    for (text, told) in &cases {
        let reading = || Reading { ends_repeating: true, ..reading(&HERMES) };
        assert_eq!(lines(&read(reading(), &[text], Ending::Complete)), *told, "{text}");
        let letters: Vec<String> = text.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        assert_eq!(lines(&read(reading(), &letters, Ending::Complete)), *told, "{text}");
    }
    // What is cut within a call that may have become another one is not told.
    let reading = || Reading { ends_repeating: true, ..reading(&HERMES) };
    let cut = format!("{oslo}{}", &rome[..rome.len() - 20]);
    assert_eq!(lines(&read(reading(), &[&cut], Ending::Cut(Finish::MaxTokens))), format!("{once} MaxTokens"), "{cut}");
    // Nobody has to call a tool here: who rolls two dice asks twice.
    let twice = format!("{now}{now}");
    assert_eq!(whole(&HERMES, &twice), "C toolu_1 now {} . C toolu_2 now {} . ToolUse");
}
