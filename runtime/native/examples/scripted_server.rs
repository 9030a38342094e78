//! The whole server with scripts in models' places: what is told of the path, the gate and the encoders does not hang on what a model likes to say.
//!
//! `scripted_server [--config FILE] [--pace MILLISECONDS]` prints `listening on http://…` and serves until SIGTERM.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use firecrest::server::config::Config;
use firecrest::server::{Scripted, Server, log};
use firecrest_service::scripted::Pieces;

/// What is long enough to be seen coming.
macro_rules! people {
    () => {
        r#"{"people": [{"name": "Ada", "age": 36}, {"name": "Alan", "age": 41}, {"name": "Grace", "age": 85}, {"name": "Edsger", "age": 72}]}"#
    };
}

/// Scripts by the name of the model they stand for: what is said in each turn of the assistant.
const SCRIPTS: &[(&str, &[&str])] = &[
    ("hello", &["Hello there, friend."]),
    ("thinks", &["<think>They greet me.</think>Hello."]),
    ("weather", &["<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>", "It is sunny."]),
    (
        "editor",
        &[
            "I will look first.\n<tool_call>\n{\"name\": \"read_file\", \"arguments\": {\"path\": \"a.txt\"}}\n</tool_call>",
            "<tool_call>\n{\"name\": \"replace\", \"arguments\": {\"path\": \"a.txt\", \"old\": \"fx\", \"new\": \"fox\"}}\n</tool_call>",
            "Mended.",
        ],
    ),
    (
        "leaks",
        &["Here it is:\n-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAu1SU1LfVLPHCozMxH2Mo\n-----END RSA PRIVATE KEY-----\nDone."],
    ),
    (
        "leaks-in-a-call",
        &[
            "<tool_call>\n{\"name\": \"save\", \"arguments\": {\"text\": \"-----BEGIN RSA PRIVATE KEY-----\\nMIIEowIBAAKCAQEAu1SU1LfVLPHCozMxH2Mo\"}}\n</tool_call>",
        ],
    ),
    ("json", &["{\"name\": \"Ada\", \"age\": 36}"]),
    ("people", &[people!()]),
    ("json-people", &[concat!("<tool_call>\n{\"name\": \"json\", \"arguments\": ", people!(), "}\n</tool_call>")]),
    ("called-partial-people", &[concat!("<tool_call>\n{\"name\": \"PartialPeople\", \"arguments\": ", people!(), "}\n</tool_call>")]),
    ("called-people", &[concat!("<tool_call>\n{\"name\": \"People\", \"arguments\": ", people!(), "}\n</tool_call>")]),
    // As a small model does that must call something.
    (
        "repeats",
        &[
            "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>\n\
            <tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>\n\
            <tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>",
            "It is sunny.",
        ],
    ),
    // Coding agents in a folder with a file `a.txt`, each by the names that it gives its tools.
    (
        "claude-code",
        &[
            "I will look first.\n<tool_call>\n{\"name\": \"Bash\", \"arguments\": {\"command\": \"cat a.txt\", \"description\": \"Shows the file\"}}\n</tool_call>",
            "<tool_call>\n{\"name\": \"Bash\", \"arguments\": {\"command\": \"sed -i s/fx/fox/ a.txt\", \"description\": \"Mends it\"}}\n</tool_call>",
            "<tool_call>\n{\"name\": \"Bash\", \"arguments\": {\"command\": \"cat a.txt\", \"description\": \"Shows it again\"}}\n</tool_call>",
            "Mended.",
        ],
    ),
    (
        "opencode",
        &[
            "I will look first.\n<tool_call>\n{\"name\": \"read\", \"arguments\": {\"filePath\": \"a.txt\"}}\n</tool_call>",
            "<tool_call>\n{\"name\": \"edit\", \"arguments\": {\"filePath\": \"a.txt\", \"oldString\": \"fx\", \"newString\": \"fox\"}}\n</tool_call>",
            "<tool_call>\n{\"name\": \"bash\", \"arguments\": {\"command\": \"cat a.txt\", \"description\": \"Shows it again\"}}\n</tool_call>",
            "Mended.",
        ],
    ),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scripted_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let of = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1)).cloned();
    let mut config = match of("--config") {
        Some(path) => Config::read(Path::new(&path))?,
        None => {
            Config { auth: false, store: ":memory:".into(), listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0), ..Config::default() }
        }
    };
    if let Some(store) = of("--store") {
        config.store = store.into();
    }
    let pace = of("--pace").map(|p| p.parse().map(Duration::from_millis).map_err(|e| format!("--pace: {e}"))).transpose()?;
    log(false);
    let mut server = Server::new(config)?;
    for &(name, lines) in SCRIPTS {
        server = server.scripted(name, move || paced(Scripted::saying(lines), pace));
    }
    let endless = "tick tock ".repeat(4096);
    server =
        server.scripted("endless", move || paced(Scripted::saying(&[&endless]).in_pieces(Pieces::Words), Some(Duration::from_millis(2))));
    server.run(|address| println!("listening on http://{address}"))
}

/// A piece every so often, as a model would.
fn paced(script: Scripted, pace: Option<Duration>) -> Scripted {
    match pace {
        Some(pace) => script.at_pace(Rc::new(move |_| Box::pin(tokio::time::sleep(pace)))),
        None => script,
    }
}
