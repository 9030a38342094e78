use super::*;

fn local() -> Standing {
    Standing::idle(Target { backend: Backend::Local, model: "qwen".to_owned() })
}

fn remote(name: &str) -> Standing {
    Standing::idle(Target { backend: Backend::Remote(name.to_owned()), model: "big".to_owned() })
}

fn query(wish: Option<Wish>, private: bool) -> Query<'static> {
    Query { model: "house", wish, private, patience: Some(1_000), now: 5_000 }
}

fn refusing(mut standing: Standing, paths: &[&str]) -> Standing {
    standing.refusals = paths.iter().map(|p| Refusal { path: (*p).into(), why: "not here".to_owned() }).collect();
    standing
}

fn long(mut standing: Standing, input: u64, exactness: Exactness, context: u64) -> Standing {
    standing.price = Some(Price { input, exactness, output_cap: 10 });
    standing.context = Some(context);
    standing
}

/// Names in order, or the error's status and message.
fn routed(query: &Query, standings: &[Standing]) -> Result<String, (u16, String)> {
    let candidates = route(query, standings).map_err(|e| (e.kind.status(), e.message))?;
    Ok(candidates.iter().map(|c| c.target.backend.to_string()).collect::<Vec<_>>().join(" "))
}

#[test]
fn wishes_and_privacy() {
    use Wish::*;
    let both = [local(), remote("a"), remote("b")];
    let far = [remote("a"), local()];
    for (wish, private, expected, expected_far) in [
        (None, false, "local a b", "a local"),
        (Some(PreferLocal), false, "local a b", "local a"),
        (Some(PreferRemote), false, "a b local", "a local"),
        (Some(LocalOnly), false, "local", "local"),
        (Some(RemoteOnly), false, "a b", "a"),
        (None, true, "local", "local"),
        (Some(PreferLocal), true, "local", "local"),
        (Some(PreferRemote), true, "local", "local"),
        (Some(LocalOnly), true, "local", "local"),
    ] {
        assert_eq!(routed(&query(wish, private), &both).as_deref(), Ok(expected), "{wish:?} {private}");
        assert_eq!(routed(&query(wish, private), &far).as_deref(), Ok(expected_far), "{wish:?} {private}");
    }
}

#[test]
fn nobody_is_permitted() {
    use Wish::*;
    for (standings, wish, private, starts) in [
        ([local(), remote("a")], Some(RemoteOnly), true, "firecrest-route: remote-only, but this key's requests never leave"),
        ([local(), local()], Some(RemoteOnly), false, "firecrest-route: remote-only, but `house` is served locally only"),
        ([remote("a"), remote("b")], Some(LocalOnly), false, "firecrest-route: local-only, but `house` is not served locally"),
        ([remote("a"), remote("b")], None, true, "model: `house` is not served locally, and"),
        ([remote("a"), remote("b")], Some(PreferRemote), true, "model: `house` is not served locally, and"),
    ] {
        let (status, message) = routed(&query(wish, private), &standings).expect_err("nobody");
        assert!(status == 400 && message.starts_with(starts), "{message}");
    }
    assert_eq!(routed(&query(None, false), &[]).map_err(|e| e.0), Err(404));
}

#[test]
fn who_can() {
    let image = refusing(local(), &["messages.0.content.1.type"]);
    let two = refusing(remote("a"), &["tools.0.type", "thinking", "stop"]);
    assert_eq!(routed(&query(None, false), &[image.clone(), remote("a")]).as_deref(), Ok("a"));
    // The leaf of whoever lacks least, and who else could.
    let error = route(&query(None, false), &[two.clone(), image.clone()]).expect_err("nobody");
    assert_eq!((error.message.as_str(), error.path.as_deref()), ("messages.0.content.1.type: not here", Some("messages.0.content.1.type")));
    let (_, message) = routed(&query(None, false), &[two]).expect_err("nobody");
    assert_eq!(message, "tools.0.type: not here; also thinking: not here, and 1 more");
    let (_, message) = routed(&query(Some(Wish::LocalOnly), false), &[image.clone(), remote("a")]).expect_err("nobody");
    assert_eq!(message, "messages.0.content.1.type: not here; another backend could serve it, but firecrest-route does not permit that");
    let (_, message) = routed(&query(None, true), &[image, remote("a")]).expect_err("nobody");
    assert!(message.ends_with("but this key's requests never leave the device"), "{message}");
}

#[test]
fn who_has_room() {
    use Exactness::{Estimate, Exact, UpperBound};
    let any = query(None, false);
    assert_eq!(routed(&any, &[long(local(), 100, Exact, 100), remote("a")]).as_deref(), Ok("a"));
    assert_eq!(routed(&any, &[long(local(), 99, Exact, 100), remote("a")]).as_deref(), Ok("local a"));
    // What may not fit is asked, but last.
    assert_eq!(routed(&any, &[long(remote("b"), 100, UpperBound, 100), remote("a")]).as_deref(), Ok("a b"));
    assert_eq!(routed(&any, &[long(remote("b"), 99, UpperBound, 100), remote("a")]).as_deref(), Ok("b a"));
    assert_eq!(routed(&any, &[long(remote("b"), 900, Estimate, 100), remote("a")]).as_deref(), Ok("a b"));
    let (status, message) = routed(&any, &[long(local(), 5_000, Exact, 4_096)]).expect_err("nobody");
    let expected = "messages: the prompt has 5000 tokens, and `house` has room for 4096 with the answer; make it shorter";
    assert_eq!((status, message.as_str()), (400, expected));
}

#[test]
fn who_is_busy() {
    let any = query(None, false);
    let open = |mut s: Standing, until| {
        s.breaker = breaker::State::Open { until };
        s
    };
    let busy = |mut s: Standing, wait| {
        s.busy = Some(wait);
        s
    };
    assert_eq!(routed(&any, &[busy(local(), 90), open(remote("a"), 6_000), remote("b")]).as_deref(), Ok("b"));
    let error = route(&any, &[busy(local(), 900), open(remote("a"), 5_700), busy(open(remote("b"), 5_001), 2_000)]).expect_err("nobody");
    assert_eq!((error.kind, error.retry_after_ms), (ErrorKind::Overloaded, Some(700)));
    // Who can't serve it is no hope, however idle.
    let error = route(&any, &[busy(local(), 900), refusing(remote("a"), &["tools"])]).expect_err("nobody");
    assert_eq!((error.kind, error.retry_after_ms), (ErrorKind::Overloaded, Some(900)));
    // An open breaker whose time has come may be asked, and one on probation keeps its place: it needs calls to get well.
    let mut probation = remote("b");
    probation.breaker = breaker::State::HalfOpen;
    let candidates = route(&any, &[open(remote("a"), 5_000), probation, local()]).expect("all three");
    assert_eq!(candidates.iter().map(|c| c.index).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(candidates[1].reason.ends_with("on probation"));
}

#[test]
fn who_is_slow() {
    let slow = |mut s: Standing, predicted| {
        s.predicted_ttft = Some(predicted);
        s
    };
    let standings = [slow(local(), 1_001), slow(remote("a"), 400), remote("b")];
    // Patience goes before preference, and only preference: without another there is no choice.
    assert_eq!(routed(&query(Some(Wish::PreferLocal), false), &standings).as_deref(), Ok("a b local"));
    assert_eq!(routed(&query(Some(Wish::LocalOnly), false), &standings).as_deref(), Ok("local"));
    assert_eq!(routed(&Query { patience: None, ..query(None, false) }, &standings).as_deref(), Ok("local a b"));
    let candidates = route(&query(Some(Wish::PreferLocal), false), &standings).expect("three");
    assert_eq!(
        candidates[2].reason,
        "preferred by firecrest-route; slower than the caller has patience for; first token expected in 1001 ms"
    );
    assert_eq!(candidates[0].reason, "not preferred by firecrest-route; first token expected in 400 ms");
}

#[test]
fn headers() {
    for wish in Wish::ALL {
        assert_eq!(Wish::parse(wish.name()), Ok(wish));
    }
    assert_eq!(Wish::parse(" Prefer-Local "), Ok(Wish::PreferLocal));
    let error = Wish::parse("nearby\r\n").expect_err("no wish");
    assert_eq!(error.message, "firecrest-route: expected local-only, remote-only, prefer-local or prefer-remote, found `nearby`");
}
