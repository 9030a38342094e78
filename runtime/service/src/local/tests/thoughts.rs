//! Thoughts, and their budgets.

use super::*;

/// A template of a model that thinks. The one that ships does not, and so never ends what it is told are its thoughts.
const THINKING: &str =
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: <think>\n{% endif %}";

fn thought(events: &[Event], of: u32) -> String {
    let texts = events.iter().filter_map(|event| match event {
        Event::Thinking { choice, text, .. } if *choice == of => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

#[test]
fn thoughts_end_where_their_budget_does() {
    with_template(engine().0, Some(THINKING.to_owned()), async |local| {
        let thinks = |thinking| Ask { thinking, max_tokens: Some(40), ..hello() };
        let endless = all(&local, thinks(Thinking::Adaptive { hidden: false }), Grant::unlimited()).await;
        assert!(thought(&endless, 0).len() > 20 && text(&endless, 0).is_empty(), "{endless:?}");
        let budget = |tokens| thinks(Thinking::Budget { tokens, hidden: false });
        for logprobs in [None, Some(1)] {
            let events = all(&local, Ask { choices: 2, logprobs, ..budget(8) }, Grant::unlimited()).await;
            for choice in [0, 1] {
                let (thoughts, text) = (thought(&events, choice), text(&events, choice));
                assert!(!thoughts.is_empty() && thought(&endless, 0).starts_with(thoughts.trim_end()), "{thoughts:?}");
                assert!(thoughts.len() < 60 && !text.is_empty(), "{thoughts:?} {text:?}");
            }
            let usage = usage(&events);
            assert!((16..40).contains(&usage.thinking) && usage.output <= 80, "{usage:?}");
            if finishes(&events) == [Finish::MaxTokens, Finish::MaxTokens] {
                assert_eq!(usage.output, 80);
            }
        }
        // Granted bit by bit, it is the same.
        let output = Allowance::new(3);
        let grant = Grant { output: output.clone(), ..Grant::unlimited() };
        let (ask, told) = (Arc::new(budget(8)), RefCell::new(Vec::new()));
        let answering = async {
            let events: Vec<Event> = local.begin(&ask, &grant).await.unwrap_or_else(|e| panic!("{e:?}")).collect().await;
            told.replace(events);
        };
        let granting = async {
            loop {
                output.running_low(1).await;
                output.raise(output.used() + 3);
            }
        };
        pin_mut!(answering, granting);
        select(answering, granting).await;
        let (bitwise, whole) = (told.take(), all(&local, budget(8), Grant::unlimited()).await);
        assert_eq!((thought(&bitwise, 0), text(&bitwise, 0)), (thought(&whole, 0), text(&whole, 0)));
        assert_eq!(usage(&bitwise).output, usage(&whole).output);
        // The end of thoughts is no stop string, whether one is in it, ends in it or begins in it.
        for stop in ["</think>", "\n\n", "think>\n\nx", ">"] {
            let events = all(&local, Ask { stop: vec![stop.to_owned()], ..budget(8) }, Grant::unlimited()).await;
            assert!(!thought(&events, 0).is_empty() && matches!(events.last(), Some(Event::End { .. })), "{stop:?} {events:?}");
            assert!(!text(&events, 0).contains(stop), "{stop:?}");
        }
        // Nor is one that stands in the thoughts.
        let thoughts = thought(&all(&local, budget(8), Grant::unlimited()).await, 0);
        let stop = thoughts.trim_end().chars().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect::<String>();
        let events = all(&local, Ask { stop: vec![stop], ..budget(8) }, Grant::unlimited()).await;
        assert_eq!(thought(&events, 0), thoughts);
        // Thoughts may fill the context.
        let thinks = Thinking::Adaptive { hidden: false };
        let prompt = local.price(&Arc::new(Ask { thinking: thinks, ..hello() }), &Aside::in_place()).await.expect("a price").input as u32;
        for tokens in 508 - prompt..=512 - prompt {
            let full = Ask { max_tokens: None, thinking: budget(tokens).thinking, ..unending(&local) };
            let events = all(&local, full, Grant::unlimited()).await;
            assert_eq!((finishes(&events), usage(&events).output), (vec![Finish::ContextFull], u64::from(512 - prompt)), "{tokens}");
        }
        // Nothing is left behind the thoughts.
        let events = all(&local, Ask { max_tokens: Some(9), ..budget(8) }, Grant::unlimited()).await;
        assert_eq!((finishes(&events), text(&events, 0)), (vec![Finish::MaxTokens], String::new()));
        // What is held to a form is held to it from there on.
        let schema = json!({ "enum": ["a fox"] });
        let format = Some(Format::JsonSchema { name: None, schema });
        let events = all(&local, Ask { format, ..budget(8) }, Grant::unlimited()).await;
        assert_eq!((text(&events, 0).as_str(), finishes(&events)), ("\"a fox\"", vec![Finish::EndTurn]), "{events:?}");
    });
}
