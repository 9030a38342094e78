//! `cargo xtask test`: every suite, each thing built once, and a page at the end that says what ran and what could not.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::{cargo, command, on_path, repository, run};
use crate::setup;

/// How a suite ended.
enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

struct Suite {
    name: &'static str,
    run: fn(&Context) -> Result<Outcome, String>,
}

struct Context {
    full: bool,
    skips: PathBuf,
}

impl Context {
    /// What every test process is told: both software drivers, where to list skips, how far sweeps go.
    fn prepare(&self, command: &mut Command) {
        let drivers: Vec<&str> = setup::VULKAN_DRIVERS.into_iter().filter(|d| std::path::Path::new(d).exists()).collect();
        if !drivers.is_empty() {
            command.env("VK_ICD_FILENAMES", drivers.join(":"));
        }
        command.env("FIRECREST_SKIPS", &self.skips);
        if let Some(python) = setup::oracle_python() {
            command.env("FIRECREST_PYTHON", python);
        }
        if self.full {
            command.env("FIRECREST_FULL", "1").env("FIRECREST_FUZZ_EXECUTIONS", "1000000").env("FIRECREST_TOKENIZER_STRINGS", "100000");
        }
    }
}

const SUITES: &[Suite] = &[
    Suite { name: "fmt", run: formatted },
    Suite { name: "wasm32 borders", run: wasm_borders },
    Suite { name: "rust", run: rust },
    Suite { name: "clients", run: clients },
    Suite { name: "python clients", run: python_clients },
    Suite { name: "hostile", run: hostile },
    Suite { name: "page", run: page },
];

/// Runs the suites. Whether all passed; with `CI=true`, whether none was skipped either.
pub(crate) fn run_suites(full: bool, only: Option<&str>) -> Result<bool, String> {
    let ci = std::env::var("CI").as_deref() == Ok("true");
    let missing = setup::report(full)?;
    let skips = repository().join("target/skips.txt");
    // An old list would be read as this run's.
    let _ = std::fs::remove_file(&skips);
    let context = Context { full, skips };

    let mut rows: Vec<(&str, Outcome, Duration)> = Vec::new();
    for suite in SUITES.iter().filter(|s| only.is_none_or(|o| s.name.contains(o))) {
        println!("\n== {} ==", suite.name);
        let started = Instant::now();
        let outcome = (suite.run)(&context).unwrap_or_else(Outcome::Failed);
        rows.push((suite.name, outcome, started.elapsed()));
    }

    let mut skipped: Vec<String> = missing.into_iter().map(|m| format!("setup: {m}")).collect();
    let listed = std::fs::read_to_string(&context.skips).unwrap_or_default();
    let mut inner: Vec<&str> = listed.lines().collect();
    inner.sort_unstable();
    inner.dedup();
    skipped.extend(inner.into_iter().map(str::to_owned));

    println!("\n== summary ==");
    let (mut passed, mut failed) = (0, 0);
    for (name, outcome, took) in &rows {
        let seconds = took.as_secs();
        match outcome {
            Outcome::Passed => {
                passed += 1;
                println!("passed   {name} ({seconds} s)");
            }
            Outcome::Failed(why) => {
                failed += 1;
                println!("FAILED   {name} ({seconds} s): {why}");
            }
            Outcome::Skipped(why) => skipped.push(format!("SKIPPED {name}: {why}")),
        }
    }
    for line in &skipped {
        println!("{line}");
    }
    if ci && !skipped.is_empty() {
        failed += skipped.len();
        println!("CI=true makes each skip a failure");
    }
    println!("suites: {passed} passed, {failed} failed, {} skipped", skipped.len());
    Ok(failed == 0)
}

fn verdict(command: &mut Command, why: &str) -> Result<Outcome, String> {
    Ok(if run(command)? { Outcome::Passed } else { Outcome::Failed(why.into()) })
}

fn formatted(_: &Context) -> Result<Outcome, String> {
    verdict(&mut cargo(&["fmt", "--all", "--check"]), "run cargo fmt --all")
}

/// The rooms that browsers and the edge share compile for wasm32 in every combination of features that ships.
fn wasm_borders(_: &Context) -> Result<Outcome, String> {
    let rooms = ["shaders", "weights", "engine", "contract", "policy", "service"].map(|room| format!("firecrest-{room}"));
    let packages = rooms.iter().flat_map(|room| ["-p", room.as_str()]);
    let mut arguments = vec!["check", "--profile", "web", "--target", "wasm32-unknown-unknown"];
    arguments.extend(packages);
    verdict(&mut cargo(&arguments), "the rooms that browsers and the edge share must compile for wasm32")
}

fn rust(context: &Context) -> Result<Outcome, String> {
    let mut command = rust_tests();
    command.arg("--no-fail-fast");
    context.prepare(&mut command);
    verdict(&mut command, "see above")
}

/// One selection of packages and features, so that everything is built once.
fn rust_tests() -> Command {
    let mut command = cargo(&["test", "--release", "--workspace", "--exclude", "firecrest-web", "--exclude", "xtask"]);
    // A feature that nothing else here has: without it nobody would notice that docs/ fell behind the types.
    command.args(["--features", "firecrest-contract/schema"]);
    command
}

/// The clients that programs are written with, unmodified, against the server. They need Node 22, which npm brings.
fn clients(_: &Context) -> Result<Outcome, String> {
    if !on_path("npm") {
        return Ok(Outcome::Skipped("npm is not on the path".into()));
    }
    if !servers()? {
        return Ok(Outcome::Failed("the server does not build".into()));
    }
    // Not `npm ci`: opencode names packages for platforms that registries don't all have, and a lock file without them is refused. Versions are the
    // lock file's all the same, and the tests assert those of the clients.
    let mut install = command("npm", &["install", "--no-save", "--engine-strict=false", "--no-audit", "--no-fund"]);
    install.current_dir(repository().join("tests/clients"));
    if !run(&mut install)? {
        return Ok(Outcome::Failed("npm could not install the clients".into()));
    }
    let mut test = command("npm", &["test"]);
    test.current_dir(repository().join("tests/clients"));
    verdict(against_servers(&mut test), "see above")
}

/// The same in Python, and bodies that are wrong, and what docs/openapi.json says may be sent.
fn python_clients(context: &Context) -> Result<Outcome, String> {
    if !setup::makes_venvs() {
        return Ok(Outcome::Skipped("no python3 that can make environments: cargo xtask setup, or install Debian's python3-venv".into()));
    }
    if !servers()? {
        return Ok(Outcome::Failed("the server does not build".into()));
    }
    // instructor can't be installed beside what the others want: each folder has an environment of its own.
    const APART: &str = "tests/clients/python/instructor";
    for (environment, folder) in [("clients", "tests/clients/python"), ("instructor", APART)] {
        let Some(python) = setup::clients_python(environment, folder)? else {
            return Ok(Outcome::Failed("pip could not install the clients".into()));
        };
        let mut test = command(python, &["-m", "pytest", "-q", "-p", "no:cacheprovider", folder]);
        if folder != APART {
            test.args(["--ignore", APART]);
        }
        context.prepare(&mut test);
        test.env("HYPOTHESIS_STORAGE_DIRECTORY", repository().join("target/hypothesis"));
        if !run(against_servers(&mut test))? {
            return Ok(Outcome::Failed("see above".into()));
        }
    }
    Ok(Outcome::Passed)
}

/// Builds the servers that clients are tested against. Whether that succeeded.
fn servers() -> Result<bool, String> {
    run(rust_tests().arg("--no-run"))
}

/// Tells a suite of clients where they are.
fn against_servers(test: &mut Command) -> &mut Command {
    let built = repository().join("target/release");
    test.env("FIRECREST", built.join("firecrest")).env("FIRECREST_SCRIPTED", built.join("examples/scripted_server"))
}

/// Hostile bodies against a running server: 2,000, or 100,000 of them.
fn hostile(context: &Context) -> Result<Outcome, String> {
    if !on_path("python3") {
        return Ok(Outcome::Skipped("python3 is not on the path".into()));
    }
    if !servers()? {
        return Ok(Outcome::Failed("the server does not build".into()));
    }
    let firecrest = repository().join("target/release/firecrest");
    let mut test = command("python3", &["tests/hostile/run.py", "--cases", if context.full { "100000" } else { "2000" }]);
    test.current_dir(repository()).arg("--firecrest").arg(firecrest);
    context.prepare(&mut test);
    verdict(&mut test, "see above: it names the seed and the case")
}

/// A bare page in headless Chromium runs the engine on wasm CPU and on WebGPU.
fn page(context: &Context) -> Result<Outcome, String> {
    for (program, what) in [("node", "Node.js is not on the path"), ("chromium", "chromium is not on the path")] {
        if !on_path(program) {
            return Ok(Outcome::Skipped(what.into()));
        }
    }
    let Some(wasm_bindgen) = setup::wasm_bindgen() else {
        return Ok(Outcome::Skipped("wasm-bindgen is not installed: cargo xtask setup".into()));
    };
    let mut build = command("node", &["tests/web/build.mjs"]);
    build.env("WASM_BINDGEN", wasm_bindgen);
    if !run(&mut build)? {
        return Ok(Outcome::Failed("the web build failed".into()));
    }
    let mut test = command("node", &["tests/web/run.mjs"]);
    context.prepare(&mut test);
    verdict(&mut test, "see above")
}
