//! Raw prompts: echoes, and gaps.

use super::*;

#[test]
fn raw_prompts_are_as_they_are() {
    with(async |local| {
        let raw = vec![RawPrompt::Text("Once upon a time".into()), RawPrompt::Tokens(vec![1, 2, 3]), RawPrompt::Text(String::new())];
        let asked = Ask { raw, choices: 2, ..Ask { turns: Vec::new(), ..hello() } };
        let events = all(&local, asked.clone(), Grant::unlimited()).await;
        assert_eq!(finishes(&events).len(), 6);
        assert_eq!(text(&events, 2), text(&events, 3));
        let beyond = Ask { raw: vec![RawPrompt::Tokens(vec![1 << 30])], ..asked };
        let Err(error) = local.price(&Arc::new(beyond), &Aside::in_place()).await else { panic!("a token out of range") };
        assert_eq!(error.path.as_deref(), Some("prompt"));
    });
}

fn entries(events: &[Event]) -> Vec<firecrest_contract::event::TokenLogprob> {
    let of = |event: &Event| match event {
        Event::Text { logprobs, .. } => logprobs.clone(),
        _ => Vec::new(),
    };
    events.iter().flat_map(of).collect()
}

#[test]
fn an_answer_may_begin_with_its_prompt() {
    with(async |local| {
        let said = "Once upon a time, there was a fox.";
        let raw = |raw: RawPrompt, max_tokens, logprobs| Ask {
            raw: vec![raw],
            echo: true,
            max_tokens: Some(max_tokens),
            logprobs,
            turns: Vec::new(),
            ..hello()
        };
        let text_of = |events: &[Event]| text(events, 0);
        let longer = all(&local, raw(RawPrompt::Text(said.into()), 4, None), Grant::unlimited()).await;
        assert!(text_of(&longer).starts_with(said) && text_of(&longer).len() > said.len());
        let plain = all(&local, raw(RawPrompt::Text(said.into()), 0, None), Grant::unlimited()).await;
        assert_eq!(text_of(&plain), said);
        assert_eq!(finishes(&plain), [Finish::MaxTokens]);
        // A stop text of the prompt ends nothing.
        for logprobs in [None, Some(1)] {
            let asked = Ask { stop: vec!["upon".into()], ..raw(RawPrompt::Text(said.into()), 1, logprobs) };
            assert!(text_of(&all(&local, asked, Grant::unlimited()).await).starts_with(said));
        }

        // What was generated is as probable when it is read again.
        let asked = Ask { echo: false, ..raw(RawPrompt::Text(said.into()), 4, Some(2)) };
        let prompt = local.prompter().prompts(&asked, None, 512).expect("prompts")[0].ids.clone();
        let drawn = entries(&all(&local, asked, Grant::unlimited()).await);
        let told = all(&local, raw(RawPrompt::Text(said.into()), 4, Some(2)), Grant::unlimited()).await;
        let list = entries(&told);
        assert_eq!(list.len(), prompt.len() + drawn.len());
        assert!(list[0].logprob.is_nan() && list[0].top.is_empty());
        assert!(list[1..].iter().all(|of| of.logprob <= 0.0 && of.top.len() == 2));
        let joined: Vec<u8> = list.iter().flat_map(|of| of.token.0.clone()).collect();
        assert!(String::from_utf8_lossy(&joined).ends_with(&text_of(&told)), "{joined:?}");
        for (a, b) in list[prompt.len()..].iter().zip(&drawn) {
            assert!((a.logprob - b.logprob).abs() < 1e-3 && a.token == b.token, "{a:?} {b:?}");
        }
        let tokenizer = local.prompter().tokenizer();
        let options = EncodeOptions { add_special: false, parse_special: true };
        let ids = [prompt.clone(), tokenizer.encode(&text_of(&told)[said.len()..], options).expect("ids")].concat();
        let again = entries(&all(&local, raw(RawPrompt::Tokens(ids.clone()), 0, Some(2)), Grant::unlimited()).await);
        assert_eq!(again.len(), ids.len());
        let same = again[prompt.len()..].iter().zip(&drawn).take_while(|(a, b)| a.token == b.token);
        let far = same.filter(|(a, b)| (a.logprob - b.logprob).abs() > 0.05).count();
        assert_eq!(far, 0, "{again:?} {drawn:?}");
    });
}

/// A port that counts what is asked of the engine: how probable prompts are, and answers.
#[derive(Clone)]
struct Counting(Handle, Rc<Cell<[usize; 2]>>);

impl EnginePort for Counting {
    async fn submit(&self, request: Request, allowance: u32) -> Result<Submitted, Error> {
        let [mut probable, mut answers] = self.1.get();
        match request.work {
            Work::Logprobs { .. } => probable += 1,
            _ => answers += 1,
        }
        self.1.set([probable, answers]);
        self.0.submit(request, allowance).await
    }
}

#[test]
fn how_probable_a_prompt_is_is_computed_once_for_all_its_answers() {
    with(async |local| {
        let Local { port, prompter, context, lent, adapter, schemas, grammars, at_once, max_requests, width, matryoshka, held, recent } =
            local;
        let port = Counting(port, Rc::default());
        let counts = Rc::clone(&port.1);
        let local =
            Local { port, prompter, context, lent, adapter, schemas, grammars, at_once, max_requests, width, matryoshka, held, recent };
        let (one, two) = ("Once upon a time, there was a fox.", "A day later.");
        let asked = |max_tokens| Ask {
            raw: [one, two].map(|text| RawPrompt::Text(text.into())).into(),
            echo: true,
            choices: 12,
            max_tokens: Some(max_tokens),
            logprobs: Some(2),
            turns: Vec::new(),
            ..hello()
        };
        // More answers than may be in the engine at once.
        assert!(local.at_once < 12);
        for (max_tokens, answers) in [(3, 24), (0, 0)] {
            counts.set([0, 0]);
            let ask = Arc::new(asked(max_tokens));
            let events: Vec<Event> = local.begin(&ask, &Grant::unlimited()).await.expect("an answer").collect().await;
            assert_eq!(counts.get(), [2, answers], "{max_tokens}");
            assert_eq!((finishes(&events).len(), usage(&events).output), (24, u64::from(max_tokens) * 24));
            assert_eq!(local.held.get(), [0, 0, 0]);
            let of = |choice: u32| {
                let own = |event: &&Event| matches!(event, Event::Text { choice: of, .. } if *of == choice);
                entries(&events.iter().filter(own).cloned().collect::<Vec<_>>())
            };
            for (prompt, said) in [one, two].into_iter().enumerate() {
                let first = prompt as u32 * 12;
                for choice in first..first + 12 {
                    assert!(text(&events, choice).starts_with(said));
                    // All are greedy, so all are the same, but for the first of a prompt, of which nothing is known.
                    let bits = |list: Vec<firecrest_contract::event::TokenLogprob>| {
                        list.into_iter().map(|of| (of.token, of.logprob.to_bits(), of.top.len())).collect::<Vec<_>>()
                    };
                    let told = bits(of(choice));
                    let prompt_tokens = told.len() - max_tokens as usize;
                    assert_eq!(told[..prompt_tokens], bits(of(first))[..prompt_tokens], "{choice}");
                }
            }
        }
    });
}

#[test]
fn raw_prompts_take_control_tokens_and_gaps_need_marks() {
    with(async |local| {
        let chat = Arc::new(hello());
        let (text, _) = local.prompter().text(&chat, None).expect("a text");
        let raw = |raw| Arc::new(Ask { raw: vec![raw], turns: Vec::new(), ..hello() });
        let ids = |prompts: Vec<Prompt>| prompts[0].ids.clone();
        let written = ids(local.prompter().prompts(&raw(RawPrompt::Text(text.clone())), None, 512).expect("prompts"));
        let rendered = ids(local.prompter().prompts(&chat, None, 512).expect("prompts"));
        let bos = local.prompter().tokenizer().bos();
        let begins = usize::from(rendered.first().copied() != bos && written.first().copied() == bos);
        assert_eq!(written[begins..], rendered, "{text}");
        assert!(written.get(1).copied() != bos || bos.is_none(), "the beginning comes twice");
        let error =
            local.prompter().prompts(&raw(RawPrompt::Infill { prefix: "a".into(), suffix: "b".into() }), None, 512).expect_err("no marks");
        assert_eq!(error.path.as_deref(), Some("suffix"));
    });
}
