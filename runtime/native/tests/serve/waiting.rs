//! Who waits for whom: bursts, long backlogs, work without an end, and streams over a reload.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{FUSE, Server, connect, new_key, rest, scratch};

/// Sends these at once, each on a connection of its own. Their answers, in their order.
fn at_once(server: &Server, requests: &[(String, String, String)]) -> Vec<(u16, String)> {
    std::thread::scope(|scope| {
        let ask = |(path, key, body): &(String, String, String)| server.post(path, key, body);
        let asked: Vec<_> = requests.iter().map(|request| scope.spawn(move || ask(request))).collect();
        asked.into_iter().map(|asked| asked.join().expect("an answer")).collect()
    })
}

fn chat(content: &str, most: u32, more: &str) -> String {
    format!(r#"{{"model": "firecrest-chat", "max_tokens": {most}{more}, "messages": [{{"role": "user", "content": "{content}"}}]}}"#)
}

#[test]
fn a_burst_that_the_queue_holds_is_served() {
    let folder = scratch("burst");
    // Nobody waits for so long: what is sent away was sent away for want of a place.
    let lanes = "[lanes]\ntimes = [{ patience_ms = 120000 }, { patience_ms = 120000 }, {}]\n";
    let server = Server::start(&folder, &format!("auth = false\n{lanes}"), "");
    let burst = |count: u32, more: &str| {
        let path = "/v1/chat/completions".to_owned();
        let of = |at: u32| {
            (
                path.clone(),
                String::new(),
                chat(&format!("Hello, this is number {at}."), [4, 16, 64][at as usize % 3].min(4 + count / at.max(1)), more),
            )
        };
        at_once(&server, &(0..count).map(of).collect::<Vec<_>>())
    };
    let served = |answers: &[(u16, String)]| answers.iter().filter(|(status, body)| *status == 200 && !body.contains("\"error\"")).count();
    // Nothing was measured yet, and then a little, and then long answers.
    for count in [40, 120] {
        assert_eq!(served(&burst(count, "")), count as usize);
    }
    for at in 0..3 {
        assert_eq!(server.post("/v1/chat/completions", "", &chat(&format!("Tell me story {at}."), 300, "")).0, 200);
    }
    for (count, more) in [(200, ""), (250, r#", "stream": true"#), (120, r#", "service_tier": "flex""#), (30, r#", "n": 8"#)] {
        let answers = burst(count, more);
        assert_eq!(served(&answers), count as usize, "{more}: {:?}", answers.iter().find(|(status, _)| *status != 200));
    }
    // What it does not hold is told so, and when to come back.
    let answers = burst(120, r#", "n": 8"#);
    let refused: Vec<_> = answers.iter().filter(|(status, _)| *status != 200).collect();
    assert!(served(&answers) >= 30, "{}", served(&answers));
    assert!(refused.iter().all(|(status, body)| matches!(status, 429 | 529) && body.contains("try again in")), "{refused:?}");
}

#[test]
fn many_answers_of_one_key_hold_up_no_other() {
    let folder = scratch("many");
    let server = Server::start(&folder, "[lanes]\ntimes = [{ patience_ms = 120000 }, { patience_ms = 120000 }, {}]\n", "");
    let keys: Vec<String> = (0..3).map(|_| new_key(&folder, "standard").0).collect();
    let request = |key: &str, at: usize, more: &str| {
        ("/v1/chat/completions".to_owned(), key.to_owned(), chat(&format!("Hello, this is number {at}."), 24, more))
    };
    std::thread::scope(|scope| {
        let greedy: Vec<_> = (0..3).map(|at| request(&keys[0], at, r#", "n": 128"#)).collect();
        let server = &server;
        let greedy = scope.spawn(move || at_once(server, &greedy));
        // Whenever the others come, they find places.
        for round in 0..4 {
            let others: Vec<_> = (0..40).map(|at| request(&keys[1 + at % 2], 40 * round + at, "")).collect();
            let answers = at_once(server, &others);
            assert!(answers.iter().all(|(status, _)| *status == 200), "{:?}", answers.iter().find(|(status, _)| *status != 200));
        }
        for (status, body) in greedy.join().expect("it ends") {
            let answers = serde_json::from_str::<Value>(&body).ok().and_then(|body| body["choices"].as_array().map(Vec::len));
            assert_eq!((status, answers), (200, Some(128)), "{}", &body[..body.len().min(400)]);
        }
    });
}

#[test]
fn work_that_takes_too_long_is_given_up_and_holds_up_no_other() {
    let folder = scratch("work");
    let config = "body_limit = 67108864\n[timeouts]\nwork = 0.5\ndrain = 1\n";
    let mut server = Server::start(&folder, config, "");
    let (greedy, other) = (new_key(&folder, "standard").0, new_key(&folder, "standard").0);
    let text = |bytes: usize| format!(r#"{{"text": "{}"}}"#, "how to make a ".repeat(bytes / 14));
    // It takes seconds to read and to judge.
    let (status, body) = server.post("/v1/moderate", &greedy, &text(60 << 20));
    assert!(status == 400 && body.contains("invalid_request_error") && body.contains("takes too long"), "{status}: {body}");
    // Its thread still works. Another key's long text has another one.
    assert_eq!(server.post("/v1/moderate", &other, &text(40_000)).0, 200);
    // Once that is over the key's next is read too.
    let since = Instant::now();
    while server.post("/v1/moderate", &greedy, &text(40_000)).0 != 200 {
        assert!(since.elapsed() < FUSE, "its turn never comes");
    }
    // Neither does it hold up the end of the process.
    assert_eq!(server.post("/v1/moderate", &greedy, &text(60 << 20)).0, 400);
    server.signal("TERM");
    let since = Instant::now();
    while server.child.try_wait().expect("a child").is_none() {
        assert!(since.elapsed() < FUSE, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn streams_outlive_a_reload_and_end_before_the_server() {
    let folder = scratch("streams");
    let mut server = Server::start(&folder, "auth = false\n", "");
    let begin = || {
        let body = chat("Tell me a story.", 200, r#", "stream": true"#);
        let mut connection = connect(server.address);
        let head = format!(
            "POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nanthropic-version: 2023-06-01\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        connection.write_all((head + &body).as_bytes()).expect("sent");
        let mut some = [0; 12];
        connection.read_exact(&mut some).expect("a status");
        assert_eq!(&some, b"HTTP/1.1 200");
        connection
    };
    let mut streams: Vec<TcpStream> = (0..4).map(|_| begin()).collect();
    let file = folder.join("server.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, format!("{text}[timeouts]\nanswer = 30.0\n[tiers.later]\nlane = 2\n")).expect("written");
    (0..3).for_each(|_| server.signal("HUP"));
    streams.extend((0..2).map(|_| begin()));
    server.signal("HUP");
    for stream in &mut streams {
        let told = rest(stream);
        assert!(told.contains("event: message_stop") && !told.contains("event: error"), "{told}");
    }
    let mut last = begin();
    server.signal("TERM");
    let told = rest(&mut last);
    assert!(told.contains("event: message_stop") && !told.contains("event: error"), "{told}");
    assert!(server.child.wait().expect("it ends").success());
}
