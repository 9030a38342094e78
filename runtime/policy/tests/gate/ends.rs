//! What an answer begins with and ends in, what else it might have said, and calls as they come.

use firecrest_contract::ask::{Ask, Content, Part, RawPrompt, Role, Sampling, ServiceTier, Thinking, ToolChoice, Turn};
use firecrest_contract::error::{ApiError, ErrorKind};
use firecrest_contract::names::Names;
use firecrest_policy::safety::gate::Begun;
use firecrest_policy::safety::judge::PromptText;

use super::*;

fn finish(reason: Finish) -> Event {
    Event::Finish { choice: 0, reason }
}

const KEY: &str = "AKIAQ3EGRTZL5WXH2KMV";

fn standard() -> Arc<Policy> {
    static ONCE: OnceLock<Arc<Policy>> = OnceLock::new();
    ONCE.get_or_init(|| Arc::new(Policy::standard().expect("rules"))).clone()
}

/// What a stop text takes away is a part of what is judged: nothing that was held is let go for it.
#[test]
fn a_stop_text_completes_a_match() {
    let stop = |text: &str| finish(Finish::StopSequence(text.into()));
    for end in 1..=6 {
        let (shown, stopped) = KEY.split_at(KEY.len() - end);
        let out =
            pass(&standard(), &GateOptions::default(), [START, open(Block::Text), text("Key: "), text(shown), CLOSE, stop(stopped), END]);
        refusal(&out);
        assert_eq!(said(&out), "Key: ", "{stopped}");
    }
    // A stop text that begins a match, or one within it: most of the match is there.
    let out = pass(&standard(), &GateOptions::default(), [START, open(Block::Text), text("Key: AKIAQ3EGRTZL"), CLOSE, stop("5W"), END]);
    assert_eq!(out, [START, open(Block::Text), text("Key: "), CLOSE, stop("5W"), END]);
    // What only looks like a beginning is told.
    let out = pass(&standard(), &GateOptions::default(), [START, open(Block::Text), text("I like Asia"), CLOSE, stop("\n"), END]);
    assert_eq!(said(&out), "I like Asia");
}

/// However an answer ends: most of a key is not shown.
#[test]
fn most_of_a_match_is_not_shown_at_an_end() {
    for reason in [Finish::MaxTokens, Finish::EndTurn, Finish::ContextFull] {
        for came in 12..KEY.len() {
            for block in [Block::Text, Block::Thinking, tool()] {
                let (events, safe) = match block {
                    Block::Text => (vec![text("Key: "), text(&KEY[..came])], "Key: "),
                    Block::Thinking => (vec![Event::Thinking { choice: 0, text: format!("Key: {}", &KEY[..came]) }], "Key: "),
                    Block::ToolUse { .. } => {
                        (vec![Event::Arguments { choice: 0, json: format!("{{\"k\": \"{}", &KEY[..came]) }], "{\"k\": \"")
                    }
                };
                let events = [vec![START, open(block.clone())], events, vec![CLOSE, finish(reason.clone()), END]].concat();
                let out = pass(&standard(), &GateOptions::default(), events);
                assert_eq!(said(&out), safe, "{reason:?} {block:?} {came}");
                assert!(out.contains(&finish(reason.clone())) && out.contains(&CLOSE), "{out:?}");
            }
        }
    }
    // Calls behind such a text are told, and thoughts behind others.
    let out = pass(
        &standard(),
        &GateOptions::default(),
        [
            START,
            open(Block::Text),
            text("a AKIAQ3EGRTZL"),
            CLOSE,
            open(tool()),
            Event::Arguments { choice: 0, json: "{}".into() },
            CLOSE,
            finish(Finish::ToolUse),
            END,
        ],
    );
    assert_eq!(said(&out), "a {}");
    // A manual's heading is no key, nor is most of a word.
    for harmless in ["It begins with -----BEGIN OPENSSH PRIVATE KEY-----", "aws_secret_access_key = ", "ghp_", "sk-", "Asian", "the top s"]
    {
        let out =
            pass(&standard(), &GateOptions::default(), [START, open(Block::Text), text(harmless), CLOSE, finish(Finish::MaxTokens), END]);
        assert_eq!(said(&out), harmless);
    }
    let out =
        pass(&secret(), &GateOptions::default(), [START, open(Block::Text), text("a top secr"), CLOSE, finish(Finish::MaxTokens), END]);
    assert_eq!(said(&out), "a ");
}

/// An ask whose answer was begun with this, or that is a raw prompt.
fn asked(begun: &str, raw: bool) -> (Ask, Vec<PromptText>) {
    let part = |text: &str| vec![Part { content: Content::Text(text.to_owned()), cache: None }];
    let mut ask = Ask {
        echo: false,
        names: Names::CHAT,
        last: "messages".into(),
        model: "m".into(),
        turns: Vec::new(),
        raw: Vec::new(),
        tools: Vec::new(),
        tool_choice: ToolChoice::Auto,
        parallel_tools: true,
        format: None,
        thinking: Thinking::Unsaid,
        max_tokens: None,
        stop: Vec::new(),
        sampling: Sampling::default(),
        logprobs: None,
        choices: 1,
        stream: false,
        tier: ServiceTier::Auto,
        user: None,
        beyond: Vec::new(),
    };
    if raw {
        ask.raw = vec![RawPrompt::Text("other".to_owned()), RawPrompt::Text(begun.to_owned())];
        return (ask, vec!["other".to_owned().into(), begun.to_owned().into()]);
    }
    ask.turns = vec![Turn { role: Role::User, parts: part("My key?") }, Turn { role: Role::Assistant, parts: part(begun) }];
    (ask, Vec::new())
}

/// A key that a caller has begun does not go on, token by token; nor does one that is asked for from the start.
#[test]
fn what_was_begun_is_a_part_of_the_answer() {
    for raw in [false, true] {
        for begun in 1..KEY.len() {
            let (ask, prompts) = asked(&format!("The key: {}", &KEY[..begun]), raw);
            let options = GateOptions { choices: 2, ..GateOptions::of(&ask) };
            let mut gate = Gate::new(standard(), options).behind(Begun::of(&standard(), &ask, &prompts));
            let choice = u32::from(raw);
            let mine = |event: Event| match event {
                Event::Open { block, .. } => Event::Open { choice, block },
                Event::Text { text, logprobs, .. } => Event::Text { choice, text, logprobs },
                Event::Close { .. } => Event::Close { choice },
                Event::Finish { reason, .. } => Event::Finish { choice, reason },
                event => event,
            };
            let events = [START, open(Block::Text), text(&KEY[begun..]), text(" and so on"), CLOSE, DONE].map(mine);
            let out: Vec<Event> =
                events.into_iter().flat_map(|event| gate.push(Unjudged::new(event))).map(|judged| judged.into_event()).collect();
            refusal(&out);
            assert_eq!(said(&out), "", "{raw} {begun}");
        }
    }
    // A loop that appends what came, a token at a time.
    let mut known = "The key: ".to_owned();
    for token in ["AK", "IA", "Q3", "EG", "RT", "ZL", "5W", "XH", "2K", "MV"] {
        let (ask, prompts) = asked(&known, true);
        let mut gate =
            Gate::new(standard(), GateOptions { choices: 2, ..GateOptions::of(&ask) }).behind(Begun::of(&standard(), &ask, &prompts));
        let events = [
            START,
            Event::Open { choice: 1, block: Block::Text },
            Event::Text { choice: 1, text: token.into(), logprobs: Vec::new() },
            Event::Close { choice: 1 },
            Event::Finish { choice: 1, reason: Finish::MaxTokens },
        ];
        let out: Vec<Event> =
            events.into_iter().flat_map(|event| gate.push(Unjudged::new(event))).map(|judged| judged.into_event()).collect();
        known.push_str(&said(&out));
        // Whoever asks again hears the same.
    }
    assert!(known.len() <= "The key: AKIAQ3EGR".len(), "{known}");
    // The caller's own key is none of the answer's.
    let (ask, prompts) = asked(&format!("The key: {KEY}"), false);
    let mut gate = Gate::new(standard(), GateOptions::of(&ask)).behind(Begun::of(&standard(), &ask, &prompts));
    let events = [START, open(Block::Text), text(" is yours"), CLOSE, DONE, END];
    let out: Vec<Event> = events.into_iter().flat_map(|event| gate.push(Unjudged::new(event))).map(|judged| judged.into_event()).collect();
    assert_eq!(joined(out), [START, open(Block::Text), text(" is yours"), CLOSE, DONE, END]);
}

fn alternatives(token: &str, others: &[&str]) -> Event {
    let top = others.iter().map(|other| (TokenText(other.as_bytes().to_vec()), -1.0)).collect();
    let token = TokenLogprob { token: TokenText(token.as_bytes().to_vec()), logprob: -0.5, top };
    Event::Text { choice: 0, text: String::from_utf8_lossy(&token.token.0).into_owned(), logprobs: vec![token] }
}

fn tops(events: &[Event]) -> Vec<Vec<String>> {
    let tokens = events.iter().flat_map(|event| match event {
        Event::Text { logprobs, .. } => logprobs.as_slice(),
        _ => &[],
    });
    tokens.map(|token| token.top.iter().map(|(token, _)| token.text()).collect()).collect()
}

/// What might have been said is not said either.
#[test]
fn alternatives_are_judged() {
    let paris = rules("kind = 'literal'\nany = ['paris']\nexamples = ['paris']");
    let events = [
        START,
        open(Block::Text),
        alternatives(" is", &[" is", " Paris", "Paris", " PARIS ", " Parisian", " London"]),
        alternatives(" par", &[" par", " not"]),
        alternatives("k", &["k", "is", "ish", "ade"]),
        CLOSE,
        DONE,
        END,
    ];
    let out = pass(&paris, &GateOptions::default(), events);
    assert_eq!(tops(&out), [vec![" is", " Parisian", " London"], vec![" par", " not"], vec!["k", "ish", "ade"]]);
    // Of a key nothing that goes on with it.
    let events = [
        START,
        open(Block::Text),
        alternatives("AKIAQ3EGR", &["AKIAQ3EGR", "AKIAQ3EGRTZL5WXH2KMV"]),
        alternatives("!", &["!", "TZL", "5", "-"]),
        CLOSE,
        DONE,
        END,
    ];
    let out = pass(&standard(), &GateOptions::default(), events);
    assert_eq!(tops(&out), [vec!["AKIAQ3EGR"], vec!["!", "-"]]);
    // In a string of JSON they are judged decoded.
    let options = GateOptions { structured: true, ..GateOptions::default() };
    let events = [
        START,
        open(Block::Text),
        alternatives("{\"a\": \"p\\u0061", &[]),
        alternatives("t", &["t", "ris\"", "r\\u0069s\"}", "in\""]),
        CLOSE,
        DONE,
        END,
    ];
    let out = pass(&paris, &options, events);
    assert_eq!(tops(&out)[1], ["t", "in\""]);
    // Behind what was begun.
    let (ask, prompts) = asked("It is par", false);
    let mut gate = Gate::new(paris.clone(), GateOptions::of(&ask)).behind(Begun::of(&paris, &ask, &prompts));
    let events = [START, open(Block::Text), alternatives("k", &["k", "is"]), CLOSE, DONE, END];
    let out: Vec<Event> = events.into_iter().flat_map(|event| gate.push(Unjudged::new(event))).map(|judged| judged.into_event()).collect();
    assert_eq!(tops(&out), [["k"]]);
    // A character that tokens spell together.
    let city = rules("kind = 'literal'\nany = ['\u{436}\u{438}\u{43c}']\nexamples = ['\u{436}\u{438}\u{43c}']");
    let bytes = "\u{434}".as_bytes();
    let token = |bytes: &[u8], top: &[&[u8]]| TokenLogprob {
        token: TokenText(bytes.to_vec()),
        logprob: -0.5,
        top: top.iter().map(|other| (TokenText(other.to_vec()), -1.0)).collect(),
    };
    let split = Event::Text {
        choice: 0,
        text: "\u{434}".into(),
        logprobs: vec![token(&bytes[..1], &[&bytes[..1]]), token(&bytes[1..], &[&bytes[1..], &[0xbc], &[0xbd]])],
    };
    let out = pass(&city, &GateOptions::default(), [START, open(Block::Text), text("\u{436}\u{438}"), split, CLOSE, DONE, END]);
    let count = out
        .iter()
        .filter_map(|event| match event {
            Event::Text { logprobs, .. } if !logprobs.is_empty() => logprobs.last(),
            _ => None,
        })
        .map(|last| last.top.len())
        .collect::<Vec<_>>();
    assert_eq!(count, [2]);
}

/// What a backend fails with may quote what it was about to say.
#[test]
fn faults_do_not_quote() {
    for (message, told) in [("no room", true), ("no token after \"top secret\"", false)] {
        let fault = Event::Fault(ApiError::new(ErrorKind::Api, message).code("x"));
        let out = pass(&secret(), &GateOptions::default(), [START, fault]);
        let Some(Event::Fault(error)) = out.last() else { panic!("{out:?}") };
        assert_eq!((error.message == message, error.message.contains("secret"), error.code), (told, false, Some("x")));
    }
}

/// Arguments leave as they come, and end as they are where the answer breaks off.
#[test]
fn arguments_stream() {
    let json = |json: &str| Event::Arguments { choice: 0, json: json.into() };
    let out =
        steps(&secret(), &GateOptions::default(), [START, open(tool()), json("{\"a\": \"the to"), json("p of"), json(" it\"}"), CLOSE]);
    assert_eq!(out.iter().map(|events| said(events)).collect::<Vec<_>>(), ["", "", "{\"a\": \"the ", "top of", " it\"}", ""]);
    let out = pass(
        &secret(),
        &GateOptions::default(),
        [START, open(tool()), json("{\"a\": \"the top sec"), json("ret\"}"), CLOSE, finish(Finish::ToolUse), END],
    );
    assert_eq!(said(&out), "{\"a\": \"the ");
    refusal(&out);
    assert!(!out.contains(&finish(Finish::ToolUse)));
    // Neighbouring calls are judged one by one.
    let calls = vec![START, open(tool()), json("{\"a\": \"top"), CLOSE, open(tool()), json(" secret\"}"), CLOSE, DONE, END];
    assert_eq!(pass(&secret(), &GateOptions::default(), calls.clone()), calls);
}
